"""Ranks to try an answer on: threads of this process that take turns, each in a world of its own.

`values = on_ranks(3, trial, ...)` calls `trial(...)` on three ranks, where `torch.distributed` is initialised
and DDP is the real one. A rank runs until it comes to a collective; then the next one does. So nothing
depends on who is faster, and a rank that waits in vain is seen at once.
"""

import ctypes
import io
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from ..trying import Mistake, told
from .rank_group import JudgedGroup, threads_as_ranks

PATIENCE = 20.0  # seconds in which a rank has to come to a collective or to its end
_MOST_PRINTED = 20  # lines
_here = threading.local()  # .rank: the one that this thread is


class Unanswered(BaseException):
    """Raised in a collective to which others do not come; no Exception, so answers do not catch it."""


class _Rank(threading.Thread):
    """A thread that runs when it has its turn, until it waits in a collective, holds or is done.

    Attributes:
        state: "runs", "waits", "holds" or "done".
        came_to: in a collective, its name, its options and the shapes of what is given.
        brought: what this rank brings there; `every` is what all bring, by rank, None where they do not meet.
        waits: the collective that it waited in in vain, in words.
        value: what the trial returned, and `error` what it raised.
        printed: what the answer printed.
    """

    def __init__(self, number: int, world: int, trial: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.number, self.world, self.trial = number, world, trial
        self.state, self.waits, self.printed = "runs", "", io.StringIO()
        self.came_to = self.brought = self.every = self.value = self.error = self.group = None
        self._turn, self._turn_ends = threading.Semaphore(0), threading.Semaphore(0)
        self._random = torch.get_rng_state()

    def take_turn(self) -> None:
        """Let the rank run; called by the thread that attends.

        Raises:
            Mistake: where it does not come to the end of its turn.
        """
        variables = {"RANK": str(self.number), "LOCAL_RANK": str(self.number), "WORLD_SIZE": str(self.world)}
        torch.set_rng_state(self._random)
        with redirect_stdout(self.printed), mock.patch.dict(os.environ, variables):
            self._turn.release()
            if not self._turn_ends.acquire(timeout=PATIENCE):
                raise Mistake("endless", ranks=f"Rank {self.number}", seconds=PATIENCE)
        self._random = torch.get_rng_state()

    def run(self) -> None:
        """Try the answer; that is what the thread does."""
        _here.rank = self
        try:
            self._turn.acquire()
            self.group = JudgedGroup(self.number, self.world, self._meet)
            dist.init_process_group(
                "exercise", store=dist.HashStore(), rank=self.number, world_size=self.world
            )
            self.value = self.trial()
        except BaseException as error:  # also SystemExit: a rank that wants to leave
            self.error = error
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            self.state = "done"
            self._turn_ends.release()

    def pause(self, state: str) -> None:
        """End this turn, and wait for the next."""
        self.state = state
        self._turn_ends.release()
        self._turn.acquire()

    def stop(self) -> None:
        """End the thread, even where it is in an endless loop, or before its next turn."""
        if self.state != "done":
            ident, error = ctypes.c_ulong(self.ident or 0), ctypes.py_object(Unanswered)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)
            self._turn.release()
        self.join(timeout=1)

    def _meet(self, what: tuple[Any, ...], data: Any) -> list[Any]:
        """Wait in a collective; return what every rank brings, by rank."""
        self.came_to, self.brought = what, data
        self.pause("waits")
        if self.every is None:
            self.waits = _in_words(*what)
            raise Unanswered
        return self.every


def on_ranks(world: int, trial: Callable[..., Any], *given: Any) -> list[Any]:
    """Run `trial(*given)` on `world` ranks; return what it returns, by rank. Shows what was printed.

    Raises:
        Mistake: where the trial raised, where ranks do not meet, or where one comes to no end.
    """
    import_module("torch._dynamo")  # by DDP, too: then its first turn could last as long as an endless loop
    ranks = [_Rank(number, world, partial(trial, *given)) for number in range(world)]
    with threads_as_ranks(lambda: _here.rank.group):
        for rank in ranks:
            rank.start()
        try:
            _attend(ranks)
        finally:
            for rank in ranks:
                rank.stop()
    for rank in ranks:
        for line in rank.printed.getvalue().splitlines()[:_MOST_PRINTED]:
            print(f"[rank {rank.number}] {line}")
    _complain(ranks)
    return [rank.value for rank in ranks]


def hold() -> None:
    """Let the other ranks run until each of them waits in a collective or is done."""
    _here.rank.pause("holds")


def _attend(ranks: Sequence[_Rank]) -> None:
    """Give turns until all ranks are done."""
    while {rank.state for rank in ranks} != {"done"}:
        for rank in ranks:
            if rank.state == "runs":
                rank.take_turn()
        resting = [rank for rank in ranks if rank.state == "holds"]
        if not resting:
            resting = [rank for rank in ranks if rank.state == "waits"]
            met = len(resting) == len(ranks) and all(rank.came_to == ranks[0].came_to for rank in ranks)
            for rank in resting:
                rank.every = [one.brought for one in ranks] if met else None
        for rank in resting:
            rank.state = "runs"


def _complain(ranks: Sequence[_Rank]) -> None:
    """Say why ranks did not come to the end of a trial."""
    world = len(ranks)
    for rank in ranks:
        if isinstance(rank.error, Mistake):
            raise rank.error
        if rank.error and not isinstance(rank.error, Unanswered):
            raise Mistake("raises", rank=rank.number, world=world, error=told(rank.error))
    if any(rank.waits for rank in ranks):
        there = "; ".join(f"rank {rank.number} in {rank.waits}" for rank in ranks if rank.waits)
        away = [str(rank.number) for rank in ranks if not rank.waits]
        names = f"Rank{'s' * (len(away) > 1)} {' and '.join(away)}"
        raise Mistake("never_comes" if away else "different", world=world, there=there, away=names)


def _in_words(name: str, options: dict[str, Any], shapes: Sequence[str]) -> str:
    """Say a collective as in "all_reduce of (3,) float32"."""
    return name + (f" of {', '.join(shapes[:2])}{' ...' if len(shapes) > 2 else ''}" if shapes else "")
