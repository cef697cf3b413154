"""Functions whose C++ code makes a helper tensor of its own.

Such a tensor is made where C++ believes the arguments are: on the CPU. While one of these functions runs on
virtual tensors alone, a CPU tensor that turns up inside must be such a helper, and is taken in. (Found by
running PyTorch's own samples of some 700 operators on a virtual GPU.)

And dropout, which CUDA computes in another way.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional

from .machine import Machine, active, is_active
from .tensor import VirtualTensor

_NAMES = {
    functional: "one_hot cosine_similarity scaled_dot_product_attention",
    torch: "cosine_similarity quantile nanquantile pinverse",
    torch.Tensor: "quantile nanquantile pinverse",
    torch.linalg: "pinv matrix_rank",
}


def _flat(values: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors among arguments, also those in lists."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        elif isinstance(value, torch.Tensor):
            yield value


def _taking_in(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function: on virtual tensors alone, CPU tensors it makes are taken in."""

    @functools.wraps(real)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = list(_flat([*args, *kwargs.values()]))
        if not is_active() or not given or not all(type(tensor) is VirtualTensor for tensor in given):
            return real(*args, **kwargs)
        machine = active()
        before, machine.taking_in = machine.taking_in, True
        try:
            return real(*args, **kwargs)
        finally:
            machine.taking_in = before

    return run


def _dropout(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap dropout: on CUDA it is one kernel that keeps a mask of booleans, on the CPU one of floats."""

    def run(given: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        fused = type(given) is VirtualTensor and train and 0 < p < 1 and given.numel() > 0
        return torch.native_dropout(given, p, train)[0] if fused else real(given, p, train)

    return run


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) for each of these functions."""
    for owner, names in _NAMES.items():
        yield from ((owner, name, _taking_in(getattr(owner, name))) for name in names.split())
    yield torch, "dropout", _dropout(torch.dropout)
    yield torch._VF, "dropout", _dropout(torch._VF.dropout)  # what nn.functional calls
