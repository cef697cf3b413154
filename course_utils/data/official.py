"""The official CIFAR-10 files: fetch what is missing, unpack it safely, read it with torchvision."""

import tarfile
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .download import ARCHIVE, fetch_archive
from .picture_set import CIFAR10

BATCHES = "cifar-10-batches-py"  # the folder inside the archive
Split = tuple[np.ndarray, list[int]]


def is_official(folder: Path) -> bool:
    """Say whether the official files, unpacked or not, whole or not, are in this folder."""
    return (folder / BATCHES).is_dir() or (folder / ARCHIVE).is_file()


def read_official(folder: Path, mirrors: Sequence[str]) -> tuple[Split, Split]:
    """Read CIFAR-10; unpack the archive and download it where that is needed.

    Args:
        folder: the folder that holds, or is to hold, `cifar-10-batches-py`.
        mirrors: where to download from; none means not to.

    Returns:
        Training and test set: uint8 pictures (50000 or 10000, 32, 32, 3), and their labels 0 to 9.

    Raises:
        DownloadError: something is missing or damaged, and could not be downloaded.
        OSError: the folder cannot be written, or the disk is full.
    """
    try:
        return _read(folder, train=True), _read(folder, train=False)
    except RuntimeError:  # torchvision: a file is missing or has another MD5
        pass
    if mirrors and not (folder / ARCHIVE).exists():
        print("CIFAR-10 is not in the data folder, or not whole: downloading 170 MB, once.")
    _unpack(fetch_archive(folder, mirrors=mirrors), folder)
    return _read(folder, train=True), _read(folder, train=False)


def _read(folder: Path, train: bool) -> Split:
    with warnings.catch_warnings():
        # NumPy 2.4.0 to 2.4.4 dislike the old pickles: https://github.com/pytorch/vision/issues/9340
        warnings.filterwarnings(
            "ignore", r"dtype\(\): align should be passed", np.exceptions.VisibleDeprecationWarning
        )
        official = CIFAR10(folder, train=train)
    return np.ascontiguousarray(official.data), official.targets


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside the goal, then move each file in one step, so that nobody sees half a file."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="unpacking-") as scratch:
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
            tar.extractall(scratch)
        (folder / BATCHES).mkdir(exist_ok=True)
        for file in (Path(scratch) / BATCHES).iterdir():
            file.replace(folder / BATCHES / file.name)
