"""Where the pictures are looked for, and what lies there. Standard library only: the doctor asks, too."""

import os
from pathlib import Path

from course_utils.lessons import ROOT

ARCHIVE = "cifar-10-python.tar.gz"
BATCHES = "cifar-10-batches-py"  # the folder inside the archive
BATCH_FILES = ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6)))
_BATCH_BYTES = 31_000_000  # every batch is a little larger


def data_folder(folder: str | os.PathLike[str] | None = None, root: Path = ROOT) -> Path | None:
    """Return where pictures are looked for; None where the stand-in is asked for.

    Args:
        folder: a folder, or "standin". None: the environment variable COURSE_DATA, or else `data` in the
            course's own folder, or else a folder in the user's cache.
        root: the course's own folder, where it is a clone.

    Raises:
        FileNotFoundError: `folder` or COURSE_DATA names a folder that does not exist.
    """
    named = os.environ.get("COURSE_DATA", "") if folder is None else os.fspath(folder)
    if named == "standin":
        return None
    path = Path(os.path.expanduser(named)) if named else _default_folder(root)
    if named and not path.is_dir():
        asker = "COURSE_DATA" if folder is None else "folder"
        raise FileNotFoundError(
            f"{asker} names a folder that does not exist: '{path}'. Correct or create it."
        )
    return path.parent if path.name == BATCHES else path


def _default_folder(root: Path) -> Path:
    """Return `data` in the course's folder if this package lies in one, else a folder in the user's cache."""
    if (root / "notebooks").is_dir() and (root / "pyproject.toml").is_file():
        return root / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytorch-gpu-course"


def contents(folder: Path) -> str:
    """Name what a data folder holds, official files before pictures: a quick look, no check of every byte.

    Returns:
        "official", "archive" (the official files, packed), "incomplete" (some of them), "pictures" (in
        `train/<class>` and `test/<class>`) or "none".
    """
    sizes = {file.name: file.stat().st_size for file in (folder / BATCHES).glob("*")}
    if sizes.get("batches.meta") and all(sizes.get(name, 0) > _BATCH_BYTES for name in BATCH_FILES[1:]):
        return "official"
    if (folder / ARCHIVE).is_file():
        return "archive"
    if (folder / BATCHES).is_dir():
        return "incomplete"
    return "pictures" if (folder / "train").is_dir() or (folder / "test").is_dir() else "none"
