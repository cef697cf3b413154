"""A folder of pictures, `train/<class>/*` and `test/<class>/*`, for a class room without internet."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from .standin import CLASSES

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_SIZE = (32, 32)


def in_turn(groups: list[list[Any]]) -> list[Any]:
    """Return the first item of each group, then the second of each, and so on to the end of the longest."""
    return [item for turn in zip_longest(*groups) for item in turn if item is not None]


def list_pictures(split: Path) -> tuple[np.ndarray, list[int]]:
    """Return the picture files, an array of n paths, and their labels 0 to 9; the classes take turns.

    Args:
        split: holds one folder for each of CIFAR-10's ten class names.

    Raises:
        ValueError: a folder is missing, unknown or without pictures; the message names it.
    """
    folders = {entry.name.lower(): entry for entry in split.glob("[!._]*/")}
    if missing := [name for name in CLASSES if name not in folders]:
        raise ValueError(f"In '{split}' there is no folder for: {', '.join(missing)}.")
    if unknown := sorted(folders.keys() - set(CLASSES)):
        raise ValueError(f"In '{split}' these folders are not CIFAR-10 classes: {', '.join(unknown)}.")
    classes = []
    for label, name in enumerate(CLASSES):
        found = sorted(file for file in folders[name].glob("[!.]*") if file.suffix.lower() in _ENDINGS)
        if not found:
            raise ValueError(f"In '{folders[name]}' there is no picture ({', '.join(sorted(_ENDINGS))}).")
        classes.append([(file, label) for file in found])
    files, labels = zip(*in_turn(classes), strict=True)
    return np.array(files, dtype=object), list(labels)


def decode(files: np.ndarray) -> np.ndarray:
    """Read the pictures of one split in threads, and return their pixels: uint8 (n, 32, 32, 3).

    Pictures of another size are resized to 32 x 32, and a line says so.

    Raises:
        ValueError: pictures are damaged; the message names them.
    """
    split = files[0].parent.parent
    # plain text, because notebook widgets fail in too many set-ups
    pictures = thread_map(_decode_one, files, tqdm_class=tqdm, desc=f"{split.name} pictures", leave=False)
    damaged = [file for file, picture in zip(files, pictures, strict=True) if picture is None]
    if damaged:
        named = ", ".join(file.relative_to(split.parent).as_posix() for file in damaged[:5])
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        raise ValueError(f"Damaged pictures, replace or delete them: {named}{more}.")
    if resized := sum(other_size for _, other_size in pictures):
        print(f"Note: resized to 32 x 32 pixels: {resized:,} of the {split.name} pictures.")
    return np.stack([pixels for pixels, _ in pictures])


def _decode_one(file: Path) -> tuple[np.ndarray, bool] | None:
    """Return the pixels (32, 32, 3) and whether the picture had another size, or None if it is damaged."""
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
            return np.asarray(picture.resize(_SIZE)), picture.size != _SIZE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
