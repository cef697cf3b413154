"""What the unmodified `nn.DataParallel` calls in C++: scatter, gather, broadcast; replicas run in order."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.parallel import _functions

from .errors import WORDS, refuse
from .machine import Machine, active
from .moves import move


def scatter(
    tensor: torch.Tensor,
    devices: Sequence[int],
    chunk_sizes: Sequence[int] | None = None,
    dim: int = 0,
    streams: Any = None,
) -> list[torch.Tensor]:
    """Split `tensor` along `dim` as `torch.chunk` does and copy the parts to `devices`, one each.

    There are fewer parts than devices when the chunks run out; a part that is already there is a view.
    """
    if not devices:
        refuse(WORDS["scatter_to_nobody"])
    if chunk_sizes is not None and len(chunk_sizes) != len(devices):
        refuse(WORDS["chunk_sizes"].format(len(devices), len(chunk_sizes)))
    parts = tensor.chunk(len(devices), dim) if chunk_sizes is None else tensor.split(list(chunk_sizes), dim)
    return [part.to(active().device(device)) for part, device in zip(parts, devices, strict=False)]


def scatter_out(tensor: torch.Tensor, out: Sequence[torch.Tensor], dim: int = 0, streams: Any = None) -> Any:
    """Split `tensor` along `dim` into the given tensors."""
    for part, target in zip(tensor.split([t.size(dim) for t in out], dim), out, strict=True):
        target.copy_(part)
    return list(out)


def gather(tensors: Sequence[torch.Tensor], dim: int = 0, destination: int | None = None) -> torch.Tensor:
    """Concatenate tensors from several devices along `dim` on `destination` (-1 is the CPU)."""
    target = torch.device("cpu") if destination == -1 else active().device(destination)
    if not tensors:
        refuse(WORDS["gather_nothing"])
    first = tensors[0]
    for position, tensor in enumerate(tensors):
        if tensor.is_cpu:
            refuse(WORDS["gather_from_cpu"].format(position))
        if tensor.dim() != first.dim():
            refuse(WORDS["gather_dimensions"].format(position, tensor.dim(), first.dim()))
        expected = [*first.shape[:dim], tensor.size(dim), *first.shape[dim:][1:]]
        if list(tensor.shape) != expected:
            refuse(WORDS["gather_shape"].format(position, list(tensor.shape), expected))
    shape = list(first.shape)
    shape[dim] = sum(tensor.size(dim) for tensor in tensors)
    out = torch.empty(shape, dtype=first.dtype, device=target)
    if first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last):
        out = out.to(memory_format=torch.channels_last)
    return gather_out(tensors, out, dim)


def gather_out(tensors: Sequence[torch.Tensor], out: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Concatenate tensors from several devices along `dim` into `out`."""
    for part, tensor in zip(out.split([t.size(dim) for t in tensors], dim), tensors, strict=True):
        part.copy_(tensor)
    return out


def broadcast(tensor: torch.Tensor, devices: Sequence[int]) -> list[torch.Tensor]:
    """Copy `tensor` to each device; where it already is, it is itself."""
    return [tensor.to(active().device(device)) for device in devices]


def broadcast_out(tensor: torch.Tensor, out: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Copy `tensor` into each tensor of `out`."""
    return [target.copy_(tensor) for target in out]


def broadcast_coalesced(
    tensors: Sequence[torch.Tensor], devices: Sequence[int], buffer_size: int = 0
) -> list[list[torch.Tensor]]:
    """Copy all tensors to each device: one list a device; the first list holds the originals."""
    if any(tensor.device.index != devices[0] for tensor in tensors):
        raise RuntimeError("all tensors must be on devices[0]")
    targets = [active().device(device) for device in devices]
    return [[t if t.device == target else move(t, target) for t in tensors] for target in targets]


class _ReplicaThread:
    """Stands in for `threading.Thread`: done when `start` returns, so that replicas run in device order.

    One worker thread serves all replicas. So they have a thread's own settings, such as autocast's dtype, as
    on real GPUs, and keep its memory warm.
    """

    worker: ThreadPoolExecutor

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._task = target, *args

    def start(self) -> None:
        """Run the replica."""
        self.worker.submit(*self._task).result()

    def join(self) -> None:
        """Return at once: it has run."""


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): the C functions under `torch.nn.parallel`."""
    functions = (scatter, scatter_out, gather, gather_out, broadcast, broadcast_out, broadcast_coalesced)
    yield from ((torch._C, f"_{function.__name__}", function) for function in functions)
    yield torch.cuda.nccl, "is_available", lambda tensors: False
    thread = type("Thread", (_ReplicaThread,), {"worker": ThreadPoolExecutor(1)})
    module = sys.modules["torch.nn.parallel.parallel_apply"]
    yield module, "threading", SimpleNamespace(Thread=thread, Lock=threading.Lock)
    yield _functions, "_streams", None  # a cache of real streams
