"""What the tests of torchrun share: a folder of small scripts, and the search for processes left behind."""

import time
from collections.abc import Callable, Iterator
from contextlib import chdir, suppress
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from .failing_runs import HEAD

# both ranks say which processes they are, and stay; so does a child in a session of its own
STAY = """
import subprocess, threading
from pathlib import Path
forever = "import threading; threading.Event().wait()"
child = subprocess.Popen([sys.executable, "-c", forever], start_new_session=True)
Path(f"pids{rank}.part").write_text(f"{os.getpid()} {os.getppid()} {child.pid}")
os.rename(f"pids{rank}.part", f"pids{rank}")
"""
WAIT = "threading.Event().wait()\n"


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, the current one."""
    with chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def script(folder: Path) -> Callable[[str], str]:
    """Write a script that knows its rank; return what starts it in two processes."""

    def write(body: str, name: str = "script.py") -> str:
        (folder / name).write_text(HEAD + dedent(body), encoding="utf-8")
        return f"--standalone --nproc-per-node 2 {name}"

    return write


def runs(pid: int) -> bool:
    """Tell whether a process is there and not only its exit code, which nobody has asked for yet."""
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def left_behind(folder: Path) -> Callable[..., list[int]]:
    """Return which processes are still there of those that the ranks have written down."""

    def look(where: Path = folder) -> list[int]:
        pids = [int(pid) for file in where.glob("pids?") for pid in file.read_text().split()]
        assert pids, "no rank began"
        return [pid for pid in pids if runs(pid)]

    return look
