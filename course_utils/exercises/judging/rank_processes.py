"""The processes that answers of lesson 07 are tried on: started once for a kernel, ended with it."""

import atexit
import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, BinaryIO

from ..engine import wrong
from .rank_worker import read_frame, write_frame

_FORK = sys.platform == "linux"  # elsewhere a fork after imports is not safe, or there is none
WORLD = 3  # as many ranks as an answer may be tried on; two would hide a number that is written as 2
_TOLD_AFTER, _START = 2.0, 120.0  # seconds
_ROOT = str(Path(__file__).parents[3])


class Processes:
    """The ranks' processes and pipes. A thread for each collects what it says.

    Attributes:
        heard: (number of the process, message), as they come; the last message of each is ("gone",).
        ids: of the processes.
    """

    def __init__(self) -> None:
        self.heard: queue.Queue[tuple[int, tuple[Any, ...]]] = queue.Queue()
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.ids: list[int] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.pipes = self._forked() if _FORK else [self._single() for _ in range(WORLD)]
        ears = [threading.Thread(target=self._listen, args=(n,), daemon=True) for n in range(WORLD)]
        for ear in ears:
            ear.start()
        self.ears = ears

    def _start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a process and tell it where this one looks for modules."""
        paths = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))
        env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-P", "-m", f"{__package__}.rank_worker", *arguments]
        options |= {"stdin": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=env, cwd=self.folder.name, **options)
        with contextlib.suppress(OSError):  # it has gone, which is heard, too
            write_frame(process.stdin, [path or os.getcwd() for path in sys.path])
        self.started.append(process)
        return process

    def _single(self) -> tuple[BinaryIO, BinaryIO]:
        """Start one rank; return what it says, and what it is told through."""
        process = self._start(stdout=subprocess.PIPE)
        return process.stdout, process.stdin  # type: ignore[return-value]

    def _forked(self) -> list[tuple[BinaryIO, BinaryIO]]:
        """Start all ranks as forks of one process, which has imported PyTorch once."""
        down, up = ([os.pipe() for _ in range(WORLD)] for _ in range(2))
        theirs = [end for (read, _), (_, write) in zip(down, up, strict=True) for end in (read, write)]
        self._start(*map(str, theirs), pass_fds=theirs, stdout=subprocess.DEVNULL)
        for end in theirs:
            os.close(end)
        return [
            (os.fdopen(read, "rb"), os.fdopen(write, "wb"))
            for (_, write), (read, _) in zip(down, up, strict=True)
        ]

    def _listen(self, number: int) -> None:
        """Collect what a process says."""
        try:
            while True:
                self.heard.put((number, read_frame(self.pipes[number][0])))
        except (EOFError, OSError, ValueError):
            self.heard.put((number, ("gone",)))

    def send(self, number: int, message: Any) -> None:
        """Send a message to a process; where it has gone, that is heard, too."""
        with contextlib.suppress(OSError):
            write_frame(self.pipes[number][1], message)

    def wait_ready(self) -> None:
        """Wait until all have started, and say so if that takes a while; raises NotYet if they do not."""
        slow = threading.Timer(_TOLD_AFTER, print, [f"Starting {WORLD} processes for the check ..."])
        slow.start()
        try:
            for _ in self.pipes:
                kind, *ids = self.heard.get(timeout=_START)[1]
                self.ids += ids
                if kind != "ready":
                    wrong("start", "The processes for this check end as soon as they start, which is "
                          "not your code's fault. Restart the kernel; doctor() may know more.")  # fmt: skip
        except queue.Empty:
            wrong("start", f"The processes for this check did not start within {_START:.0f} s, which is not "
                  "your code's fault. Is the machine very busy? Run the cell again.")  # fmt: skip
        finally:
            slow.cancel()

    def end(self) -> None:
        """End the processes, and wait until they are gone."""
        for number in self.ids if _FORK else []:  # before their parent, which takes them away
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        for process in [] if self.ids and _FORK else self.started:
            process.kill()
        for process in self.started:
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
            process.wait()
        for ear in self.ears:
            ear.join(5)  # it ends with the last one that could write to its pipe
        for stream in [stream for pair in self.pipes for stream in pair]:
            with contextlib.suppress(OSError):
                stream.close()
        self.folder.cleanup()


_running: Processes | None = None


def running() -> Processes:
    """Return the processes, started if need be."""
    global _running
    if _running is None:
        _running = Processes()
        try:
            _running.wait_ready()
        except BaseException:  # also when the reader interrupts
            end_ranks()
            raise
    return _running


def end_ranks() -> None:
    """End the processes, if there are any; the next check starts new ones."""
    global _running
    ended, _running = _running, None
    if ended is not None:
        ended.end()


atexit.register(end_ranks)
