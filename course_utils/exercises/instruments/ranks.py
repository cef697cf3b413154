"""Ranks to try an answer on: threads of this process that take turns, each in a world of its own.

`reports = on_ranks(3, trial, ...)` calls `trial(...)` on three ranks, where `torch.distributed` is
initialised and DDP is the real one. A rank runs until it comes to a collective; then the next one does. So
nothing depends on who is faster, and a rank that waits in vain is seen at once.
"""

import ctypes
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch.testing._internal.distributed.multi_threaded_pg import ThreadLocalWorld

from ..trying import Mistake, told
from .rank_group import JudgedGroup

PATIENCE = 20.0  # seconds in which some rank has to come to a collective or to its end
_MOST_PRINTED = 20  # lines
_here = threading.local()  # .group, .printed: of the rank that this thread is


class Unanswered(BaseException):
    """Raised in a collective to which others do not come; no Exception, so answers do not catch it."""


@dataclass
class Report:
    """What came of a trial on one rank.

    Attributes:
        value: what the trial returned.
        error: what it raised.
        waits: the collective that it waited in in vain, in words.
        calls: the collectives' names, and the bytes that the rank sends for each, as in `JudgedGroup`.
        printed: what the answer printed.
    """

    value: Any = None
    error: BaseException | None = None
    waits: str = ""
    calls: list[tuple[str, float]] = field(default_factory=list)
    printed: io.StringIO = field(default_factory=io.StringIO)


class _Baton:
    """What ranks hand on. The one that has it runs; the others wait in a collective, hold, or are done."""

    def __init__(self, world: int) -> None:
        self.world, self.turn, self.handed_on = world, 0, 0
        self.state = ["runs"] * world
        self._random = [torch.get_rng_state()] * world
        self._brought: dict[int, tuple[Any, Any]] = {}
        self._every: list[Any] | None = None  # what all brought to the last collective
        self.changed = threading.Condition()

    def begin(self, rank: int) -> None:
        """Wait for the first turn."""
        with self.changed:
            self._await_turn(rank)

    def exchange(self, rank: int, what: tuple[Any, ...], given: Any) -> list[Any]:
        """Come to a collective; return what every rank brings, by rank."""
        with self.changed:
            self._brought[rank] = what, given
            self._hand_on(rank, "waits")
            self._await_turn(rank)
            if self._every is None:
                raise Unanswered(what)
            return self._every

    def hold(self, rank: int) -> None:
        """Let the others run until each of them waits in a collective or is done."""
        with self.changed:
            self._hand_on(rank, "holds")
            self._await_turn(rank)

    def end(self, rank: int) -> None:
        """Hand on the baton for good."""
        with self.changed:
            self._hand_on(rank, "done")

    def _await_turn(self, rank: int) -> None:
        self.changed.wait_for(lambda: self.turn == rank)
        torch.set_rng_state(self._random[rank])
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(self.world)}

    def _hand_on(self, rank: int, state: str) -> None:
        self.state[rank], self._random[rank] = state, torch.get_rng_state()
        if "runs" not in self.state:
            self._let_run("holds" if "holds" in self.state else "waits")
        self.turn = self.state.index("runs") if "runs" in self.state else -1
        self.handed_on += 1
        self.changed.notify_all()

    def _let_run(self, state: str) -> None:
        """Let the ranks in a state run on; those in a collective have met if all came to the same."""
        if state == "waits":
            met = len(self._brought) == self.world and len({what for what, _ in self._brought.values()}) == 1
            self._every = [self._brought[rank][1] for rank in range(self.world)] if met else None
            self._brought = {}
        self.state = ["runs" if one == state else one for one in self.state]


def on_ranks(world: int, trial: Callable[..., Any], *given: Any) -> list[Report]:
    """Run `trial(*given)` on `world` ranks; return what came of it, by rank. Shows what was printed.

    Raises:
        Mistake: where the trial raised, where ranks do not meet, or where one comes to no end.
    """
    baton, reports = _Baton(world), [Report() for _ in range(world)]
    threads = [
        threading.Thread(target=_run, args=(baton, rank, reports[rank], trial, given), daemon=True)
        for rank in range(world)
    ]
    with _a_world_for_each_thread(), mock.patch.dict(os.environ), redirect_stdout(_Printed(sys.stdout)):
        for thread in threads:
            thread.start()
        try:
            _attend(baton)
            for thread in threads:
                thread.join()
        finally:
            for thread in filter(threading.Thread.is_alive, threads):  # an endless loop, or an interrupt
                ident, stop = ctypes.c_ulong(thread.ident), ctypes.py_object(Unanswered)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, stop)
    for rank, report in enumerate(reports):
        for line in report.printed.getvalue().splitlines()[:_MOST_PRINTED]:
            print(f"[rank {rank}] {line}")
    _complain(reports)
    return reports


def hold() -> None:
    """Let the other ranks run until each of them waits in a collective or is done."""
    _here.group.hold()


def _attend(baton: _Baton) -> None:
    """Wait until all ranks are done."""
    with baton.changed:
        while set(baton.state) != {"done"}:
            before = baton.handed_on
            if not baton.changed.wait_for(lambda: baton.handed_on != before, PATIENCE):  # noqa: B023
                raise Mistake("endless", ranks=f"Rank {baton.turn}", seconds=PATIENCE)


def _run(baton: _Baton, rank: int, report: Report, trial: Callable[..., Any], given: tuple[Any, ...]) -> None:
    """Run a trial as one rank."""
    try:
        group = _here.group = JudgedGroup(
            rank, baton.world, lambda what, data: baton.exchange(rank, what, data), lambda: baton.hold(rank)
        )
        _here.printed, report.calls = report.printed, group.calls
        baton.begin(rank)
        dist.init_process_group("exercise", store=dist.HashStore(), rank=rank, world_size=baton.world)
        report.value = trial(*given)
    except Unanswered as error:
        report.waits = _in_words(*error.args) if error.args else "nothing"
    except BaseException as error:  # also SystemExit: a rank that wants to leave
        report.error = error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        baton.end(rank)


@contextmanager
def _a_world_for_each_thread() -> Iterator[None]:
    """Let each thread initialise `torch.distributed` for itself, as PyTorch's own tests do."""
    if "EXERCISE" not in dist.Backend._plugins:
        dist.Backend.register_backend("exercise", lambda *_: _here.group, devices=["cpu"])
    before, isolate = c10d._world, torch._C._distributed_c10d._set_thread_isolation_mode
    c10d._world = ThreadLocalWorld()
    isolate(True)
    try:
        yield
    finally:
        c10d._world = before
        isolate(False)


class _Printed(io.TextIOBase):
    """Keeps what each rank prints; other threads print as always."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual

    def write(self, text: str) -> int:
        return getattr(_here, "printed", self._usual).write(text)

    def flush(self) -> None:
        self._usual.flush()


def _complain(reports: list[Report]) -> None:
    """Say why ranks did not come to the end of a trial."""
    world = len(reports)
    for rank, report in enumerate(reports):
        if isinstance(report.error, Mistake):
            raise report.error
        if report.error is not None:
            raise Mistake("raises", rank=rank, world=world, error=told(report.error))
    waits = {rank: report.waits for rank, report in enumerate(reports) if report.waits}
    if waits:
        there = "; ".join(f"rank {rank} in {what}" for rank, what in waits.items())
        away = [str(rank) for rank in range(world) if rank not in waits]
        names = f"Rank{'s' * (len(away) > 1)} {' and '.join(away)}"
        raise Mistake("never_comes" if away else "different", world=world, there=there, away=names)


def _in_words(what: tuple[Any, ...]) -> str:
    """Say a collective as in "all_reduce of (3,) float32"."""
    name, *more = what
    tensors = [str(item) for item in more if str(item).startswith("(")]
    return name + (f" of {', '.join(tensors[:2])}{' ...' if len(tensors) > 2 else ''}" if tensors else "")
