"""Ranks to try an answer on: threads of this process that take turns.

`values = on_ranks(3, trial, ...)` calls `trial(...)` on three ranks, each in a `torch.distributed` of its
own. DDP and its hooks are the real ones; the process group is PyTorch's own one of threads. A rank runs until
it comes to a collective; then the next one does. So nothing depends on who is faster, a rank that waits in
vain is seen at once (in gloo only by a timeout), and no port is needed, which a firewall might close.
"""

import ctypes
import io
import os
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch.testing._internal.distributed import multi_threaded_pg as threaded
from torch.utils._pytree import tree_leaves, tree_map

from ..trying import Mistake, told

PATIENCE = 20.0  # seconds in which a rank has to come to a collective or to its end
_MOST_PRINTED = 20  # lines
_here = threading.local()  # .rank: the one that this thread is


class Unanswered(BaseException):
    """Raised in a collective to which others do not come; no Exception, so answers do not catch it."""


class _Rank(threading.Thread):
    """A thread that runs when it has its turn, until it waits in a collective, holds or is done.

    Attributes:
        state: "runs", "waits", "holds" or "done".
        came_to: in a collective, its name, the shapes of what is given, and its options.
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
        """Let the rank run; called by the thread that attends. Raises a Mistake where that does not end."""
        variables = {"RANK": str(self.number), "LOCAL_RANK": str(self.number), "WORLD_SIZE": str(self.world)}
        torch.set_rng_state(self._random)
        with redirect_stdout(self.printed), mock.patch.dict(os.environ, variables):
            self._turn.release()
            if not self._turn_ends.acquire(timeout=PATIENCE):
                raise Mistake("endless", ranks=f"Rank {self.number}", seconds=PATIENCE)
        self._random = torch.get_rng_state()

    def run(self) -> None:
        """Try the answer; that is what the thread does."""
        _here.rank, which = self, {"rank": self.number, "world_size": self.world}
        try:
            self._turn.acquire()
            self.group = JudgedGroup(self.number, self.world)
            dist.init_process_group("exercise", store=dist.HashStore(), **which)
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

    def meet(self, name: str, shapes: list[str], options: dict[str, Any], data: Any) -> list[Any]:
        """Wait in a collective; return what every rank brings, by rank. Rank 0 is the first to go on."""
        self.came_to, self.brought = (name, shapes, options), data
        self.pause("waits")
        if self.every is None:
            more = f" of {', '.join(shapes[:2])}{' ...' if len(shapes) > 2 else ''}" if shapes else ""
            self.waits = name + more  # such as "all_reduce of (3,) float32"
            raise Unanswered
        return self.every

    def stop(self) -> None:
        """End the thread, even where it is in an endless loop, or before its next turn."""
        if self.state != "done":
            ident, error = ctypes.c_ulong(self.ident or 0), ctypes.py_object(Unanswered)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)
            self._turn.release()
        self.join(timeout=1)


class JudgedGroup(threaded.ProcessLocalGroup):
    """A rank's end of the process group.

    Attributes:
        calls: for each collective its name and the bytes that a rank sends for it in a ring: of s bytes among
            n ranks, 2 (n - 1) / n s for an all-reduce, half of that for a reduce-scatter or a scatter's root,
            (n - 1) s for an all-gather, s for the root of a broadcast and for who is not the root of a reduce
            or a gather, and in an all-to-all what goes to others.
    """

    def __init__(self, rank: int, world: int) -> None:
        super().__init__(rank, world)
        self.calls: list[tuple[str, float]] = []

    def come(self, collective: Any, data: Any, name: str = "") -> dist.Work:
        """Come to a collective; return when it is done.

        `data` are tensors, or (outputs, inputs), or for an all-to-all of two tensors also how they are cut.
        """
        name = name or "_".join(re.findall("(?!Base)[A-Z][a-z]+", type(collective).__name__)).lower()
        outputs, inputs, *cuts = data if isinstance(data, tuple) else (data, data)
        tensors, options, n = tree_leaves(inputs), vars(collective), self.size()
        if cuts:
            tensors = inputs.split(cuts[1] or len(inputs) // n)
        sizes = [tensor.nbytes for tensor in tensors]
        at_root = self.rank() in (options.get("src"), options.get("dst"))
        shares = {"all_reduce": 2 * (n - 1) / n, "all_gather": n - 1, "all_to_all": 1}
        shares |= {"broadcast": at_root, "reduce": not at_root, "gather": not at_root}
        kept = sizes[self.rank()] if name == "all_to_all" else 0
        self.calls.append((name, shares.get(name, (n - 1) / n) * (sum(sizes) - kept)))
        shapes = [f"{tuple(tensor.shape)} {tensor.dtype}".replace("torch.", "") for tensor in tensors]
        if name in ("scatter", "all_to_all"):  # need not look alike on all ranks
            shapes = []
        if inputs is not outputs:  # they may share their memory
            data = outputs, tree_map(torch.clone, inputs), *cuts
        every = _here.rank.meet(name, shapes, options, data)
        if self.rank() == 0:
            collective.work(every)
        return threaded.ret_work(tree_leaves(outputs))

    # ---- what PyTorch's group lacks, or does by another collective -------------------------------------
    def reduce(self, tensors: Sequence[torch.Tensor], opts: Any) -> dist.Work:
        totals, collective = list(map(torch.clone, tensors)), threaded.AllReduce(opts.reduceOp)
        collective.dst = opts.rootRank
        work = self.come(collective, totals, "reduce")
        if self.rank() == opts.rootRank:
            for tensor, total in zip(tensors, totals, strict=True):
                tensor.detach().copy_(total)
        return work

    def barrier(self, opts: Any = None) -> dist.Work:
        return self.come(threaded.AllReduce(dist.AllreduceOptions().reduceOp), [], "barrier")

    def send(self, *_: Any) -> dist.Work:
        raise RuntimeError("send and recv are not offered in this check. Use collectives.")

    recv = recv_anysource = send


def on_ranks(world: int, trial: Callable[..., Any], *given: Any) -> list[Any]:
    """Run `trial(*given)` on `world` ranks; return what it returns, by rank. Shows what was printed.

    Raises:
        Mistake: where the trial raised, where ranks do not meet, or where one comes to no end.
    """
    import_module("torch._dynamo")  # by DDP, too: then its first turn could last as long as an endless loop
    if "EXERCISE" not in dist.Backend._plugins:
        dist.Backend.register_backend("exercise", lambda *_: _here.rank.group, devices=["cpu"])
    isolate = torch._C._distributed_c10d._set_thread_isolation_mode  # each thread initialises for itself
    ranks = [_Rank(number, world, partial(trial, *given)) for number in range(world)]
    with (
        mock.patch.object(c10d, "_world", threaded.ThreadLocalWorld()),
        # in PyTorch 2.11 it lacks what `destroy_process_group` asks for
        mock.patch.object(threaded.ThreadLocalWorld, "comms", [], create=True),
        mock.patch.object(threaded.ProcessLocalGroup, "_start_coll", _meeting),
        mock.patch.object(threaded.ProcessLocalGroup, "_end_coll"),
    ):
        isolate(True)
        try:
            for rank in ranks:
                rank.start()
            _attend(ranks)
        finally:
            for rank in ranks:
                rank.stop()
            isolate(False)
    for rank in ranks:
        for line in rank.printed.getvalue().splitlines()[:_MOST_PRINTED]:
            print(f"[rank {rank.number}] {line}")
    _complain(ranks)
    return [rank.value for rank in ranks]


def hold() -> None:
    """Let the other ranks run until each of them waits in a collective or is done."""
    _here.rank.pause("holds")


def _meeting(collective: Any, group: JudgedGroup) -> SimpleNamespace:
    """Return what PyTorch's group joins, with its rank and its data."""
    return SimpleNamespace(join=lambda rank, data: group.come(collective, data))


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
