"""A process group for judging: the collectives of `torch.distributed`, passed on to whoever judges.

Why not gloo: a rank that waits in gloo learns only by a timeout that another one never comes, and mixed-up
collectives end in garbage. Here the judge sees who has come to what, answers a rank that waits in vain at
once, and counts bytes. It needs no port and no network, so it works behind every firewall. DDP, its hooks and
`torch.distributed` itself are the real ones; sums are taken in the tensors' own type, as gloo does.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _create_work_from_future
from torch.futures import Future

Tensors = Sequence[torch.Tensor]
Exchange = Callable[[tuple[Any, ...], Any], list[Any]]
_OPS = {
    "SUM": torch.add,
    "AVG": torch.add,  # and divided afterwards
    "PRODUCT": torch.mul,
    "MIN": torch.minimum,
    "MAX": torch.maximum,
    "BAND": torch.bitwise_and,
    "BOR": torch.bitwise_or,
    "BXOR": torch.bitwise_xor,
}


def _copies(tensors: Tensors) -> list[torch.Tensor]:
    """Return tensors that stay as they are while other ranks read them."""
    return [tensor.detach().clone() for tensor in tensors]


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _looks(tensors: Tensors) -> tuple[str, ...]:
    """Say what tensors are, to compare them between ranks."""
    return tuple(f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in tensors)


def _done(tensors: Any = ()) -> Any:
    """Return the work handle of something that is done."""
    future: Future[Any] = Future()
    future.set_result(list(tensors))
    return _create_work_from_future(future)


def _name(op: Any) -> str:
    """Return the name of a ReduceOp."""
    for name in _OPS:
        if op == getattr(dist.ReduceOp, name):
            return name
    raise RuntimeError("This operation is not offered in this check.")


def _combine(op: Any, lists: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Return the sums (or what `op` says) over the ranks."""
    name = _name(op)
    sums = [reduce(_OPS[name], tensors) for tensors in zip(*lists, strict=True)]
    return [total / len(lists) for total in sums] if name == "AVG" else sums


class JudgedGroup(dist.ProcessGroup):
    """One rank's end of the group.

    Args:
        rank: of this process.
        world: how many there are.
        exchange: gets what is called and this rank's tensors; returns those of every rank, by rank.
        hold: returns when every other rank waits in a collective or has come to the end.

    Attributes:
        calls: for each collective its name and the bytes that a rank sends for it in a ring: of s bytes among
            n ranks, 2 (n - 1) / n s for an all-reduce, half of that for a reduce-scatter or an all-to-all,
            (n - 1) s for an all-gather, s for the root of a broadcast, and for the others where one receives.
    """

    def __init__(self, rank: int, world: int, exchange: Exchange, hold: Callable[[], None]) -> None:
        super().__init__(rank, world)
        self.hold = hold
        self._rank, self._world, self._exchange = rank, world, exchange
        self.calls: list[tuple[str, float]] = []

    def size(self) -> int:
        return self._world

    def getBackendName(self) -> str:
        return "exercise"

    def _meet(self, name: str, given: Tensors, share: float, *more: Any) -> list[list[torch.Tensor]]:
        """Meet the other ranks and return all their tensors; `share` of the given bytes counts as sent."""
        self.calls.append((name, share * _bytes(given)))
        return self._exchange((name, *_looks(given), *more), _copies(given))

    # ---- the collectives, by the names that torch.distributed calls ------------------------------------
    def allreduce(self, tensors: Tensors, opts: Any = None) -> Any:
        op = opts.reduceOp if opts is not None else dist.ReduceOp.SUM
        lists = self._meet("all_reduce", tensors, 2 * (self._world - 1) / self._world, _name(op))
        for tensor, total in zip(tensors, _combine(op, lists), strict=True):
            tensor.detach().copy_(total)
        return _done(tensors)

    def allreduce_coalesced(self, tensors: Tensors, opts: Any = None) -> Any:
        return self.allreduce(tensors, opts)

    def broadcast(self, tensors: Tensors, opts: Any) -> Any:
        root = opts.rootRank
        lists = self._meet("broadcast", tensors, float(self._rank == root), f"from rank {root}")
        for tensor, value in zip(tensors, lists[root], strict=True):
            tensor.detach().copy_(value)
        return _done(tensors)

    def reduce(self, tensors: Tensors, opts: Any) -> Any:
        root = opts.rootRank
        lists = self._meet(
            "reduce", tensors, float(self._rank != root), _name(opts.reduceOp), f"to rank {root}"
        )
        if self._rank == root:
            for tensor, total in zip(tensors, _combine(opts.reduceOp, lists), strict=True):
                tensor.detach().copy_(total)
        return _done(tensors)

    def allgather(self, outputs: Sequence[Tensors], inputs: Tensors, opts: Any = None) -> Any:
        lists = self._meet("all_gather", inputs, self._world - 1)
        for places, values in zip(outputs, zip(*lists, strict=True), strict=True):
            for place, value in zip(places, values, strict=True):
                place.detach().copy_(value)
        return _done(outputs)

    def all_gather_single(self, output: torch.Tensor, given: torch.Tensor, opts: Any = None) -> Any:
        lists = self._meet("all_gather", [given], self._world - 1)
        output.detach().view(-1).copy_(torch.cat([values[0].reshape(-1) for values in lists]))
        return _done([output])

    def gather(self, outputs: Sequence[Tensors], inputs: Tensors, opts: Any) -> Any:
        root = opts.rootRank
        lists = self._meet("gather", inputs, float(self._rank != root), f"to rank {root}")
        if self._rank == root:
            for place, values in zip(outputs[0], lists, strict=True):
                place.detach().copy_(values[0])
        return _done(outputs)

    def scatter(self, outputs: Tensors, inputs: Sequence[Tensors], opts: Any) -> Any:
        root = opts.rootRank
        given = list(inputs[0]) if self._rank == root else []
        self.calls.append(("scatter", _bytes(given) * (self._world - 1) / self._world))
        every = self._exchange(("scatter", f"from rank {root}"), _copies(given))
        outputs[0].detach().copy_(every[root][self._rank])
        return _done(outputs)

    def reduce_scatter(self, outputs: Tensors, inputs: Sequence[Tensors], opts: Any) -> Any:
        share = (self._world - 1) / self._world
        lists = self._meet("reduce_scatter", list(inputs[0]), share, _name(opts.reduceOp))
        outputs[0].detach().copy_(_combine(opts.reduceOp, lists)[self._rank])
        return _done(outputs)

    def reduce_scatter_single(self, output: torch.Tensor, given: torch.Tensor, opts: Any) -> Any:
        return self.reduce_scatter([output], [list(given.chunk(self._world))], opts)

    def alltoall(self, outputs: Tensors, inputs: Tensors, opts: Any = None) -> Any:
        sent = _bytes([tensor for rank, tensor in enumerate(inputs) if rank != self._rank])
        self.calls.append(("all_to_all", sent))
        every = self._exchange(("all_to_all",), _copies(inputs))
        for place, given in zip(outputs, every, strict=True):
            place.detach().copy_(given[self._rank])
        return _done(outputs)

    def all_to_all_single(
        self, output: torch.Tensor, given: torch.Tensor, out_sizes: Any, in_sizes: Any, opts: Any = None
    ) -> Any:
        n = self._world
        outputs = output.split(list(out_sizes) if out_sizes else len(output) // n)
        return self.alltoall(outputs, given.split(list(in_sizes) if in_sizes else len(given) // n))

    def barrier(self, opts: Any = None) -> Any:
        self._meet("barrier", [], 0.0)
        return _done()

    def send(self, *_: Any) -> Any:
        raise RuntimeError("send and recv are not offered in this check. Use collectives.")

    recv = recv_anysource = send
    # the same under the names of PyTorch before 2.12
    _allgather_base, _reduce_scatter_base, alltoall_base = (
        all_gather_single,
        reduce_scatter_single,
        all_to_all_single,
    )
