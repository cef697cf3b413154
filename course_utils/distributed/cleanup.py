"""Ending every process of a run: those of torchrun, of the ranks, and whatever these have started.

A rank is in a session of its own and outlives a torchrun that is killed, so neither process groups nor
parents find it. What all processes of a run share is a variable of their environment, which they inherit.

Run as a program, this file is the guard: it waits until the notebook's process is gone, in whatever way, and
ends the run that it left behind.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil

MARK = "COURSE_RANKS_RUN"  # the variable; its value names one run
_PATIENCE = 5.0  # seconds for killed processes to be gone


def marked(run: str) -> list[psutil.Process]:
    """The living processes of a run, but for this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # gone meanwhile, or not ours to look at
            if process.pid != os.getpid() and process.environ().get(MARK) == run:
                found.append(process)
    return found


def end_all(run: str) -> None:
    """Kill every process of a run; again while new ones turn up, for the killed may have started one."""
    for _ in range(10):
        left = marked(run)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        if not left:
            return
        psutil.wait_procs(left, _PATIENCE)


def make_them_say_where(run: str, agents: list[int]) -> None:
    """Let each rank of a run write to its stderr which line it is at, and end; torchrun is killed first.

    Python's fault handler writes the lines; it needs a signal that Windows has not.
    """
    if os.name != "posix":
        return
    everything = marked(run)
    ranks = [process for process in everything if _parent(process) in agents]
    for process in everything:
        if process.pid in agents:
            with suppress(psutil.Error):
                process.kill()
    for process in ranks:
        with suppress(psutil.Error):
            _no_core_file(process)
            process.send_signal(signal.SIGABRT)
    psutil.wait_procs(ranks, _PATIENCE)


def _parent(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return process.ppid()
    return 0


def _no_core_file(process: psutil.Process) -> None:
    """Keep the system from writing the process's memory to a file when it is aborted (Linux)."""
    if hasattr(process, "rlimit"):
        process.rlimit(psutil.RLIMIT_CORE, (0, 0))


def start_guard(run: str) -> subprocess.Popen:
    """Start the guard of a run. It ends the run and itself when this process closes its stdin, or dies."""
    return subprocess.Popen(
        [sys.executable, __file__, run],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **own_group(),
    )


def own_group() -> dict[str, object]:
    """Options of Popen that keep Ctrl-C, and the end of the kernel's group, away from a process."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


if __name__ == "__main__":
    sys.stdin.read()  # returns at its end
    end_all(sys.argv[1])
