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


class _Rank(threading.Thread):
    """A thread that runs when it has its turn, until it comes to a collective or is done.

    Attributes:
        came_to: a collective, as in "all_reduce of (3,) float32", and its options; None in none.
        brought: what this rank brings there.
        every: what all bring, by rank, for the first one that goes on.
        value: what the trial returned, and `error` what it raised.
    """

    def __init__(self, number: int, world: int, trial: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.number, self.world, self.trial = number, world, trial
        self.done, self.printed = False, io.StringIO()
        self.came_to = self.brought = self.every = self.value = self.error = None
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
        try:
            self._turn.acquire()
            store = dist.HashStore()
            dist.init_process_group("exercise", store=store, rank=self.number, world_size=self.world)
            self.value = self.trial()
        except BaseException as error:  # also SystemExit: a rank that wants to leave
            self.error = error
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            self.came_to, self.done = None, True
            self._turn_ends.release()

    def meet(self, came_to: tuple[Any, ...], data: Any) -> list[Any] | None:
        """End this turn in a collective, and wait for the next; return `every`."""
        self.came_to, self.brought, self.every = came_to, data, None
        self._turn_ends.release()
        self._turn.acquire()
        return self.every

    def stop(self) -> None:
        """End the thread, even where it is in an endless loop, or before its next turn."""
        if not self.done:  # SystemExit is no Exception, so answers do not catch it
            ident, error = ctypes.c_ulong(self.ident or 0), ctypes.py_object(SystemExit)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)
            self._turn.release()
        self.join(timeout=1)


class JudgedGroup(threaded.ProcessLocalGroup):
    """A rank's end of the process group.

    Attributes:
        calls: for each collective its name and the bytes that a rank sends for it in a ring: of s bytes among
            n ranks, 2 (n - 1) / n s for an all-reduce, (n - 1) s for an all-gather, (n - 1) / n s for others.
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
        tensors, n = tree_leaves(inputs), self.size()
        share = {"all_reduce": 2 * (n - 1) / n, "all_gather": n - 1}.get(name, (n - 1) / n)
        self.calls.append((name, share * sum(tensor.nbytes for tensor in tensors)))
        shapes = ", ".join(f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors)
        alike = shapes and name not in ("scatter", "all_to_all")  # on all ranks
        what = f"{name} of {shapes.replace('torch.', '')}" if alike else name
        if inputs is not outputs:  # they may share their memory
            data = outputs, tree_map(torch.clone, inputs), *cuts
        if every := threading.current_thread().meet((what, vars(collective)), data):
            collective.work(every)
        return threaded.ret_work(tree_leaves(outputs))

    # ---- what PyTorch's group lacks, or does by another collective -------------------------------------
    def reduce(self, tensors: Sequence[torch.Tensor], opts: Any) -> dist.Work:
        total, collective = tensors[0].clone(), threaded.AllReduce(opts.reduceOp)
        collective.dst = opts.rootRank  # which all have to name alike
        work = self.come(collective, [total], "reduce")
        if self.rank() == opts.rootRank:
            tensors[0].detach().copy_(total)
        return work

    def barrier(self, opts: Any = None) -> dist.Work:
        return self.come(threaded.AllReduce(dist.AllreduceOptions().reduceOp), [], "barrier")

    def send(self, *_: Any) -> dist.Work:
        raise RuntimeError("send and recv are not offered in this check. Use collectives.")

    recv = recv_anysource = send


dist.Backend.register_backend(
    "exercise", lambda _, rank, world, *__: JudgedGroup(rank, world), devices=["cpu"]
)


def on_ranks(world: int, trial: Callable[..., Any], *given: Any, last_first: bool = False) -> list[Any]:
    """Run `trial(*given)` on `world` ranks; return what it returns, by rank. Shows what was printed.

    Turns go by the ranks' numbers, or with `last_first` the other way round.

    Raises:
        Mistake: where the trial raised, where ranks do not meet, or where one comes to no end.
    """
    import_module("torch._dynamo")  # by DDP, too: then its first turn could last as long as an endless loop
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
            _attend(ranks, ranks[::-1] if last_first else ranks)
        finally:
            for rank in ranks:
                rank.stop()
            isolate(False)
            for rank in ranks:
                for line in rank.printed.getvalue().splitlines()[:_MOST_PRINTED]:
                    print(f"[rank {rank.number}] {line}")
    return [rank.value for rank in ranks]


def _meeting(collective: Any, group: JudgedGroup) -> SimpleNamespace:
    """Return what PyTorch's group joins, with its rank and its data."""
    return SimpleNamespace(join=lambda rank, data: group.come(collective, data))


def _attend(ranks: Sequence[_Rank], in_turn: Sequence[_Rank]) -> None:
    """Give turns until all ranks are done, each time until all are in a collective; else raise a Mistake."""
    while not all(rank.done for rank in ranks):
        for rank in in_turn:
            rank.take_turn()
        for rank in ranks:
            if isinstance(rank.error, Mistake):
                raise rank.error
            if rank.error:
                raise Mistake("raises", rank=rank.number, world=len(ranks), error=told(rank.error))
        if any(rank.came_to != ranks[0].came_to for rank in ranks):
            raise _not_met(ranks)
        in_turn[0].every = [rank.brought for rank in ranks]


def _not_met(ranks: Sequence[_Rank]) -> Mistake:
    """Say which ranks are in which collectives, and which are in none."""
    there = [f"rank {rank.number} in {rank.came_to[0]}" for rank in ranks if rank.came_to]
    away = [str(rank.number) for rank in ranks if not rank.came_to]
    names = f"Rank{'s' * (len(away) > 1)} {' and '.join(away)}"
    key = "never_comes" if away else "different"
    return Mistake(key, world=len(ranks), there="; ".join(there), away=names)
