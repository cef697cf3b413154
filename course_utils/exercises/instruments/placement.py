"""GPUs to try an answer on, real or virtual, networks to put there, and what an answer leaves."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from course_utils.virtual import virtual_gpus


@contextmanager
def some_gpus(needed: int = 1) -> Iterator[list[torch.device]]:
    """Yield at most 8 GPUs, real or virtual; where there are fewer than `needed`, virtual ones."""
    with ExitStack() as stack:
        if torch.cuda.device_count() < needed:
            stack.enter_context(virtual_gpus(count=8))
        yield [torch.device("cuda", index) for index in range(min(8, torch.cuda.device_count()))]


@contextmanager
def two_devices() -> Iterator[tuple[torch.device, torch.device]]:
    """Yield two devices to try an answer on: two GPUs, real or virtual, or the one there is and the CPU.

    After the block the current GPU is that of before.
    """
    with some_gpus() as gpus, torch.cuda.device(0):
        yield tuple([*gpus, torch.device("cpu")][:2])


def filled(net: nn.Module) -> nn.Module:
    """Fill a network with numbers of its own, its buffers too, and return it."""
    for tensor in net.state_dict().values():
        tensor.copy_(torch.randint(1_000, tensor.shape))
    return net


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Take a plain step of a classifier; return its loss."""
    optimizer.zero_grad()
    loss = cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return some tensors, such as parameters, as one long one."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def content_of(file: Path) -> Any:
    """Return what the default torch.load makes of a file; None where it refuses it."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged or foreign file leads to
        return None


def peak_of(run: Callable[[], Any], gpu: torch.device) -> int:
    """Return how many bytes more than before a call has allocated at its peak."""
    gc.collect()
    torch.cuda.reset_peak_memory_stats(gpu)
    before = torch.cuda.memory_allocated(gpu)
    run()
    return torch.cuda.max_memory_allocated(gpu) - before
