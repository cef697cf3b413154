"""No process is left behind, whoever is killed, and by whom."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import course_utils

from .conftest import STAY, WAIT, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="it sends signals; run it on Linux or a Mac")
CALL = """
import signal
import course_utils
signal.signal(signal.SIGINT, signal.default_int_handler)  # else a run in the background ignores it
course_utils.torchrun('--standalone --nproc-per-node 2 script.py')
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "the kernel dies"])
def test_the_notebook_stops(
    number: signal.Signals, script: Callable[..., str], folder: Path, left_behind: Callable[[], list[int]]
) -> None:
    script(STAY + WAIT)
    notebook = subprocess.Popen([sys.executable, "-c", CALL], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: all((folder / f"pids{rank}").exists() for rank in (0, 1)))
    notebook.send_signal(number)
    out, err = notebook.communicate(timeout=60)
    until(lambda: not left_behind())
    if number == signal.SIGINT:
        assert out.decode().splitlines()[-1] == "torchrun was interrupted; its processes are ended."
        assert err.decode().splitlines()[-1] == "KeyboardInterrupt"


def test_torchrun_is_killed(script: Callable[..., str], left_behind: Callable[[], list[int]]) -> None:
    """Its ranks would go on without it."""
    kill = "rank or os.kill(os.getppid(), 9)\n"
    met = "while not Path(f'pids{1 - rank}').exists(): pass\n"  # both have written theirs
    result = course_utils.torchrun(script(STAY + met + kill + WAIT), quiet=True)
    assert result.error.startswith("torchrun itself was ended by SIGKILL")
    assert not left_behind()


def test_a_rank_leaves_a_child(script: Callable[..., str], left_behind: Callable[[], list[int]]) -> None:
    assert course_utils.torchrun(script(STAY), quiet=True).ok
    assert not left_behind()
