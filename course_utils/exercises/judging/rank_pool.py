"""Processes that answers of lesson 07 are tried on: started once, then reused. The judge passes on messages.

`with judged_ranks() as ranks: reports = ranks.run(3, trial, answer, ...)` calls `trial(answer, ...)` in three
processes, in which `torch.distributed` is initialised. What goes wrong there has its own hint.
"""

import atexit
import contextlib
import linecache
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine import wrong
from .carrying import pack
from .rank_worker import read_frame, write_frame

WORLD = 3  # as many ranks as an answer may be tried on; two would hide a number that is written as 2
PATIENCE = 15.0  # seconds without a word from any rank, until they are ended
_TOLD_AFTER = 2.0
_ROOT = str(Path(__file__).parents[3])


@dataclass
class Report:
    """What came of a trial on one rank.

    Attributes:
        status: "returned", "raised", or "unanswered" where it waited in a collective that others left out.
        value: what the trial returned.
        calls: the collectives' names, and the bytes that the rank sends for each, as in `JudgedGroup`.
        error, places: of an error its text, and (file, line) for the calls that led to it.
        printed: what the answer printed.
        waits: the collective that it waited in, in words.
    """

    status: str
    value: Any = None
    calls: list[tuple[str, float]] = field(default_factory=list)
    error: str = ""
    places: list[tuple[str, int]] = field(default_factory=list)
    printed: str = ""
    waits: str = ""


class _Processes:
    """The processes and their pipes. A thread for each collects what it says."""

    def __init__(self) -> None:
        self.heard: queue.Queue[tuple[int, tuple[Any, ...]]] = queue.Queue()
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        paths = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))
        env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-P", "-m", f"{__package__}.rank_worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.all = [subprocess.Popen(command, env=env, cwd=self.folder.name, **pipes) for _ in range(WORLD)]
        for number, process in enumerate(self.all):
            threading.Thread(target=self._listen, args=(number, process.stdout), daemon=True).start()
            self.send(number, [path or os.getcwd() for path in sys.path])

    def _listen(self, number: int, stream: Any) -> None:
        try:
            while True:
                self.heard.put((number, read_frame(stream)))
        except (EOFError, OSError, ValueError):
            self.heard.put((number, ("gone",)))

    def send(self, number: int, message: Any) -> None:
        with contextlib.suppress(OSError):  # it has gone, which is heard, too
            write_frame(self.all[number].stdin, message)

    def wait_ready(self) -> None:
        """Wait until all have started, and say so if that takes a while."""
        slow = threading.Timer(_TOLD_AFTER, print, [f"Starting {WORLD} processes for the check ..."])
        slow.start()
        try:
            for _ in self.all:
                _, message = self.heard.get(timeout=120)
                if message != ("ready",):
                    raise RuntimeError("A process for the check did not start. Restart the kernel.")
        finally:
            slow.cancel()

    def end(self) -> None:
        """End the processes."""
        for process in self.all:
            process.kill()
        for process in self.all:
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
        self.folder.cleanup()


_pool: _Processes | None = None


def end_ranks() -> None:
    """End the processes, if there are any; the next check starts new ones."""
    global _pool
    if _pool is not None:
        _pool.end()
    _pool = None


atexit.register(end_ranks)


def _processes() -> _Processes:
    """Return the processes, started if need be."""
    global _pool
    if _pool is None:
        _pool = _Processes()
        _pool.wait_ready()
    return _pool


class Ranks:
    """Runs trials for one judge."""

    def __init__(self) -> None:
        self._quiet = False

    def run(
        self, world: int, trial: Callable[..., Any], answer: Any, *given: Any, may_fail: bool = False
    ) -> list[Report]:
        """Run `trial(answer, *given)` on `world` ranks; return what came of it, by rank.

        Raises:
            NotYet: where the answer raised, where ranks do not meet, or where one crashed or came to no end.
                With `may_fail` the first two stand in the reports instead.
        """
        try:
            data = pack((trial, answer, given))
        except Exception as error:
            wrong("carry", "The check runs your code in other processes, and something that it uses cannot "
                  f"be sent there ({str(error)[:120]}). Make that inside of your function.")  # fmt: skip
        processes = _processes()
        for rank in range(world):
            processes.send(rank, (rank, world, data))
        reports = _attend(processes, world)
        self._show(reports)
        if not may_fail:
            _complain(reports)
        return reports

    def _show(self, reports: list[Report]) -> None:
        """Show what the answer printed, the first time."""
        for rank, report in enumerate([] if self._quiet else reports):
            for line in report.printed.splitlines()[:20]:
                print(f"[rank {rank}] {line}")
        self._quiet = True


@contextlib.contextmanager
def judged_ranks() -> Iterator[Ranks]:
    """Yield what runs trials; where the reader interrupts, the processes are ended."""
    try:
        yield Ranks()
    except BaseException as error:
        if not isinstance(error, Exception):
            end_ranks()
        raise


def _attend(processes: _Processes, world: int) -> list[Report]:
    """Pass on what ranks bring to collectives, until each has ended its trial."""
    waiting: dict[int, tuple[tuple[Any, ...], bytes]] = {}
    holding: set[int] = set()
    vain: dict[int, str] = {}
    reports: dict[int, Report] = {}
    while len(reports) < world:
        rank, (kind, *content) = _hear(processes, set(range(world)) - set(reports) - set(waiting))
        if kind == "meet":
            waiting[rank] = tuple(content)
        elif kind == "hold":
            holding.add(rank)
        else:
            reports[rank] = Report(**content[0], waits=vain.get(rank, ""))
        if len(waiting) + len(reports) + len(holding) < world:
            continue  # some are at work
        if holding:
            for number in holding:
                processes.send(number, True)
            holding.clear()
            continue
        said = {what for what, _ in waiting.values()}
        every = [data for _, (_, data) in sorted(waiting.items())]
        alone = bool(reports) or len(said) > 1  # some have left already, or they come to different things
        for number, (what, _) in waiting.items():
            vain |= {number: _in_words(what)} if alone else {}
            processes.send(number, None if alone else every)
        waiting.clear()
    return [reports[rank] for rank in range(world)]


def _hear(processes: _Processes, busy: set[int]) -> tuple[int, tuple[Any, ...]]:
    """Return what a rank says next; where nothing comes, end all and say who is to blame."""
    try:
        number, message = processes.heard.get(timeout=PATIENCE)
    except queue.Empty:
        end_ranks()
        wrong("endless", f"{_named(busy)} came to no end, nor to a collective, within {PATIENCE:.0f} s. Is "
              "there a loop that does not end? They were ended; the next check starts new ones.")  # fmt: skip
    if message == ("gone",):
        code = processes.all[number].wait()
        end_ranks()
        wrong("crash", f"The process of rank {number} ended (exit code {code}) while your code ran there. "
              "The others were ended, too; the next check starts new ones.")  # fmt: skip
    return number, message


def _complain(reports: list[Report]) -> None:
    """Say why ranks did not come to the end of a trial."""
    for rank, report in enumerate(reports):
        if report.status == "raised":
            wrong("raises", f"On rank {rank} of {len(reports)} your code raised {_place(report)}")
    waits = {rank: report.waits for rank, report in enumerate(reports) if report.status == "unanswered"}
    if not waits:
        return
    there = [f"rank {rank} in {what}" for rank, what in waits.items()]
    if len(waits) == len(reports):
        wrong("different", f"The ranks wait for each other in different collectives: {'; '.join(there)}. "
              "All of them must call the same, on tensors of one size.")  # fmt: skip
    away = _named(set(range(len(reports))) - set(waits))
    wrong("never_comes", f"Of {len(reports)} ranks, {'; '.join(there)} would wait for ever: {away} came to "
          "the end without it. Every rank has to come to every collective.")  # fmt: skip


def _place(report: Report) -> str:
    """Say what was raised, and in which of the reader's lines: those that no file on the disk has."""
    lines = [
        linecache.getline(file, line).strip() for file, line in report.places if not os.path.exists(file)
    ]
    kind, _, text = report.error.partition(": ")
    return f"{kind}{next((f' in the line {line!r}' for line in reversed(lines) if line), '')}: {text}"


def _named(ranks: set[int]) -> str:
    return ("Rank " if len(ranks) == 1 else "Ranks ") + " and ".join(map(str, sorted(ranks)))


def _in_words(what: tuple[Any, ...]) -> str:
    """Say a collective as in "all_reduce of (3,) float32"."""
    name, *more = what
    tensors = [str(item) for item in more if str(item).startswith("(")]
    return name + (f" of {', '.join(tensors[:2])}{' ...' if len(tensors) > 2 else ''}" if tensors else "")
