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
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

MARK = "COURSE_RANKS_RUN"  # the variable; its value names one run
# options of Popen that keep Ctrl-C, and the end of the kernel's group, away from a process (second: Windows)
OWN_GROUP = {"start_new_session": True, "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
_PATIENCE = 5.0  # seconds for killed processes to be gone


@contextmanager
def guarded(run: str) -> Iterator[None]:
    """Leave no process of a run behind: not at its end, not at Ctrl-C, not when this process is killed."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    guard = [sys.executable, __file__, run]
    # its stdin is closed at the end, after a second Ctrl-C, or when this process dies: it ends what is left
    with subprocess.Popen(guard, stdin=subprocess.PIPE, **silent, **OWN_GROUP):
        try:
            yield
        finally:
            end_all(run)


def end_all(run: str) -> None:
    """Kill every process of a run; again while new ones turn up, for the killed may have started one."""
    for _ in range(10):
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # gone meanwhile, or not ours to look at
                if process.pid != os.getpid() and process.environ().get(MARK) == run:
                    # a child may have an environment of its own
                    left += (family := [process, *process.children(recursive=True)])
                    for one in family:
                        one.kill()
        if not left:
            return
        psutil.wait_procs(left, _PATIENCE)


def make_ranks_say_where(agents: list[int]) -> None:
    """Let each rank of these agents write to its stderr which line it is at, and end; the agents end first.

    Python's fault handler writes the lines; it needs a signal that Windows has not.
    """
    if os.name != "posix":
        return
    ranks = []
    for pid in agents:
        with suppress(psutil.Error):
            agent = psutil.Process(pid)
            ranks += agent.children()
            agent.kill()
    for rank in ranks:
        with suppress(psutil.Error):
            if hasattr(rank, "rlimit"):  # Linux, which would write the rank's memory to a file
                rank.rlimit(psutil.RLIMIT_CORE, (0, 0))
            rank.send_signal(signal.SIGABRT)
    psutil.wait_procs(ranks, _PATIENCE)


if __name__ == "__main__":
    sys.stdin.read()  # returns at its end
    end_all(sys.argv[1])
