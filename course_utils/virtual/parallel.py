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
    if not out:
        refuse(WORDS["scatter_to_nothing"])
    dim += tensor.dim() * (dim < 0)
    _on_gpus(out, "output_on_cpu")
    for position, target in enumerate(out):
        expected = [*tensor.shape[:dim], *target.shape[dim : dim + 1], *tensor.shape[dim + 1 :]]
        if list(target.shape) != expected:
            refuse(WORDS["output_shape"].format(position, list(target.shape), dim, list(tensor.shape)))
    total = sum(target.size(dim) for target in out)
    if total != tensor.size(dim):
        refuse(WORDS["output_total"].format(dim, dim, tensor.size(dim), total))
    for part, target in zip(tensor.split([t.size(dim) for t in out], dim), out, strict=True):
        target.copy_(part)
    return list(out)


def _on_gpus(tensors: Sequence[torch.Tensor], words: str) -> None:
    """Refuse tensors on the CPU."""
    for position, tensor in enumerate(tensors):
        if tensor.is_cpu:
            refuse(WORDS[words].format(position, tensor.device))


def _gathered(tensors: Sequence[torch.Tensor], dim: int, words: str) -> list[int]:
    """Return the shape of the tensors put together along `dim`; refuse what does not fit."""
    if not tensors:
        refuse(WORDS["gather_nothing"])
    _on_gpus(tensors, words)
    first = tensors[0]
    dim += first.dim() * (dim < 0)
    for position, tensor in enumerate(tensors):
        if tensor.dim() != first.dim():
            refuse(WORDS["gather_dimensions"].format(position, tensor.dim(), first.dim()))
        expected = [*first.shape[:dim], tensor.size(dim), *first.shape[dim + 1 :]]
        if list(tensor.shape) != expected:
            refuse(WORDS["gather_shape"].format(position, list(tensor.shape), expected))
    return [*first.shape[:dim], sum(tensor.size(dim) for tensor in tensors), *first.shape[dim + 1 :]]


def gather(tensors: Sequence[torch.Tensor], dim: int = 0, destination: int | None = None) -> torch.Tensor:
    """Concatenate tensors from several devices along `dim` on `destination` (-1 is the CPU)."""
    target = torch.device("cpu") if destination == -1 else active().device(destination)
    out = torch.empty(_gathered(tensors, dim, "gather_from_cpu"), dtype=tensors[0].dtype, device=target)
    if out.dim() == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        out = out.to(memory_format=torch.channels_last)
    return _put_together(tensors, out, dim)


def gather_out(tensors: Sequence[torch.Tensor], out: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Concatenate tensors from several devices along `dim` into `out`."""
    shape = _gathered(tensors, dim, "gather_out_from_cpu")
    if list(out.shape) != shape:
        refuse(WORDS["gather_into"].format(shape, list(out.shape)))
    return _put_together(tensors, out, dim)


def _put_together(tensors: Sequence[torch.Tensor], out: torch.Tensor, dim: int) -> torch.Tensor:
    """Copy tensors that fit side by side into `out`."""
    for part, tensor in zip(out.split([t.size(dim) for t in tensors], dim), tensors, strict=True):
        part.copy_(tensor)
    return out


def broadcast(tensor: torch.Tensor, devices: Sequence[int]) -> list[torch.Tensor]:
    """Copy `tensor` to each device; where it already is, it is itself."""
    return [tensor.to(active().device(device)) for device in devices]


def broadcast_out(tensor: torch.Tensor, out: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Copy `tensor` into each tensor of `out`."""
    _on_gpus(out, "output_on_cpu")
    for position, target in enumerate(out):
        if target.shape != tensor.shape:
            refuse(WORDS["broadcast_shape"].format(list(tensor.shape), position, list(target.shape)))
    return [target.copy_(tensor) for target in out]


def broadcast_coalesced(
    tensors: Sequence[torch.Tensor], devices: Sequence[int], buffer_size: int = 0
) -> list[list[torch.Tensor]]:
    """Copy all tensors to each device: one list a device; the first list holds the originals."""
    if any(tensor.device.index != devices[0] for tensor in tensors):
        refuse(WORDS["broadcast_from"].format(devices[0]))
    targets = [active().device(device) for device in devices]
    return [[t if t.device == target else move(t.detach(), target) for t in tensors] for target in targets]


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
