"""Gradients and parameters as one long vector, and the memory that a call takes."""

import gc
from collections.abc import Callable, Iterable
from typing import Any

import torch


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return some tensors as one long one."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def agree(one: torch.Tensor, two: torch.Tensor, relative: float = 1e-4) -> bool:
    """Tell whether two vectors are the same but for rounding."""
    return bool((one - two).norm() <= relative * two.norm())


def peak_of(run: Callable[[], Any], gpu: torch.device) -> int:
    """Return how many bytes more than before a call has allocated at its peak."""
    gc.collect()
    torch.cuda.reset_peak_memory_stats(gpu)
    before = torch.cuda.memory_allocated(gpu)
    run()
    return torch.cuda.max_memory_allocated(gpu) - before
