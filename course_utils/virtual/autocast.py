"""`torch.autocast("cuda")` on virtual GPUs.

A virtual tensor looks like a CPU tensor to C++, so autocast for the CPU is switched on along with the one
for CUDA. Where CUDA's lists of operations go further than the CPU's, they are registered here for the time
virtual GPUs are on. Lists: https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from .machine import Machine
from .tensor import VirtualTensor

_FLOAT32 = """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan softplus
layer_norm group_norm logsumexp pdist renorm norm.Scalar norm.ScalarOpt_dim pow.Tensor_Scalar
pow.Tensor_Tensor pow.Scalar softmax.int log_softmax.int cumsum cumprod sum sum.dim_IntList
cosine_similarity""".split()
_LOWER = "mv addmv addr chain_matmul linalg_multi_dot".split()
_key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Cast floating-point virtual tensors to `dtype`, also inside lists."""
    if isinstance(value, VirtualTensor):
        eligible = value.is_floating_point() and value.dtype is not torch.float64
        return value.to(dtype) if eligible else value
    return [_cast(item, dtype) for item in value] if isinstance(value, (list, tuple)) else value


def _kernel(op: Any, lower: bool) -> Callable[..., Any]:
    """Return the autocast kernel of `op`: cast the virtual arguments, then call it without autocast."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_key):
            if any(isinstance(value, VirtualTensor) for value in args):
                dtype = torch.get_autocast_dtype("cuda") if lower else torch.float32
                args = tuple(_cast(value, dtype) for value in args)
            return op(*args, **kwargs)

    return run


def register() -> torch.library.Library:
    """Register CUDA's lists; call `_destroy()` on the result to take them back."""
    library = torch.library.Library("aten", "IMPL")
    for names, lower in ((_FLOAT32, False), (_LOWER, True)):
        for name in names:
            packet, _, overload = name.partition(".")
            op = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(name, _kernel(op, lower), "AutocastCPU")
    return library


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): entering autocast for CUDA enters it for virtual tensors too."""
    real_enter, real_exit = torch.autocast.__enter__, torch.autocast.__exit__

    def enter(self: torch.autocast) -> Any:
        if self.device == "cuda":
            self._cpu_before = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
            torch.set_autocast_enabled("cpu", self._enabled)
            torch.set_autocast_dtype("cpu", self.fast_dtype)
        return real_enter(self)

    def leave(self: torch.autocast, *exc: Any) -> Any:
        result = real_exit(self, *exc)
        if self.device == "cuda":
            enabled, dtype = self._cpu_before
            torch.set_autocast_enabled("cpu", enabled)
            torch.set_autocast_dtype("cpu", dtype)
        return result

    yield torch.autocast, "__enter__", enter
    yield torch.autocast, "__exit__", leave
