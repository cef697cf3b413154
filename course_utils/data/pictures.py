"""A folder of pictures, `train/<class>/*` and `test/<class>/*`, for a class room without internet."""

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from .standin import CLASSES

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_SIZE = (32, 32)
Item = TypeVar("Item")


def in_turn(groups: list[list[Item]]) -> list[Item]:
    """Return the first item of each group, then the second of each, and so on to the end of the longest."""
    return [item for turn in zip_longest(*groups) for item in turn if item is not None]


def read_pictures(folder: Path) -> list[tuple[np.ndarray, list[int]]]:
    """Read a folder of pictures; keep the pixels in `train.npz` and `test.npz` beside them for the next time.

    Pictures of another size are resized to 32 x 32, and a line says so. The classes take turns in the result.

    Args:
        folder: holds `train` and `test`, each with one folder for each of CIFAR-10's ten class names.

    Returns:
        Training and test set: uint8 pictures (n, 32, 32, 3), and their labels 0 to 9 in CIFAR-10's order.

    Raises:
        ValueError: a folder is missing, unknown or empty, or pictures are damaged; the message names them.
    """
    splits = folder / "train", folder / "test"
    listed = [_list_pictures(split) for split in splits]  # find the mistakes in both before the work
    return [
        (_read_split(split, [file for file, _ in pictures]), [label for _, label in pictures])
        for split, pictures in zip(splits, listed, strict=True)
    ]


def _list_pictures(split: Path) -> list[tuple[Path, int]]:
    """Return the picture files and their labels, the classes in turn."""
    folders = {entry.name.lower(): entry for entry in split.glob("[!._]*/")}
    if missing := [name for name in CLASSES if name not in folders]:
        raise ValueError(f"In '{split}' there is no folder for: {', '.join(missing)}.")
    if unknown := sorted(folders.keys() - set(CLASSES)):
        raise ValueError(f"In '{split}' these folders are not CIFAR-10 classes: {', '.join(unknown)}.")
    classes = []
    for label, name in enumerate(CLASSES):
        found = sorted(file for file in folders[name].iterdir() if file.suffix.lower() in _ENDINGS)
        if not found:
            raise ValueError(f"In '{folders[name]}' there is no picture ({', '.join(sorted(_ENDINGS))}).")
        classes.append([(file, label) for file in found])
    return in_turn(classes)


def _read_split(split: Path, files: list[Path]) -> np.ndarray:
    """Return the pixels from the cache, where that is of these very files, or else from the files."""
    cache = split.with_suffix(".npz")
    status = [(file.parent.name, file.name, file.stat()) for file in files]
    seen = repr([(folder, name, its.st_size, its.st_mtime_ns) for folder, name, its in status])
    key = hashlib.sha256(seen.encode()).hexdigest()
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["key"]) == key:
                return kept["data"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # no cache, or a broken one: read the pictures again
    data = _decode(split, files)
    try:
        part = cache.with_suffix(".npz.part")
        with part.open("wb") as file:
            np.savez(file, data=data, key=key)
        part.replace(cache)
    except OSError:
        print("Note: the folder of pictures cannot be written, so they are read one by one every time.")
    return data


def _decode(split: Path, files: list[Path]) -> np.ndarray:
    """Decode the files in threads: uint8 (n, 32, 32, 3)."""
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(_decode_one, files)
        pictures = list(tqdm(decoded, f"{split.name} pictures", len(files), leave=False))
    damaged = [
        file.relative_to(split.parent).as_posix()
        for file, picture in zip(files, pictures, strict=True)
        if picture is None
    ]
    if damaged:
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        raise ValueError(f"Damaged pictures, replace or delete them: {', '.join(damaged[:5])}{more}.")
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
