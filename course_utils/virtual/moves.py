"""Moving tensors: `.to`, `.cuda`, `.cpu`, `copy_`, `.data =`, pinned memory.

Each replacement hands plain CPU work to the real method and acts only where a virtual GPU is involved.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, UninitializedTensorMixin
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import tree_map_only

from .errors import WORDS
from .machine import Machine, active, crossing
from .tensor import VirtualTensor, become, wrap

_functorch = torch._C._functorch
_NO_COPY = "Virtual GPUs do not carry copies to another device while gradients are transformed or batched."
_real_to = torch.Tensor.to
_real_copy = torch.Tensor.copy_
_real_device = torch.Tensor.device
_real_data = torch.Tensor.data
_real_type = torch.Tensor.type
_real_materialize = UninitializedTensorMixin.materialize


class ToCopy(torch.autograd.Function):
    """A copy from one device to another; its gradient travels the other way."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, device: torch.device, options: dict[str, Any]
    ) -> torch.Tensor:
        ctx.source = tensor.device, {"dtype": tensor.dtype}
        return transfer(tensor, device, options)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return move(gradient, *ctx.source), None, None


ToCopy._backward_cls.__name__ = "ToCopyBackward0"  # the name PyTorch's own copy has


def transfer(tensor: torch.Tensor, device: torch.device, options: dict[str, Any]) -> torch.Tensor:
    """Copy `tensor` to `device`, outside autograd. `options`: dtype, memory_format."""
    machine = active()
    machine.check()
    if isinstance(tensor, FakeTensor):
        raise NotImplementedError(WORDS["compiler"])
    if hasattr(tensor, "trigger_wait"):  # an AsyncCollectiveTensor, whose numbers are on the way
        return transfer(tensor.trigger_wait(), device, options)
    if is_traceable_wrapper_subclass(tensor):  # such as a DTensor: what it is made of moves
        names, context = tensor.__tensor_flatten__()
        parts = {name: getattr(tensor, name) for name in names}
        parts = tree_map_only(torch.Tensor, lambda part: transfer(part, device, options), parts)
        return tensor.__tensor_unflatten__(parts, context, tensor.shape, tensor.stride()).detach()
    if _functorch.is_legacy_batchedtensor(tensor):
        raise NotImplementedError(_NO_COPY)
    source = tensor._inner if isinstance(tensor, VirtualTensor) else tensor
    if device.type == "cuda":
        itemsize = (options.get("dtype") or source.dtype).itemsize
        if source.layout is torch.strided:
            machine.demand(source.numel() * itemsize, device.index)
        result = wrap(_real_to(source.detach(), "cpu", copy=True, **options), device)
    else:
        machine.synchronizing()
        result = _real_to(source.detach(), device, copy=True, **options)
    crossing("to", tensor, result)
    return result


def move(tensor: torch.Tensor, device: torch.device, options: dict[str, Any] | None = None) -> torch.Tensor:
    """Copy `tensor` to another device; gradients flow back through the copy."""
    options = {key: value for key, value in (options or {}).items() if value is not None}
    if tensor.requires_grad and torch.is_grad_enabled():
        return ToCopy.apply(tensor, device, options)
    return transfer(tensor, device, options)


def _parse(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Read the arguments of `Tensor.to`: device, dtype, non_blocking, copy, memory_format, other."""
    found = dict(kwargs)
    names = ["device", "dtype", "non_blocking", "copy"]
    if args and isinstance(args[0], torch.dtype):
        names = names[1:]
    if args and isinstance(args[0], torch.Tensor):
        names[:2] = ["other"]
    found.update(zip(names, args, strict=False))
    other = found.pop("other", None)
    if other is not None:
        found.update(device=other.device, dtype=other.dtype)
    return found


def _device(tensor: torch.Tensor) -> torch.device:
    """`Tensor.device`, also of what `torch.func` has wrapped: C++ believes that to be on the CPU."""
    wrapped = _functorch.is_functorch_wrapped_tensor(tensor)
    return _functorch.get_unwrapped(tensor).device if wrapped else _real_device.__get__(tensor)


def _in_transform(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """`Tensor.to` inside `torch.func.vmap` and its like.

    Raises:
        NotImplementedError: the tensor is one that a gradient is taken of.
    """
    if not _functorch.is_batchedtensor(tensor):
        raise NotImplementedError(_NO_COPY)
    moved = to(_functorch.get_unwrapped(tensor), *args, **kwargs)
    place = _functorch.maybe_get_bdim(tensor), _functorch.maybe_get_level(tensor)
    return _functorch._add_batch_dim(moved, *place)


def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """`Tensor.to`: the same object when nothing changes, a copy otherwise."""
    asked = _parse(args, kwargs)
    wanted = asked.pop("device", None)
    virtual = tensor.is_cuda
    device = tensor.device if wanted is None else active().device(wanted)
    if device != tensor.device and _functorch.is_functorch_wrapped_tensor(tensor):
        return _in_transform(tensor, *args, **kwargs)
    if not virtual and device.type != "cuda":
        return _real_to(tensor, *args, **kwargs)
    if isinstance(tensor, UninitializedTensorMixin):
        return type(tensor)(tensor.requires_grad, device, asked.get("dtype") or tensor.dtype)
    if device == tensor.device:
        asked.pop("non_blocking", None)
        return _real_to(tensor, **asked) if any(v is not None for v in asked.values()) else tensor
    options = {key: asked.get(key) for key in ("dtype", "memory_format")}
    return move(tensor, device, options)


def _lazy(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap `UninitializedParameter` and its like: on a GPU they promise to be made there."""
    learns = real.__defaults__[0]

    def new(cls: Any, requires_grad: bool = learns, device: Any = None, *rest: Any, **options: Any) -> Any:
        home = None if device is None else active().device(device)
        if home is None or home.type != "cuda":
            return real(cls, requires_grad, device, *rest, **options)
        made = real(cls, requires_grad, "cpu", *rest, **options)
        made._promised = home
        return made

    return new


def _promised_device(self: Any) -> torch.device:
    """`.device` of a lazy parameter."""
    return getattr(self, "_promised", None) or _real_device.__get__(self)


def _materialize(self: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
    """Give a lazy parameter its shape, on the device that was promised."""
    home = self.__dict__.pop("_promised", None)
    _real_materialize(self, shape, device if home is None else "cpu", dtype)
    if home is not None:
        become(self, transfer(self, active().device(device or home), {}))


def cuda(
    tensor: torch.Tensor, device: Any = None, non_blocking: bool = False, **options: Any
) -> torch.Tensor:
    """`Tensor.cuda(i)`: copy to GPU `i`, the current one when not given."""
    target = active().device(device)
    if target.type != "cuda":
        raise RuntimeError("Invalid device, must be cuda device")
    return to(tensor, target, **options)


def cpu(tensor: torch.Tensor, **options: Any) -> torch.Tensor:
    """`Tensor.cpu()`: copy to host memory; a CPU tensor comes back as itself."""
    return to(tensor, "cpu", **options)


def copy_(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """`Tensor.copy_`: across devices the source is moved first, so that its gradient finds the way home."""
    crosses = isinstance(source, torch.Tensor) and source.device != target.device
    if crosses and source.requires_grad and torch.is_grad_enabled():
        source = move(source, target.device)
    return _real_copy(target, source, non_blocking)


def type_(tensor: torch.Tensor, dtype: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
    """`Tensor.type`: the name of the type, such as torch.cuda.FloatTensor, or a conversion."""
    if isinstance(dtype, type):
        dtype = f"{dtype.__module__}.{dtype.__name__}"
    if isinstance(dtype, str) and dtype.startswith("torch.cuda."):
        return cuda(tensor).to(torch.empty(0).type(dtype.replace("torch.cuda.", "torch.")).dtype)
    if dtype is None and isinstance(tensor, VirtualTensor):
        return _real_type(tensor._inner).replace("torch.", "torch.cuda.", 1)
    if isinstance(dtype, str) and isinstance(tensor, VirtualTensor):
        return _real_type(cpu(tensor), dtype)
    return _real_type(tensor) if dtype is None else _real_type(tensor, dtype, non_blocking, **kwargs)


def type_as(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """`Tensor.type_as`: the tensor with the dtype of another, and where that is."""
    return to(tensor, other.device, other.dtype)


def pin_memory(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
    """`Tensor.pin_memory`: a copy that counts as pinned (host memory stays what it is)."""
    if is_pinned(tensor):
        return tensor
    copy = tensor.clone()
    active().pin(copy.untyped_storage())
    return copy


def is_pinned(tensor: torch.Tensor, device: Any = None) -> bool:
    """`Tensor.is_pinned`: whether `pin_memory` made it."""
    return active().is_pinned(tensor.untyped_storage())


def _set_data(tensor: torch.Tensor, new: torch.Tensor) -> None:
    """`tensor.data = ...`, which can also change the device."""
    if isinstance(tensor, UninitializedTensorMixin) and isinstance(new, UninitializedTensorMixin):
        _real_data.__set__(tensor, new)
        tensor._promised = getattr(new, "_promised", torch.device("cpu"))
    elif isinstance(tensor, VirtualTensor) or isinstance(new, VirtualTensor):
        become(tensor, new)
    else:
        _real_data.__set__(tensor, new)


_METHODS = {"to": to, "cuda": cuda, "cpu": cpu, "copy_": copy_, "type": type_, "type_as": type_as}
for _name, _method in _METHODS.items():  # a tensor that outlives its GPU still has to say so
    setattr(VirtualTensor, _name, _method)


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): the methods of torch.Tensor that know virtual GPUs."""
    yield from ((torch.Tensor, name, method) for name, method in _METHODS.items())
    yield torch.Tensor, "data", property(_real_data.__get__, _set_data)
    yield torch.Tensor, "device", property(_device)
    yield torch.Tensor, "is_cuda", property(lambda tensor: _device(tensor).type == "cuda")
    yield UninitializedTensorMixin, "materialize", _materialize
    allowed = [*UninitializedTensorMixin._allowed_methods, *_METHODS.values()]
    yield UninitializedTensorMixin, "_allowed_methods", allowed
    for lazy in (UninitializedParameter, UninitializedBuffer):
        yield lazy, "__new__", _lazy(lazy.__new__)
    yield UninitializedTensorMixin, "device", property(_promised_device)
    yield torch.Tensor, "pin_memory", pin_memory
    yield torch.Tensor, "is_pinned", is_pinned
