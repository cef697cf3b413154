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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="it sends signals; run it on Linux or a Mac"),
]
# a notebook that goes on after an interrupt, in another folder
NOTEBOOK = """
import os, signal
import course_utils
signal.signal(signal.SIGINT, signal.default_int_handler)  # else a run in the background ignores it
try:
    course_utils.torchrun('--standalone --nproc-per-node 2 script.py')
except KeyboardInterrupt:
    print("interrupted", flush=True)
os.chdir("second")
course_utils.torchrun('--standalone --nproc-per-node 2 ../script.py')
"""


def test_the_notebook_is_interrupted_and_then_dies(
    script: Callable[..., str], folder: Path, left_behind: Callable[..., list[int]]
) -> None:
    """Ctrl-C reaches the reader's cell. Both times torchrun, its ranks and their children are ended.

    Here these have an environment of their own, so only who started them is known.
    """
    script(STAY.replace("start_new_session", "env={}, start_new_session") + WAIT)
    second = folder / "second"
    second.mkdir()
    notebook = subprocess.Popen([sys.executable, "-c", NOTEBOOK], stdout=subprocess.PIPE, text=True)
    for signal_sent, where in [(signal.SIGINT, folder), (signal.SIGKILL, second)]:
        until(lambda where=where: all((where / f"pids{rank}").exists() for rank in (0, 1)))
        notebook.send_signal(signal_sent)
        until(lambda where=where: not left_behind(where))
    out, _ = notebook.communicate(timeout=60)
    assert notebook.returncode == -signal.SIGKILL
    assert out.splitlines()[1:3] == ["torchrun was interrupted; its processes are ended.", "interrupted"]


def test_torchrun_is_killed(script: Callable[..., str], left_behind: Callable[..., list[int]]) -> None:
    """Its ranks would go on without it."""
    kill = "rank or os.kill(os.getppid(), 9)\n"
    met = "while not Path(f'pids{1 - rank}').exists(): pass\n"  # both have written theirs
    result = course_utils.torchrun(script(STAY + met + kill + WAIT))
    assert result.error.startswith("torchrun itself was ended by SIGKILL")
    assert not left_behind()
