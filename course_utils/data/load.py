"""Choose the pictures the course trains on, say in one line which they are, and hand them out."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .download import MIRRORS, DownloadError
from .official import BATCHES, Split, is_official, read_official
from .picture_set import PictureSet
from .pictures import has_pictures, read_pictures
from .standin import make_standin

REAL, FOLDER, STANDIN = "CIFAR-10", "pictures from a folder", "STAND-IN pictures (generated)"  # .source


class _Found(NamedTuple):
    """The pictures, and why they are not CIFAR-10 where they are not."""

    source: str
    train: Split
    test: Split
    reason: str = ""


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
    if any(size is not None and size < 1 for size in (train_size, test_size)):
        raise ValueError("train_size and test_size must be at least 1, or None for all.")
    found = _find(folder, download, train_size, test_size)
    train, test = _some(found.train, train_size), _some(found.test, test_size)
    print(_announcement(found, len(train[1]), len(test[1])))
    options = {"source": found.source, "transform": transform}
    return PictureSet(*train, train=True, **options), PictureSet(*test, train=False, **options)


def _find(
    folder: str | os.PathLike[str] | None, download: bool, train_size: int | None, test_size: int | None
) -> _Found:
    """Read the pictures that the arguments and the environment ask for."""
    path = data_folder(folder)
    reason = f"{_asker(folder)}=standin asks for them"
    if path is not None:
        try:
            return _read(path, download)
        except DownloadError as error:
            reason = f"the real ones are not here: {error}"
    return _Found(STANDIN, make_standin(True, train_size), make_standin(False, test_size), reason)


def _read(path: Path, download: bool) -> _Found:
    """Read real pictures from a folder, or raise DownloadError."""
    if has_pictures(path) and not is_official(path):
        return _Found(FOLDER, *read_pictures(path))
    try:
        return _Found(REAL, *read_official(path, MIRRORS if download else ()))
    except OSError as error:
        raise DownloadError(f"the data folder cannot be used ({error.strerror})") from error


def _some(split: Split, size: int | None) -> Split:
    """Return the first pictures of each class in their old order, as many of each class, `size` in all."""
    data, targets = split
    if size is None or size >= len(targets):
        return split
    labels = np.array(targets)
    turns = np.empty(len(labels), np.int64)  # the how-manieth of its class each picture is
    for label in range(10):
        turns[labels == label] = np.arange(np.count_nonzero(labels == label))
    rows = np.sort(np.lexsort((labels, turns))[:size])
    return data[rows], labels[rows].tolist()


def _announcement(found: _Found, train: int, test: int) -> str:
    """Return the printed line; it names no path, so it is the same on every machine."""
    counts = [
        f"{n:,}" if n == len(targets) else f"{n:,} of {len(targets):,}"
        for n, (_, targets) in ((train, found.train), (test, found.test))
    ]
    reason = f"; {found.reason}" if found.reason else ""
    return f"Data: {found.source}, {counts[0]} for training and {counts[1]} for testing{reason}."


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Return where `load_cifar10` looks for pictures; None where the stand-in is asked for.

    Raises:
        FileNotFoundError: `folder` or COURSE_DATA names a folder that does not exist.
    """
    named = os.environ.get("COURSE_DATA", "") if folder is None else os.fspath(folder)
    if named == "standin":
        return None
    path = Path(named).expanduser() if named else _default_folder()
    if named and not path.is_dir():
        raise FileNotFoundError(
            f"{_asker(folder)} names a folder that does not exist: '{path}'. Correct or create it."
        )
    return path.parent if path.name == BATCHES else path


def _asker(folder: object) -> str:
    return "COURSE_DATA" if folder is None else "folder"


def _default_folder() -> Path:
    """Return `data` in the course's folder if this package lies in one, else a folder in the user's cache."""
    course = Path(__file__).resolve().parents[2]
    if (course / "notebooks").is_dir() and (course / "pyproject.toml").is_file():
        return course / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytorch-gpu-course"
