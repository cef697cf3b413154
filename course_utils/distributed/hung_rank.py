"""Where a rank stood when it was made to say so: the reader's line, as Python's fault handler wrote it."""

import linecache
import re
import sysconfig
from pathlib import Path

_MAIN = "(most recent call first):\n"  # the main thread comes last
_FRAME = re.compile(r'  File "(.+?)", line (\d+) in ')


def where_it_stood(err: str) -> str:
    """Return the deepest of the reader's lines, as in "dist.barrier() (train.py, line 9)"; "" if unknown."""
    _, found, after = err.rpartition("Fatal Python error: Aborted")
    threads = after.split(_MAIN) if found else []
    for file, line in _FRAME.findall(threads[-1]) if threads else ():
        if _is_own(file):
            source = linecache.getline(file, int(line)).strip() or "(source not at hand)"
            return f"{source} ({Path(file).name}, line {line})"
    return ""


def _is_own(file: str) -> bool:
    """Tell the reader's files from Python's own and installed ones."""
    path = Path(file)
    library = Path(sysconfig.get_path("stdlib")).resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not file.startswith("<") and not installed and library not in path.resolve().parents
