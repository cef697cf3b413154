"""A folder of pictures, `train/<class>/*` and `test/<class>/*`, for a class room without internet."""

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .official import Split
from .standin import CLASSES

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_SIZE = (32, 32)


def has_pictures(folder: Path) -> bool:
    """Say whether this looks like a folder of pictures."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def read_pictures(folder: Path) -> tuple[Split, Split]:
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
    train, test = (_read_split(split, *found) for split, found in zip(splits, listed, strict=True))
    return train, test


def _list_pictures(split: Path) -> tuple[list[Path], list[int]]:
    """Return the picture files, the classes in turn, and their labels."""
    folders = {entry.name.lower(): entry for entry in split.glob("[!._]*/")}
    if missing := [name for name in CLASSES if name not in folders]:
        raise ValueError(f"In '{split}' there is no folder for: {', '.join(missing)}.")
    if unknown := sorted(folders.keys() - set(CLASSES)):
        raise ValueError(f"In '{split}' these folders are not CIFAR-10 classes: {', '.join(unknown)}.")
    pictures = []  # (how-manieth of its class, label, file)
    for label, name in enumerate(CLASSES):
        found = sorted(file for file in folders[name].iterdir() if file.suffix.lower() in _ENDINGS)
        if not found:
            raise ValueError(f"In '{folders[name]}' there is no picture ({', '.join(sorted(_ENDINGS))}).")
        pictures += [(turn, label, file) for turn, file in enumerate(found)]
    pictures.sort()
    return [file for _, _, file in pictures], [label for _, label, _ in pictures]


def _read_split(split: Path, files: list[Path], labels: list[int]) -> Split:
    """Return the pixels from the cache, where that is of these very files, or else from the files."""
    cache = split.with_suffix(".npz")
    key = _fingerprint(files)
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["key"]) == key:
                return kept["data"], labels
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
    return data, labels


def _fingerprint(files: list[Path]) -> str:
    """Return a text that changes when a picture is added, removed or changed."""
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file.parent.name}/{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _decode(split: Path, files: list[Path]) -> np.ndarray:
    """Decode the files in threads: uint8 (n, 32, 32, 3)."""
    data = np.empty((len(files), 32, 32, 3), np.uint8)
    damaged, resized = [], 0
    with ThreadPoolExecutor() as pool:
        decoded = tqdm(pool.map(_decode_one, files), f"{split.name} pictures", len(files), leave=False)
        for row, picture in enumerate(decoded):
            if picture is None:
                damaged.append(files[row].relative_to(split.parent).as_posix())
            else:
                data[row], other_size = picture
                resized += other_size
    if damaged:
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        raise ValueError(f"Damaged pictures, replace or delete them: {', '.join(damaged[:5])}{more}.")
    if resized:
        print(f"Note: resized to 32 x 32 pixels: {resized:,} of the {split.name} pictures.")
    return data


def _decode_one(file: Path) -> tuple[np.ndarray, bool] | None:
    """Return the pixels (32, 32, 3) and whether the picture had another size, or None if it is damaged."""
    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
            return np.asarray(picture.resize(_SIZE)), picture.size != _SIZE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
