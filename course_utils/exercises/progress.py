"""What the reader has done, in a small file in the folder of the lessons: `work`, as a rule.

Where there is no place for a file (Colab, a folder that cannot be written) it lives in this session, and that
is said once. COURSE_PROGRESS names another file, or is "off".
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from course_utils.data.files import alone, write
from course_utils.machine.environment import in_colab

from .showing import Page, show

PROGRESS = "progress.json"  # in the folder of the lessons
_session: dict[str, set[str]] = {}
_told = False
_news = ""


def _tell(text: str) -> None:
    """Have something said with the next line of progress, once in a session."""
    global _told, _news
    if not _told:
        _told, _news = True, f" {text}"


def _known() -> tuple[Path | None, dict[str, set[str]]]:
    """Return the file if there is a place for it, and what is done by lesson, in it and in this session."""
    known = {lesson: set(names) for lesson, names in _session.items()}
    named = os.environ.get("COURSE_PROGRESS", "")
    if in_colab() and not named:
        named = "off"
        _tell("In Colab, progress is kept for this session only.")
    if named == "off":
        return None, known
    path = Path(named or PROGRESS).absolute()
    try:
        if path.exists() and not path.is_file():  # such as a device, which may have no end
            raise OSError
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for lesson, names in stored.items():
            if isinstance(names, str):
                raise TypeError
            known.setdefault(lesson, set()).update(map(str, names))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        _tell(f"{path.name} is damaged and is left as it is. Delete it to begin a new one.")
        return None, known
    return path, known


def done(lesson: str, name: str) -> None:
    """Note that an exercise is solved."""
    _session.setdefault(lesson, set()).add(name)
    path, _ = _known()
    if path is None:
        return
    try:
        with alone(path.with_name(f".{path.name}.lock"), seconds=2):  # another notebook may write, too
            listed = {key: sorted(names) for key, names in sorted(_known()[1].items())}
            write(path, f"{json.dumps(listed, indent=1)}\n")
    except OSError as error:
        _tell(f"{path.name} cannot be written ({error.strerror}). Progress is kept for this session only.")


def line(lesson: str, names: Sequence[str]) -> str:
    """Say how much of a lesson is done, of the exercises with these names."""
    global _news
    known = _known()[1].get(lesson, set())
    count = sum(name in known for name in names)
    news, _news = _news, ""
    return f"Lesson {lesson}: {count} of {len(names)} done{', all' * (count == len(names))}.{news}"


def summary(lesson: str, names: Sequence[str]) -> None:
    """Show which exercises of a lesson are done."""
    known = _known()[1].get(lesson, set())
    rows = [f"[{'x' if name in known else ' '}] {name}" for name in names]
    show(Page(line(lesson, names), [], code="\n".join(rows)))
