"""`torch.autocast("cuda")` on virtual GPUs.

Virtual tensors carry CUDA's autocast key, so PyTorch's own context manager reaches CUDA's autocast kernels.
Those skip tensors that C++ does not see on a GPU; therefore the same lists of operations are registered here,
for as long as virtual GPUs are on. CPU tensors are left alone, as on a real GPU. The lists are read from the
header that the installed PyTorch brings along, so they are those of its version.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from .errors import OPERATIONS, WORDS, refuse
from .machine import Machine, operator
from .tensor import VirtualTensor

_HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
_key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)
# Low-precision copies of parameters, made once per autocast block: id -> (parameter, copy).
_copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}


def lists() -> dict[str, list[str]]:
    """Return the operations by policy: "LOWER_PRECISION_FP", "FP32", "FP32_SET_OPT_DTYPE", "PROMOTE"."""
    text = _HEADER.read_text(encoding="utf-8")
    found = {}
    for policy, body in re.findall(r"#define AT_FORALL_(\w+)\(_\)(.*?)\n\n", text, re.S):
        names = re.findall(r"_\((\w+)(?:, (\w+))?\)", body)
        found[policy] = [f"{name}.{overload}".rstrip(".") for name, overload in names]
    return found


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Cast floating-point virtual tensors to `dtype`, also inside lists; float64 stays."""
    if isinstance(value, (list, tuple)):
        return [_cast(item, dtype) for item in value]
    if not isinstance(value, VirtualTensor) or not value.is_floating_point():
        return value
    if value.dtype in (dtype, torch.float64):
        return value
    keep = value.requires_grad and value.is_leaf and torch.is_grad_enabled()
    if not keep or dtype is torch.float32 or not torch.is_autocast_cache_enabled():
        return value.to(dtype)
    if id(value) not in _copies:
        _copies[id(value)] = (value, value.to(dtype))
    return _copies[id(value)][1]


def _widest(args: Any) -> torch.dtype:
    """Return float32 if any floating-point virtual tensor has it, else the low precision."""
    flat = [item for value in args for item in (value if isinstance(value, (list, tuple)) else [value])]
    wide = any(isinstance(item, VirtualTensor) and item.dtype is torch.float32 for item in flat)
    return torch.float32 if wide else torch.get_autocast_dtype("cuda")


def _kernel(op: Any, rule: Callable[[Any], torch.dtype]) -> Callable[..., Any]:
    """Return the autocast kernel of `op`: cast the virtual arguments, then run it without autocast."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_key):
            dtype = rule(args)
            args = tuple(_cast(value, dtype) for value in args)
            return op(*args, **{name: _cast(value, dtype) for name, value in kwargs.items()})

    return run


def _banned(*args: Any, **kwargs: Any) -> None:
    """Raise CUDA's error for a loss that overflows in half precision."""
    refuse(WORDS["bce"])


def kernels() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Yield (operator, dispatch key, kernel): CUDA's lists, for virtual tensors."""
    known = lists()
    known["LOWER_PRECISION_FP"] += OPERATIONS["recurrent"]  # by cuDNN
    known["FP32"] += OPERATIONS["norms"]
    rules = (
        (known["LOWER_PRECISION_FP"], lambda args: torch.get_autocast_dtype("cuda")),
        (known["FP32"] + known["FP32_SET_OPT_DTYPE"], lambda args: torch.float32),
        (known["PROMOTE"], _widest),
    )
    for names, rule in rules:
        yield from ((name, "AutocastCUDA", _kernel(operator(name), rule)) for name in names)
    yield "binary_cross_entropy", "AutocastCUDA", _banned


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): the end of an autocast block drops the low-precision copies."""
    real = torch.clear_autocast_cache

    def clear() -> None:
        _copies.clear()
        real()

    yield torch, "clear_autocast_cache", clear
