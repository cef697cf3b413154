"""Making tensors on a virtual GPU: every factory with `device=`, `*_like`, `new_*`, and default devices."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.jit import _builtins
from torch.utils._device import DeviceContext, _device_constructors

from .dispatch import check_generator, on_stream_of
from .machine import Machine, active, is_active
from .moves import to
from .tensor import VirtualTensor, wrap

_RANDOM = ["normal"]  # a factory in one of its forms
_LIKE = "empty_like full_like ones_like rand_like randint_like randn_like zeros_like".split()
_NEW = "new_empty new_empty_strided new_full new_ones new_zeros".split()
# These take existing data, which is then copied to the device.
_FROM_DATA = frozenset({"tensor", "as_tensor", "asarray"})
_constructors = frozenset(_device_constructors())


def create_on(
    real: Callable[..., torch.Tensor], device: torch.device, args: Any, kwargs: dict[str, Any]
) -> torch.Tensor:
    """Call factory `real` so that its result lives on virtual `device`.

    Raises:
        torch.OutOfMemoryError: the tensor does not fit; known before any host memory is touched.
    """
    machine = active()
    machine.check()
    requires_grad = kwargs.pop("requires_grad", False)
    check_generator(kwargs.get("generator"), device)
    if kwargs.pop("pin_memory", False):
        raise RuntimeError("Only dense CPU tensors can be pinned")
    if real.__name__ in _FROM_DATA:
        data = args[0].detach() if isinstance(args[0], torch.Tensor) else real(*args, **kwargs, device="cpu")
        result = to(data, device, dtype=kwargs.get("dtype"), copy=real.__name__ != "as_tensor")
    else:
        args = [value._inner if isinstance(value, VirtualTensor) else value for value in args]
        _measure(machine, real, device, args, kwargs)
        result = wrap(on_stream_of(machine, device, real, args, {**kwargs, "device": "cpu"}), device)
    return result.requires_grad_() if requires_grad else result


def _measure(
    machine: Machine, real: Callable[..., Any], device: torch.device, args: Any, kwargs: Any
) -> None:
    """Ask the meta device how big the tensor will be, and whether that fits."""
    if kwargs.get("out") is not None or kwargs.get("generator") is not None:
        return
    try:
        size = real(*args, **{**kwargs, "device": "meta"}).nbytes
    except (NotImplementedError, RuntimeError, TypeError):
        return  # no meta kernel, or bad arguments: the real call will say so
    machine.demand(size, device.index)


def _plain(value: Any) -> Any:
    """Turn virtual tensors inside lists into numbers, as `torch.tensor([loss, loss])` does."""
    if isinstance(value, (list, tuple)):
        return [item.tolist() if isinstance(item, VirtualTensor) else _plain(item) for item in value]
    return value


def _create_here(real: Callable[..., torch.Tensor], args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
    """Call a factory that names no device; check what the CPU would refuse if CUDA were real."""
    generator = kwargs.get("generator")
    if generator is not None and not torch._C._len_torch_function_stack():
        like = next((value for value in args if isinstance(value, torch.Tensor)), None)
        check_generator(generator, torch.device("cpu") if like is None else like.device)
    if kwargs.get("pin_memory"):
        return real(*args, **{**kwargs, "pin_memory": False}).pin_memory()
    return real(*args, **kwargs)


def _factory(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap a factory: `device=` may name a virtual GPU."""

    @functools.wraps(real)
    def create(*args: Any, **kwargs: Any) -> torch.Tensor:
        if not is_active():
            return real(*args, **kwargs)
        if real.__name__ in _FROM_DATA:
            args = tuple(_plain(value) for value in args)
        if kwargs.get("device") is None:
            return _create_here(real, args, kwargs)
        device = active().device(kwargs["device"])
        if device.type == "cuda":
            del kwargs["device"]
            return create_on(real, device, args, kwargs)
        if args and isinstance(args[0], VirtualTensor):  # torch.zeros_like(on_gpu, device="cpu")
            if real.__name__ in _FROM_DATA:
                return to(args[0].detach(), device, dtype=kwargs.get("dtype"))
            args = (args[0]._inner, *args[1:])
        return real(*args, **kwargs)

    return create


def _device_context(self: DeviceContext, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """`with torch.device("cuda"):` and `torch.set_default_device`: fill in the device of factories."""
    kwargs = kwargs or {}
    if func in _constructors and kwargs.get("device") is None:
        device = active().device(self.device)
        if device.type == "cuda":
            kwargs.pop("device", None)
            return create_on(func, device, args, kwargs)
        kwargs["device"] = device
    return func(*args, **kwargs)


def _new_tensor(tensor: torch.Tensor, data: Any, **kwargs: Any) -> torch.Tensor:
    """`tensor.new_tensor(data)`: a copy of `data` with the type and device of `tensor`."""
    like = {"dtype": tensor.dtype, "device": tensor.device}
    return torch.tensor(data, **like | {key: value for key, value in kwargs.items() if value is not None})


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) for every factory."""
    _builtins._get_builtin_table()  # TorchScript's, which is made once: with PyTorch's own functions
    find = _builtins._find_builtin
    yield _builtins, "_find_builtin", lambda function: find(getattr(function, "__wrapped__", function))
    owners = {
        torch: [f.__name__ for f in _constructors] + _LIKE + _RANDOM,
        torch.Tensor: _NEW,
        torch.fft: ["fftfreq", "rfftfreq"],
    }
    for owner, names in owners.items():
        for name in names:
            real = getattr(owner, name, None)
            if real is not None and (owner is not torch or name not in ("fill", "fftfreq", "rfftfreq")):
                yield owner, name, _factory(real)
    yield DeviceContext, "__torch_function__", _device_context
    yield torch.Tensor, "new_tensor", _new_tensor
