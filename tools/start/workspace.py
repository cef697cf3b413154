"""The reader's own copies of the lessons, in `work/`: learning changes no file of the course.

A copy is renewed when the course has a newer lesson, unless its reader has edited it: then it stays, and the
newer lesson lies beside it as NAME-new.ipynb. To run a lesson is no edit, to change a cell is one. A copy
that was deleted is made again. Standard library only.
"""

import hashlib
import json
from itertools import chain, count
from pathlib import Path

from course_utils.exercises.progress import PROGRESS, write
from course_utils.lessons import ROOT, CourseError, lesson_paths

FOLDER = "work"
RECORD = ".given.json"  # in that folder: what each copy was like when it was made


def refresh(root: Path = ROOT) -> list[str]:
    """Make, renew or keep the copy of each lesson, and of the slides' style; return what to tell the reader.

    Raises CourseError where the folder cannot be written to.
    """
    folder = root / FOLDER
    try:
        news = [] if folder.is_dir() else [f"The lessons lie in {folder}: copies that are yours to change."]
        folder.mkdir(exist_ok=True)
        given = _recorded(folder / RECORD)
        for source in [*lesson_paths(root), *(root / "notebooks").glob("*.css")]:
            news += _bring(source, folder, given)
        solved = root / "notebooks" / PROGRESS
        if solved.is_file() and not (folder / PROGRESS).exists():
            write(folder / PROGRESS, solved.read_bytes())
        write(folder / RECORD, json.dumps(given, indent=1).encode())
    except OSError as error:
        raise CourseError(
            f"{error.filename or folder} cannot be used ({error.strerror}). Lessons are learned in copies in "
            f"{folder}: make room for it there, or move the course to a folder of your own"
        ) from None
    return news


def _bring(source: Path, folder: Path, given: dict[str, str]) -> list[str]:
    """See to it that a lesson as it is now lies in `folder`; say so where that is not under its own name."""
    newest = source.read_bytes()
    wanted = fingerprint(newest)
    stems = chain([source.stem, f"{source.stem}-new"], (f"{source.stem}-new-{number}" for number in count(2)))
    for target in (folder / f"{stem}{source.suffix}" for stem in stems):
        found = fingerprint(target.read_bytes()) if target.exists() else ""
        known = given.get(target.name)
        if found in ("", wanted, known):  # its reader has changed nothing
            break
        if known == wanted:  # a changed copy of this very lesson
            return []
    given[target.name] = wanted
    if found == wanted:
        return []
    write(target, newest)
    beside = target.name != source.name
    return [f"{folder.name}/{source.name} has changes of yours and stays. Newer: {target.name}"] * beside


def fingerprint(content: bytes) -> str:
    """What a reader can edit of a file: of a notebook the kinds and texts of its cells, else every byte."""
    try:
        cells = json.loads(content)["cells"]
        content = json.dumps([(cell["cell_type"], "".join(cell["source"])) for cell in cells]).encode()
    except (ValueError, LookupError, TypeError):
        pass  # no notebook, or one that its reader has broken
    return hashlib.sha256(content).hexdigest()


def _recorded(file: Path) -> dict[str, str]:
    """What was given, by name; nothing where no readable record is left, and then a copy counts as edited."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return {}
