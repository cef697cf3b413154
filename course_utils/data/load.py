"""Choose the pictures the course trains on, say in one line which they are, and hand them out."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .cifar10 import PictureSet, Split, read_official
from .download import MIRRORS, DownloadError
from .folder import contents, data_folder
from .pictures import decode, in_turn, list_pictures
from .standin import make_standin

REAL, FOLDER, STANDIN = "CIFAR-10", "pictures from a folder", "STAND-IN pictures (generated)"  # .source


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
    chosen = [_some(split, size) for split, size in zip(found, sizes, strict=True)]
    counts = [
        f"{len(some):,}" if len(some) == len(all_) else f"{len(some):,} of {len(all_):,}"
        for (_, some), (_, all_) in zip(chosen, found, strict=True)
    ]
    if source == FOLDER:
        chosen = [(decode(files), labels) for files, labels in chosen]
    # it names no path, so it is the same on every machine
    print(f"Data: {source}, {counts[0]} for training and {counts[1]} for testing{reason}.")
    train, test = (
        PictureSet(*split, source=source, train=is_train, transform=transform)
        for split, is_train in zip(chosen, (True, False), strict=True)
    )
    return train, test


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
