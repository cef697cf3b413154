"""Making tensors on a virtual GPU.

All of PyTorch's factories end in the same few CUDA kernels. `kernels` are put in their place, so that every
way to a factory leads to a virtual GPU: `torch.zeros`, the same function taken out of torch earlier,
C++, TorchScript. Where data, a generator or pinned memory is given, there is something to be done before.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.jit import _builtins
from torch.utils._device import DeviceContext, _device_constructors
from torch.utils._pytree import tree_leaves, tree_map_only

from .dispatch import check_generator
from .errors import WORDS, absent, refuse
from .machine import Machine, active, is_active, operator
from .moves import to
from .tensor import VirtualTensor, wrap

_KERNELS = {
    "CUDA": "empty.memory_format empty_strided tril_indices triu_indices",
    "SparseCUDA": "empty.memory_format",
}
_LIKE = "empty_like full_like ones_like rand_like randint_like randn_like zeros_like".split()
_NEW = "new_empty new_empty_strided new_full new_ones new_zeros".split()
_RANDOM = ["normal"]  # a factory in one of its forms
# These take existing data, or compute it on the CPU, which is then copied to the device.
# The number is the place of the argument whose device the result has when none is named.
_FROM_DATA = dict.fromkeys(["tensor", "as_tensor", "asarray", "kaiser_window"], 0) | {"sparse_coo_tensor": 1}
_FROM_DATA |= {f"sparse_{layout}_tensor": 2 for layout in ("csr", "csc", "bsr", "bsc", "compressed")}
_LEGACY = "Float Double Half BFloat16 Byte Char Short Int Long Bool"
_PYTHON = torch._C.DispatchKey.Python


def _kernel(real: torch._ops.OpOverload) -> Callable[..., torch.Tensor]:
    """Return what makes the tensor of a CUDA kernel on a virtual GPU.

    Raises:
        torch.OutOfMemoryError: the tensor does not fit; known before any host memory is touched.
    """

    def make(
        *args: Any, device: torch.device, pin_memory: bool | None = None, **options: Any
    ) -> torch.Tensor:
        machine = active()
        machine.check()
        home = machine.device(device)
        if pin_memory:
            refuse(WORDS["pinned"])
        if torch._C._dispatch_tls_is_dispatch_key_excluded(_PYTHON):
            raise RuntimeError(
                "This torch.tensor or torch.as_tensor was taken out of torch before the virtual GPUs were "
                "switched on, and does not know them. Write `torch.tensor(...)`, or import it afterwards."
            )
        if options.get("layout") in (None, torch.strided):
            machine.demand(_size(real, args, options), home.index)
        return wrap(real(*args, device="cpu", **options), home)

    return make


def _size(real: torch._ops.OpOverload, args: Any, options: dict[str, Any]) -> int:
    """Return the bytes of a tensor before it is made."""
    if real is torch.ops.aten.empty.memory_format:
        return math.prod(args[0]) * (options.get("dtype") or torch.get_default_dtype()).itemsize
    return real(*args, device="meta", **options).untyped_storage().nbytes()


def kernels() -> Iterator[tuple[str, str, Callable[..., torch.Tensor]]]:
    """Yield (operator, dispatch key, kernel): CUDA's factories, which make virtual tensors."""
    for key, names in _KERNELS.items():
        yield from ((name, key, _kernel(operator(name))) for name in names.split())


def _plain(value: Any) -> Any:
    """Turn virtual tensors inside lists into numbers, as `torch.tensor([loss, loss])` does."""
    if isinstance(value, (list, tuple)):
        return [item.tolist() if isinstance(item, VirtualTensor) else _plain(item) for item in value]
    return value


def _read_on_host(real: Callable[..., torch.Tensor], args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Find the size of a sparse tensor, and check its parts if that is asked for: C++ reads plain tensors."""
    plain = tree_map_only(VirtualTensor, lambda part: part._inner.detach(), (args, kwargs))
    size = real(*plain[0], **plain[1]).shape
    told = "size" in kwargs or len(args) > _FROM_DATA[real.__name__] + 1
    return {"check_invariants": False} | ({} if told else {"size": size})


def _from_data(real: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    """Call a factory of existing data so that its result lives on `device`, a virtual GPU or another."""
    device = kwargs.pop("device", None)
    named = [kwargs[name] for name in ("data", "obj", "values") if name in kwargs]
    data = next(iter([*named, *args[_FROM_DATA[real.__name__] :]]), None)
    virtual = any(isinstance(value, VirtualTensor) for value in (*args, *kwargs.values()))
    if virtual and real.__name__ == "tensor":
        made = to(data.detach(), device, dtype=kwargs.get("dtype"), copy=True)
        return made.requires_grad_(kwargs.get("requires_grad", False))
    if virtual and device is None and isinstance(data, torch.Tensor):
        device = data.device
    if virtual and real.__name__.startswith("sparse_"):
        kwargs |= _read_on_host(real, args, kwargs)
    wanted = None if device is None else active().device(device)
    if wanted is None or (wanted.type != "cuda" and not virtual):
        return real(*map(_plain, args), **kwargs, device=device)
    kwargs = {name: _plain(value) for name, value in kwargs.items()}
    if kwargs.pop("pin_memory", False):
        refuse(WORDS["pinned"])
    learns = kwargs.get("requires_grad")
    of_graph = real.__name__ == "asarray" and isinstance(data, torch.Tensor)
    if learns and not of_graph:  # what is moved would be no leaf any more
        del kwargs["requires_grad"]
    made = to(real(*map(_plain, args), **kwargs, device="cpu"), wanted)
    return made.requires_grad_() if learns else made


def _factory(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap a factory: a generator of a GPU, pinned memory, a device that is just a number."""

    @functools.wraps(real)
    def create(*args: Any, **kwargs: Any) -> torch.Tensor:
        if not is_active():
            return real(*args, **kwargs)
        if real.__name__ in _FROM_DATA:
            return _from_data(real, *args, **kwargs)
        device = kwargs.get("device")
        if device is not None:
            device = kwargs["device"] = active().device(device)
            if device.type == "cpu" and args and isinstance(args[0], VirtualTensor):
                args = (args[0]._inner, *args[1:])  # torch.zeros_like(on_gpu, device="cpu")
        if kwargs.get("generator") is not None and not torch._C._len_torch_function_stack():
            like = next((value for value in args if isinstance(value, torch.Tensor)), torch.empty(0))
            check_generator(kwargs["generator"], device or like.device)
        if kwargs.get("pin_memory") and (device is None or device.type == "cpu"):
            return real(*args, **{**kwargs, "pin_memory": False}).pin_memory()
        return real(*args, **kwargs)

    return create


def _nested(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap a factory of nested tensors: there are none on a virtual GPU."""

    @functools.wraps(real)
    def create(*args: Any, **kwargs: Any) -> torch.Tensor:
        gpu = kwargs.get("device") is not None and active().device(kwargs["device"]).type == "cuda"
        if gpu or any(isinstance(value, VirtualTensor) for value in tree_leaves((args, kwargs))):
            absent("a nested tensor")
        return real(*args, **kwargs)

    return create


def _device_context(self: DeviceContext, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """`with torch.device("cuda"):` and `torch.set_default_device`: fill in the device of factories."""
    kwargs = kwargs or {}
    if func in _device_constructors() and kwargs.get("device") is None:
        kwargs["device"] = self.device
        if func.__name__ in _FROM_DATA:
            return _from_data(func, *args, **kwargs)
    return func(*args, **kwargs)


def _new_tensor(tensor: torch.Tensor, data: Any, **kwargs: Any) -> torch.Tensor:
    """`tensor.new_tensor(data)`: a copy of `data` with the type and device of `tensor`."""
    like = {"dtype": tensor.dtype, "device": tensor.device}
    return torch.tensor(data, **like | {key: value for key, value in kwargs.items() if value is not None})


class _LegacyType(type):
    """The type of `torch.cuda.FloatTensor` and its like, from before there were dtypes."""

    dtype: torch.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, VirtualTensor) and instance.dtype is cls.dtype

    def __call__(cls, *args: Any, device: Any = None) -> torch.Tensor:
        """Make a tensor on a GPU, the current one when none is given: of a size, or of numbers."""
        return to(getattr(torch, cls.__name__)(*args), active().device(device))


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) for the factories that take more than a device."""
    _builtins._get_builtin_table()  # TorchScript's, which is made once: with PyTorch's own functions
    find = _builtins._find_builtin
    yield _builtins, "_find_builtin", lambda function: find(getattr(function, "__wrapped__", function))
    for owner, names in {torch: _LIKE + _RANDOM, torch.Tensor: _NEW}.items():
        yield from ((owner, name, _factory(getattr(owner, name))) for name in names)
    for real in _device_constructors():
        if getattr(torch, real.__name__, None) is real:
            yield torch, real.__name__, _factory(real)
    for name in ("nested_tensor", "as_nested_tensor", "nested_tensor_from_jagged", "narrow"):
        yield torch.nested, name, _nested(getattr(torch.nested, name))
    yield DeviceContext, "__torch_function__", _device_context
    yield torch.Tensor, "new_tensor", _new_tensor
    for name in (f"{prefix}Tensor" for prefix in _LEGACY.split()):
        facts = {"dtype": getattr(torch, name).dtype, "is_cuda": True, "__module__": "torch.cuda"}
        yield torch.cuda, name, _LegacyType(name, (), facts)
