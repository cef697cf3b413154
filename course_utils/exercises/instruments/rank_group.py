"""A process group for judging: PyTorch's own one of threads, whose ranks meet as the judge says.

Why not gloo: a rank that waits in gloo learns only by a timeout that another one never comes, and mixed-up
collectives end in garbage. Here the judge sees who has come to what, answers a rank that waits in vain at
once, and counts bytes. It needs no port and no network, so it works behind every firewall. DDP, its hooks and
`torch.distributed` itself are the real ones.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch.testing._internal.distributed.multi_threaded_pg import (
    AllReduce,
    ProcessLocalGroup,
    ThreadLocalWorld,
    ret_work,
)
from torch.utils._pytree import tree_leaves, tree_map

Tensors = Sequence[torch.Tensor]
Meet = Callable[[tuple[Any, ...], Any], list[Any]]


class Reduce(AllReduce):
    """An all-reduce of which only the rank `dst` gets the result."""

    def __init__(self, op: dist.ReduceOp, dst: int) -> None:
        super().__init__(op)
        self.dst = dst

    def work(self, data: list[Tensors]) -> None:
        totals = [list(map(torch.clone, tensors)) for tensors in data]
        super().work(totals)
        for tensor, total in zip(data[self.dst], totals[self.dst], strict=True):
            tensor.detach().copy_(total)


class Barrier:
    """A meeting to which nobody brings anything."""

    def work(self, data: list[Tensors]) -> None:
        """Do nothing: that all are here is enough."""


class JudgedGroup(ProcessLocalGroup):
    """One rank's end of the group.

    Args:
        rank: of this thread.
        world: how many there are.
        meet: gets what is called and what this rank brings; returns what every rank brings, by rank. The
            first one to come back from there is rank 0.

    Attributes:
        calls: for each collective its name and the bytes that a rank sends for it in a ring: of s bytes among
            n ranks, 2 (n - 1) / n s for an all-reduce, half of that for a reduce-scatter or a scatter's root,
            (n - 1) s for an all-gather, s for the root of a broadcast and for who is not the root of a reduce
            or a gather, and in an all-to-all what goes to others.
    """

    def __init__(self, rank: int, world: int, meet: Meet) -> None:
        super().__init__(rank, world)
        self._meet = meet
        self.calls: list[tuple[str, float]] = []

    def join(self, collective: Any, rank: int, data: Any) -> dist.Work:
        """Come to a collective, with tensors or with (outputs, inputs); return when it is done."""
        name = "_".join(re.findall("[A-Z][a-z]+", type(collective).__name__)).lower()
        outputs, inputs = data if isinstance(data, tuple) else (data, data)
        tensors = tree_leaves(inputs)
        at_root = rank in (getattr(collective, "src", None), getattr(collective, "dst", None))
        self.calls.append((name, self._sent(name, tensors, at_root)))
        shapes = [f"{tuple(tensor.shape)} {tensor.dtype}".replace("torch.", "") for tensor in tensors]
        # what is given to a scatter or an all-to-all need not look alike on all ranks
        what = name, vars(collective), () if name in ("scatter", "all_to_all") else tuple(shapes)
        if inputs is not outputs:  # they may share their memory
            data = outputs, tree_map(torch.clone, inputs)
        every = self._meet(what, data)
        if rank == 0:
            collective.work(every)
        return ret_work(tree_leaves(outputs))

    def _sent(self, name: str, tensors: Tensors, at_root: bool) -> float:
        """Return the bytes that this rank sends for a collective."""
        n, sizes = self.size(), [tensor.nbytes for tensor in tensors]
        shares = {
            "all_reduce": 2 * (n - 1) / n,
            "all_gather": n - 1,
            "broadcast": at_root,
            "reduce": not at_root,
            "gather": not at_root,
        }
        if name == "all_to_all":
            return sum(sizes) - sizes[self.rank()]
        return shares.get(name, (n - 1) / n) * sum(sizes)

    # ---- what the group of threads lacks, or does in a way that would mislead ---------------------------
    def reduce(self, tensors: Tensors, opts: Any) -> dist.Work:
        return self.join(Reduce(opts.reduceOp, opts.rootRank), self.rank(), tensors)

    def barrier(self, opts: Any = None) -> dist.Work:
        return self.join(Barrier(), self.rank(), [])

    def all_to_all_single(
        self, output: torch.Tensor, given: torch.Tensor, out_sizes: Any, in_sizes: Any, opts: Any = None
    ) -> dist.Work:
        both = (output, out_sizes), (given, in_sizes)
        parts = [list(tensor.split(sizes or len(tensor) // self.size())) for tensor, sizes in both]
        return self.alltoall(*parts)

    alltoall_base = all_to_all_single  # its name before PyTorch 2.12

    def send(self, *_: Any) -> dist.Work:
        raise RuntimeError("send and recv are not offered in this check. Use collectives.")

    recv = recv_anysource = send


class World(ThreadLocalWorld):
    """What `torch.distributed` knows, for each thread its own."""

    comms: ClassVar[list[Any]] = []  # PyTorch 2.11 asks for it, and its ThreadLocalWorld has none


@contextmanager
def threads_as_ranks(group: Callable[[], JudgedGroup]) -> Iterator[None]:
    """Let each thread initialise `torch.distributed` for itself, with the backend "exercise".

    Args:
        group: returns the calling thread's end of the group.
    """
    dist.Backend._plugins.pop("EXERCISE", None)
    dist.Backend.register_backend("exercise", lambda *_: group(), devices=["cpu"])
    isolate = torch._C._distributed_c10d._set_thread_isolation_mode
    meetings = {
        "_start_coll": lambda collective, own: SimpleNamespace(join=partial(own.join, collective)),
        "_end_coll": lambda meeting, own: None,
    }
    isolate(True)
    try:
        with (
            mock.patch.object(c10d, "_world", World()),
            mock.patch.multiple(ProcessLocalGroup, **meetings),
        ):
            yield
    finally:
        isolate(False)
