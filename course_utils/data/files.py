"""One way to write a file, to write alone, and to replace what lies in a folder of the user's.

Standard library only: the command line writes before anything is installed.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

if os.name == "nt":
    import msvcrt
else:
    import fcntl

RECORD = ".given.json"  # in a folder of the user's: what each file was like when the course wrote it


def write(target: Path, content: bytes | str) -> None:
    """Write a file in one step: whoever interrupts or reads meanwhile finds the old one or the new one.

    A text has the same bytes on every system.
    """
    part = target.with_name(f".{token_hex(4)}.part")  # its own: another process may write the same file
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def replace(part: Path, target: Path) -> None:
    """Rename a file over another; on Windows a scanner may hold either for a moment."""
    for pause in (0.1, 0.4, 1, 0):
        try:
            part.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or not pause:
                raise
            time.sleep(pause)


@contextmanager
def alone(lock: Path, seconds: float = 0) -> Iterator[bool]:
    """Yield whether no other process is in this block with the same lock, after waiting so long for it.

    The lock is the system's and goes with the process, and with its children where they inherit. True also
    where there can be no lock: in a folder that cannot be written to, on a file system without any. The file
    stays: without it, who comes would not meet who waits.
    """
    with ExitStack() as stack:
        mine = True
        with suppress(OSError):
            mine = _take(stack.enter_context(lock.open("a+b")), time.monotonic() + seconds)
        yield mine


def _take(file: IO[bytes], end: float) -> bool:
    """Take the system's lock on an open file until `end`; return whether that went."""
    os.set_inheritable(file.fileno(), True)
    while True:
        try:
            if os.name == "nt":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):  # the latter is how Windows says it
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)


class Given:
    """What the course has put into a folder: it replaces and removes only what nobody has changed since.

    A context manager: in the end it writes its record, and says what was kept.

    Attributes:
        known: a fingerprint of each file as it was given, by its name in the folder.
        kept: names of files that stayed: somebody has changed them, or the course never wrote them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept, self.known = folder, [], {}
        with suppress(FileNotFoundError, ValueError, TypeError, RecursionError):  # all count as changed then
            self.known = dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))

    def put(self, name: str, content: bytes | str) -> None:
        """Write a file, unless one lies there that somebody has changed."""
        target, content = self.folder / name, content.encode() if isinstance(content, str) else content
        new = fingerprint(content)
        found = fingerprint(target.read_bytes()) if target.exists() else ""
        if found not in ("", new, self.known.get(name)):
            self.kept.append(name)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if found != new:
            write(target, content)
        self.known[name] = new

    def remove(self, name: str) -> None:
        """Remove a file that the course no longer has, unless somebody has changed it."""
        target = self.folder / name
        if target.is_file() and fingerprint(target.read_bytes()) != self.known[name]:
            self.kept.append(name)
        elif target.resolve().is_relative_to(self.folder.resolve()):
            target.unlink(missing_ok=True)
        del self.known[name]

    def __enter__(self) -> "Given":
        return self

    def __exit__(self, *_: object) -> None:
        if self.known:
            write(self.folder / RECORD, json.dumps(self.known, indent=1))
        if self.kept:
            names = ", ".join(self.kept[:5]) + ", ..." * (len(self.kept) > 5)
            print(
                f"Kept as found in {self.folder}: {names}. Move or delete what should come from the course."
            )


def fingerprint(content: bytes) -> str:
    """What a reader can edit of a file: of a notebook the kinds and texts of its cells, else every byte."""
    with suppress(ValueError, LookupError, TypeError, RecursionError):  # no notebook, or a broken one
        cells = json.loads(content)["cells"]
        content = json.dumps([(cell["cell_type"], "".join(cell["source"])) for cell in cells]).encode()
    return hashlib.sha256(content).hexdigest()
