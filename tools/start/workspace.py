"""The reader's own copies of the lessons, in `work/`: learning changes no file of the course.

A copy is renewed when the course has a newer lesson, unless its reader has edited it: then it stays, and the
newer lesson lies beside it as NAME-new.ipynb. To run a lesson is no edit, to change a cell is one. A copy
that was deleted is made again. Standard library only.
"""

from itertools import chain, count
from pathlib import Path

from course_utils.data.files import Given, fingerprint, write
from course_utils.exercises.progress import PROGRESS
from course_utils.lessons import ROOT, CourseError, lesson_paths

FOLDER = "work"


def refresh(root: Path = ROOT) -> list[str]:
    """Make, renew or keep the copy of each lesson, and of the slides' style; return what to tell the reader.

    Raises CourseError where the folder cannot be written to.
    """
    folder = root / FOLDER
    try:
        news = [] if folder.is_dir() else [f"The lessons lie in {folder}: copies that are yours to change."]
        folder.mkdir(exist_ok=True)
        with Given(folder) as given:
            for source in [*lesson_paths(root), *(root / "notebooks").glob("*.css")]:
                news += _bring(source, folder, given.known)
        solved = root / "notebooks" / PROGRESS
        if solved.is_file() and not (folder / PROGRESS).exists():
            write(folder / PROGRESS, solved.read_bytes())
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
