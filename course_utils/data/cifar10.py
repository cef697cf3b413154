"""torchvision's CIFAR10: its official files fetched where they are missing, and the same of any pictures."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .download import fetch_archive
from .folder import ARCHIVE, BATCHES
from .standin import CLASSES

try:
    from torchvision.datasets import CIFAR10, VisionDataset
    from torchvision.datasets.utils import extract_archive
except (ImportError, RuntimeError, AttributeError) as error:
    # "operator torchvision::nms does not exist": https://github.com/pytorch/pytorch/issues/157648
    raise ImportError(
        f"torchvision cannot be loaded ({error}). torch and torchvision have to be built for each other: "
        "install both in one pip command, from the same --index-url, then restart the kernel."
    ) from None

Split = tuple[np.ndarray, list[int]]


class PictureSet(CIFAR10):
    """A `torchvision.datasets.CIFAR10` of any pictures, which need not lie in files.

    Attributes:
        data: uint8 array of shape (n, 32, 32, 3), red, green, blue from 0 to 255.
        targets: list of n labels, 0 to 9.
        source: where the pictures come from, for the titles of plots.
        train: whether these are the training pictures.
    """

    def __init__(
        self, data: np.ndarray, targets: list[int], *, source: str, train: bool, **transforms: Any
    ) -> None:
        VisionDataset.__init__(self, **transforms)  # not CIFAR10's, which reads the official files
        self.data, self.targets, self.source, self.train = data, targets, source, train
        self.classes = list(CLASSES)
        self.class_to_idx = {name: label for label, name in enumerate(CLASSES)}

    def extra_repr(self) -> str:
        """Return the lines that `print(dataset)` adds."""
        return f"{super().extra_repr()}\nSource: {self.source}"


def read_official(folder: Path, mirrors: Sequence[str]) -> list[Split]:
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
        return _read(folder)
    except RuntimeError:  # torchvision: a file is missing or has another MD5
        pass
    if mirrors and not (folder / ARCHIVE).exists():
        print("CIFAR-10 is not in the data folder, or not whole: downloading 170 MB, once.")
    archive = fetch_archive(folder, mirrors=mirrors)
    with tempfile.TemporaryDirectory(dir=folder, prefix="unpacking-") as scratch:
        extract_archive(archive, scratch)
        (folder / BATCHES).mkdir(exist_ok=True)
        for file in Path(scratch, BATCHES).iterdir():
            file.replace(folder / BATCHES / file.name)  # in one step: nobody sees half a file
    return _read(folder)


def _read(folder: Path) -> list[Split]:
    with warnings.catch_warnings():
        # NumPy 2.4.0 to 2.4.4 dislike the old pickles: https://github.com/pytorch/vision/issues/9340
        warnings.filterwarnings(
            "ignore", r"dtype\(\): align should be passed", np.exceptions.VisibleDeprecationWarning
        )
        sets = [CIFAR10(folder, train=train) for train in (True, False)]
    return [(np.ascontiguousarray(pictures.data), pictures.targets) for pictures in sets]
