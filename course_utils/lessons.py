"""Which lessons there are, and which of them a name means. Standard library only."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "py" if sys.platform == "win32" else "python3"  # what one types in a terminal


class CourseError(Exception):
    """Something the reader can put right; the message is one line: what happened and what to do."""


def lesson_paths(root: Path = ROOT) -> list[Path]:
    """The lessons' notebooks in course order (that of their names)."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def executed(lesson: Path) -> Path:
    """The same lesson with what a run prints on a machine without GPUs, written by tools/authors."""
    return lesson.parent / "executed" / lesson.name


def with_results(lesson: Path) -> Path:
    """That file where there is one; else the lesson itself, which may have outputs of its own."""
    return executed(lesson) if executed(lesson).is_file() else lesson


def choose(names: list[str], root: Path = ROOT) -> list[Path]:
    """The lessons `names` mean, in course order; all of them where `names` is empty.

    A name is a lesson's name, its number (`4` or `04`), the beginning of its name, or its path.
    Raises CourseError for a name that means no lesson.
    """
    lessons = lesson_paths(root)
    wanted = [] if names else lessons
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        beginning = stem.zfill(2) if stem.isdecimal() else stem
        found = [path for path in lessons if beginning and path.stem.startswith(beginning)]
        found = [path for path in found if path.stem == stem] or found
        if not found:
            known = ", ".join(path.stem for path in lessons) or "none, the folder notebooks is empty"
            raise CourseError(f"no lesson {name!r}. The lessons: {known}")
        wanted += found
    return [path for path in lessons if path in wanted]
