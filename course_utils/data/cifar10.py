"""`load_cifar10`: choose the pictures the course trains on, say which they are, and hand them out."""

import os
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

try:
    from torchvision.datasets import CIFAR10, VisionDataset
except (ImportError, RuntimeError, AttributeError) as error:
    # "operator torchvision::nms does not exist": https://github.com/pytorch/pytorch/issues/157648
    raise ImportError(
        f"torchvision cannot be loaded ({error}). torch and torchvision have to be built for each other: "
        "install both in one pip command, from the same --index-url, then restart the kernel."
    ) from None

from course_utils.data.files import write

from .download import MIRRORS, DownloadError, fetch_archive
from .folder import ARCHIVE, BATCH_FILES, BATCHES, contents, data_folder
from .pictures import decode, in_turn, list_pictures
from .standin import CLASSES, make_standin

REAL, FOLDER, STANDIN = "CIFAR-10", "pictures from a folder", "STAND-IN pictures (generated)"  # .source
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
    with suppress(RuntimeError):  # torchvision: a file is missing or has another MD5
        return _read(folder)
    if mirrors and not (folder / ARCHIVE).exists():
        print("CIFAR-10 is not in the data folder, or not whole: downloading 170 MB, once.")
    unpack(fetch_archive(folder, mirrors), folder)
    return _read(folder)


def unpack(archive: Path, folder: Path) -> None:
    """Write the official files of an archive into a folder, and nothing else that may be in it."""
    (folder / BATCHES).mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        for name in BATCH_FILES:
            write(folder / BATCHES / name, tar.extractfile(f"{BATCHES}/{name}").read())


def _read(folder: Path) -> list[Split]:
    sets = [CIFAR10(folder, train=train) for train in (True, False)]
    return [(np.ascontiguousarray(pictures.data), pictures.targets) for pictures in sets]


def load_cifar10(
    transform: Callable[[Any], Any] | None = None,
    *,
    train_size: int | None = None,
    test_size: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> tuple[PictureSet, PictureSet]:
    """Return CIFAR-10's training and test set, or the best there is in its place, and print which it is.

    In this order: the official files, or pictures as `train/<class>/*` and `test/<class>/*`, in the data
    folder; the official files from the internet; 10,000 training and 2,000 test pictures drawn as a stand-in.

    Args:
        transform: applied to each picture (a PIL image) when it is asked for, such as `ToTensor()`.
        train_size: at most so many training pictures, the same ones each time, each class alike. None: all.
        test_size: the same for the test pictures.
        folder: the data folder, or "standin" for the stand-in. None: the environment variable COURSE_DATA, or
            else `data` in the course's own folder, or else a folder in the user's cache.
        download: whether the network may be used.

    Returns:
        The training and the test set, with `torchvision.datasets.CIFAR10`'s interface: `.data` uint8
        (n, 32, 32, 3), `.targets`, `.classes`, `.class_to_idx`; and `.source` for the titles of plots.

    Raises:
        ValueError: a size below 1, or a faulty folder of pictures.
        FileNotFoundError: `folder` or COURSE_DATA names a folder that does not exist.
    """
    sizes = train_size, test_size
    if any(size is not None and size < 1 for size in sizes):
        raise ValueError("train_size and test_size must be at least 1, or None for all.")
    source, found, reason = _find(folder, download, sizes)
    sets, counts = [], []
    for split, size, train in zip(found, sizes, (True, False), strict=True):
        data, targets = _some(split, size)
        some, everything = len(targets), len(split[1])
        counts.append(f"{some:,}" if some == everything else f"{some:,} of {everything:,}")
        data = decode(data) if source == FOLDER else data
        sets.append(PictureSet(data, targets, source=source, train=train, transform=transform))
    # no path, so the line is the same on every machine
    print(f"Data: {source}, {counts[0]} for training and {counts[1]} for testing{reason}.")
    return sets[0], sets[1]


def _find(
    folder: str | os.PathLike[str] | None, download: bool, sizes: tuple[int | None, int | None]
) -> tuple[str, list[Split], str]:
    """Return the pictures' source, the training and the test set, and why these are drawn where they are.

    From a folder come files in place of pictures: only those that are asked for are read.
    """
    path = data_folder(folder)
    if path is None:
        reason = f"{'COURSE_DATA' if folder is None else 'folder'}=standin asks for them"
    elif contents(path) == "pictures":
        return FOLDER, [list_pictures(path / split) for split in ("train", "test")], ""
    else:
        try:
            return REAL, read_official(path, MIRRORS if download else ()), ""
        except DownloadError as error:
            reason = f"the real ones are not here: {error}"
        except OSError as error:
            reason = f"the real ones are not here: the data folder cannot be used ({error.strerror})"
    return STANDIN, [make_standin(True, sizes[0]), make_standin(False, sizes[1])], f"; {reason}"


def _some(split: Split, size: int | None) -> Split:
    """Return the first pictures of each class in their old order, as many of each class, `size` in all."""
    data, targets = split
    if size is None or size >= len(targets):
        return split
    labels = np.array(targets)
    rows = sorted(in_turn([np.flatnonzero(labels == label).tolist() for label in range(10)])[:size])
    return data[rows], labels[rows].tolist()
