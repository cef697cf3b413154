"""What the reader has done, in a small file in the folder of the lessons: `work`, as a rule.

Where there is no place for a file (Colab, a folder that cannot be written) it lives in this session, and that
is said once. COURSE_PROGRESS names another file, or is "off".
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from course_utils.machine.environment import in_colab

from .showing import Page, show

PROGRESS = "progress.json"  # in the folder of the lessons
_session: dict[str, set[str]] = {}
_told = False
_news = ""


def _path() -> Path | None:
    """Return the file, None where progress lives in the session only."""
    named = os.environ.get("COURSE_PROGRESS", "")
    if named:
        return None if named == "off" else Path(named)
    return None if in_colab() else Path.cwd() / PROGRESS


def _tell(text: str) -> None:
    """Have something said with the next line of progress, once in a session."""
    global _told, _news
    if not _told:
        _told, _news = True, f" {text}"


def _stored(path: Path) -> dict[str, set[str]] | None:
    """Return what the file says; None, and a word about it, if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {lesson: set(map(str, names)) for lesson, names in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError):
        _tell(f"{path.name} is damaged and is left as it is. Delete it to begin a new one.")
        return None


def _known(stored: dict[str, set[str]] | None) -> dict[str, set[str]]:
    """Return what is done, by the file and in this session."""
    lessons = {*_session, *(stored or {})}
    return {key: _session.get(key, set()) | (stored or {}).get(key, set()) for key in lessons}


def _load() -> dict[str, set[str]]:
    path = _path()
    return _known({} if path is None else _stored(path))


def done(lesson: str, name: str) -> None:
    """Note that an exercise is solved."""
    _session.setdefault(lesson, set()).add(name)
    path = _path()
    if path is None:
        if not os.environ.get("COURSE_PROGRESS"):
            _tell("In Colab, progress is kept for this session only.")
        return
    stored = _stored(path)
    if stored is None:
        return
    known = {key: sorted(names) for key, names in sorted(_known(stored).items())}
    try:
        write(path, f"{json.dumps(known, indent=1)}\n".encode())
    except OSError as error:
        _tell(f"{path.name} cannot be written ({error.strerror}). Progress is kept for this session only.")


def line(lesson: str, names: Sequence[str]) -> str:
    """Say how much of a lesson is done, of the exercises with these names."""
    global _news
    known = _load().get(lesson, set())
    count = sum(name in known for name in names)
    news, _news = _news, ""
    return f"Lesson {lesson}: {count} of {len(names)} done{', all' * (count == len(names))}.{news}"


def summary(lesson: str, names: Sequence[str]) -> None:
    """Show which exercises of a lesson are done."""
    known = _load().get(lesson, set())
    rows = [f"[{'x' if name in known else ' '}] {name}" for name in names]
    show(Page(line(lesson, names), [], code="\n".join(rows)))


def write(target: Path, content: bytes) -> None:
    """Write a file in one step: whoever interrupts finds the old one or the new one."""
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(content)
    part.replace(target)
