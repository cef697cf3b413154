"""Functions whose C++ code makes a helper tensor of its own.

Such a tensor is made where C++ believes the arguments are: on the CPU. While one of these functions runs on
virtual tensors alone, a CPU tensor that turns up inside must be such a helper, and is taken in. (Found by
running PyTorch's own samples of some 700 operators on a virtual GPU.)

And dropout, which CUDA computes in another way, and recurrent networks, whose devices it checks first.
"""

import functools
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch.nn import functional

from .errors import WORDS, refuse
from .machine import Machine, active, is_active
from .startup.sitecustomize import when_imported
from .tensor import VirtualTensor, wrap

_NAMES = {
    functional: "cosine_similarity scaled_dot_product_attention",
    torch: "combinations cosine_similarity quantile nanquantile pinverse istft",
    torch.Tensor: "quantile nanquantile pinverse istft",
    torch.sparse: "mm",
    torch.linalg: "matrix_norm matrix_rank norm pinv",
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
        with active().allowing("taking_in"):
            result = real(*args, **kwargs)
        return wrap(result, given[0].device) if type(result) is torch.Tensor else result

    return run


def _on_host(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a check that reads the numbers itself: it gets the plain tensors."""

    def run(*args: Any, **options: Any) -> None:
        real(*[value._inner if type(value) is VirtualTensor else value for value in args], **options)

    return run


def _tensor_split(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `tensor_split`: C++ reads the places to split at, and wants them on the CPU."""

    def run(given: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        for places in (*args, *kwargs.values()):
            if type(places) is VirtualTensor:
                refuse(WORDS["split_places"].format(places.device))
        return real(given, *args, **kwargs)

    return run


def _one_hot(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `one_hot`: CUDA relies on `scatter_` to find a class that does not exist."""
    taking_in = _taking_in(real)

    def run(given: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
        result = taking_in(given, num_classes)
        on_gpu = type(given) is VirtualTensor
        return torch.zeros_like(result).scatter_(-1, given[..., None], 1) if on_gpu else result

    return run


def _ctc_loss(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the CTC loss: its lengths may be numbers, or tensors anywhere."""
    taking_in = _taking_in(real)

    def run(scores: torch.Tensor, targets: torch.Tensor, *rest: Any) -> torch.Tensor:
        lengths = [one.reshape(-1).tolist() if isinstance(one, torch.Tensor) else one for one in rest[:2]]
        return taking_in(scores, targets, *lengths, *rest[2:])

    return run


def _pad(tensor: torch.Tensor, rows: int, value: float, side: str = "right") -> torch.Tensor:
    """Return a tensor with rows of `value` added at one side, up to `rows`."""
    missing = rows - len(tensor)
    sides = [0, missing] if side == "right" else [missing, 0]
    return functional.pad(tensor, [0, 0] * (tensor.dim() - 1) + sides, value=value)


def _pad_sequence(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `pad_sequence`: its result is on the sequences' device."""

    def run(sequences: Any, batch_first: bool = False, value: float = 0.0, side: str = "right") -> Any:
        if type(sequences[0]) is not VirtualTensor:
            return real(sequences, batch_first, value, side)
        rows = max(map(len, sequences))
        return torch.stack([_pad(one, rows, value, side) for one in sequences], 0 if batch_first else 1)

    return run


def _pad_packed(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the unpacking of a packed sequence: the result is on its device, the lengths on the CPU."""

    def run(data: torch.Tensor, sizes: torch.Tensor, batch_first: bool, value: float, total: int) -> Any:
        if type(data) is not VirtualTensor:
            return real(data, sizes, batch_first, value, total)
        steps = [_pad(step, int(sizes[0]), value) for step in data.split(sizes.tolist())]
        steps += [torch.full_like(steps[0], value)] * (total - len(steps))
        lengths = (sizes > torch.arange(int(sizes[0]))[:, None]).sum(1)
        return torch.stack(steps, 1 if batch_first else 0), lengths

    return run


def _dropout(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap dropout: on CUDA it is one kernel that keeps a mask of booleans, on the CPU one of floats."""

    def run(given: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        fused = type(given) is VirtualTensor and train and 0 < p < 1 and given.numel() > 0
        return torch.native_dropout(given, p, train)[0] if fused else real(given, p, train)

    return run


def _check_recurrent(given: torch.Tensor, hidden: Any, weights: Any) -> None:
    """Raise CUDA's error when hidden state or parameters are not where the input is."""
    hidden = hidden if isinstance(hidden, (list, tuple)) else [hidden]
    for what, tensors in (("hidden", hidden), ("parameter", weights)):
        for tensor in tensors:
            if tensor.device != given.device:
                refuse(WORDS["recurrent"].format(what, given.device, what, tensor.device))


def _recurrent(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a recurrent network below `torch.nn`: CUDA checks devices before it runs one.

    One without a bias gets one of zeros from C++.
    """
    taking_in = _taking_in(real)

    def run(given: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 8:  # (hidden, weights, ...); a packed sequence: (batch_sizes, hidden, weights, ...)
            packed = isinstance(args[0], torch.Tensor) and isinstance(args[2], (list, tuple))
            hidden, weights = args[1:3] if packed else args[:2]
            _check_recurrent(given, hidden, weights)
        return taking_in(given, *args, **kwargs)

    return run


def _without_a_compiler(flex: Any) -> None:
    """Let `flex_attention` compute step by step, as it does on CUDA where it is not compiled."""
    real = flex.flex_attention_hop

    def attend(query: torch.Tensor, *args: Any) -> Any:
        if type(query) is not VirtualTensor:
            return real(query, *args)
        tracing = import_module("torch._dynamo._trace_wrapped_higher_order_op")
        with tracing.TransformGetItemToIndex():
            return import_module("torch._higher_order_ops.flex_attention").sdpa_dense(query, *args)

    flex.flex_attention_hop = attend


when_imported("torch.nn.attention.flex_attention", _without_a_compiler)


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) for each of these functions."""
    for owner, names in _NAMES.items():
        yield from ((owner, name, _taking_in(getattr(owner, name))) for name in names.split())
    for owner in (torch, torch.Tensor):
        yield owner, "tensor_split", _tensor_split(owner.tensor_split)
    for name in filter(re.compile("_validate_sparse_.*_args").match, dir(torch)):
        yield torch, name, _on_host(getattr(torch, name))
    yield functional, "one_hot", _one_hot(functional.one_hot)
    yield torch, "ctc_loss", _ctc_loss(torch.ctc_loss)
    yield torch._C._nn, "pad_sequence", _pad_sequence(torch._C._nn.pad_sequence)
    yield torch._VF, "_pad_packed_sequence", _pad_packed(torch._VF._pad_packed_sequence)
    yield torch, "dropout", _dropout(torch.dropout)
    yield torch._VF, "dropout", _dropout(torch._VF.dropout)  # what nn.functional calls
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        yield torch._VF, name, _recurrent(getattr(torch._VF, name))
