"""What `nn.SyncBatchNorm` calls: operators that PyTorch has for CUDA alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from .machine import active
from .tensor import VirtualTensor, wrap

aten = torch.ops.aten


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least, in which CUDA adds up."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _others(tensor: Tensor) -> list[int]:
    """Return the dimensions but the channels'."""
    return [0, *range(2, tensor.dim())]


def _across(values: Tensor, tensor: Tensor) -> Tensor:
    """Give one value per channel the shape that goes with a tensor."""
    return _wide(values).view(-1, *[1] * (tensor.dim() - 2))


def _stats(given: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(_wide(given), _others(given), correction=0)
    return mean, (variance + eps).rsqrt()


def _gather_stats(
    given: Tensor,
    means: Tensor,
    invstds: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    means, shares, count = _wide(means), counts[:, None] / counts.sum(), counts.sum()
    mean = (means * shares).sum(0)
    variance = ((_wide(invstds) ** -2 - eps + (means - mean) ** 2) * shares).sum(0)
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    return mean, (variance + eps).rsqrt()


def _normalize(
    given: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, invstd: Tensor, eps: float
) -> Tensor:
    result = (given - _across(mean, given)) * _across(invstd, given)
    result = result if weight is None else result * _across(weight, given)
    return (result if bias is None else result + _across(bias, given)).to(given.dtype)


def _reduce(
    gradient: Tensor, given: Tensor, mean: Tensor, invstd: Tensor, weight: Tensor | None, *_: bool
) -> tuple[Tensor, ...]:
    total = _wide(gradient).sum(_others(given))
    apart = (gradient * (given - _across(mean, given))).sum(_others(given))
    like = given if weight is None else weight
    return total, apart, (apart * invstd).to(like.dtype), total.to(like.dtype)


def _gradient(
    gradient: Tensor,
    given: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    total: Tensor,
    apart: Tensor,
    counts: Tensor,
) -> Tensor:
    count, invstd = counts.sum(), _across(invstd, given)
    apart = (given - _across(mean, given)) * invstd**2 * _across(apart, given) / count
    result = (gradient - _across(total, given) / count - apart) * invstd
    return (result if weight is None else result * _across(weight, given)).to(given.dtype)


def _run(compute: Callable[..., Any], *args: Any) -> Any:
    """Compute with the inner tensors."""
    active().check()
    inner = tree_map_only(VirtualTensor, lambda tensor: tensor._inner, args)
    return tree_map_only(Tensor, lambda result: wrap(result, args[0].device), compute(*inner))


KERNELS: dict[Any, Callable[..., Any]] = {
    aten.batch_norm_stats.default: partial(_run, _stats),
    aten.batch_norm_gather_stats_with_counts.default: partial(_run, _gather_stats),
    aten.batch_norm_elemt.default: partial(_run, _normalize),
    aten.batch_norm_backward_reduce.default: partial(_run, _reduce),
    aten.batch_norm_backward_elemt.default: partial(_run, _gradient),
}
