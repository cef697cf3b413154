"""The virtual tensor: a tensor that says it is on `cuda:N` and holds its numbers in a CPU tensor.

To PyTorch's C++ core a `VirtualTensor` is a CPU tensor without data. Python sees the device it pretends to
be on. Every operation, forward and backward, arrives in `__torch_dispatch__`: there the same-device rule is
checked, the CPU kernel runs on the inner tensors, and the results are wrapped and charged to the device.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch

from .errors import GRADIENT_TYPE, NUMPY, device_assert
from .machine import Machine, active
from .rules import Facts, common_device, facts

aten = torch.ops.aten
_real_grad = torch.Tensor.grad
_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)


class VirtualTensor(torch.Tensor):
    """A tensor on a virtual GPU. Made by `wrap`; users meet it through `.to("cuda")` and factories."""

    _inner: torch.Tensor
    _home: torch.device

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        __tracebackhide__ = True
        return dispatch(func, args, kwargs or {})

    # ---- where it is ----------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        return self._home

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def layout(self) -> torch.layout:
        return self._inner.layout

    @property
    def is_sparse(self) -> bool:
        return self._inner.is_sparse

    @property
    def grad(self) -> torch.Tensor | None:
        return _real_grad.__get__(self)

    @grad.setter
    def grad(self, grad: torch.Tensor | None) -> None:
        if isinstance(grad, torch.Tensor) and grad.device != self.device:
            raise RuntimeError(GRADIENT_TYPE.format(grad.device.type, self.device.type))
        _real_grad.__set__(self, grad)

    @grad.deleter
    def grad(self) -> None:
        _real_grad.__delete__(self)

    def get_device(self) -> int:
        return self._home.index

    def is_pinned(self, device: Any = None) -> bool:
        return False

    def is_shared(self) -> bool:
        return True  # CUDA memory always counts as shared

    def share_memory_(self) -> "VirtualTensor":
        return self

    def record_stream(self, stream: Any) -> None:
        """Do nothing: a virtual GPU finishes every operation before the next one starts."""

    # ---- what only the inner tensor can answer ----------------------------------------------------
    def data_ptr(self) -> int:
        return self._inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self._inner.untyped_storage()

    def tolist(self) -> Any:
        return self._inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self._inner.numpy(force=True)
        raise TypeError(NUMPY.format(device=self.device))

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(NUMPY.format(device=self.device))

    def pin_memory(self, device: Any = None) -> NoReturn:
        raise RuntimeError(f"cannot pin '{self.type()}' only dense CPU tensors can be pinned")

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return describe(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def __reduce_ex__(self, protocol: Any) -> Any:
        from .checkpoints import reduce_tensor

        return reduce_tensor(self, protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol "
                "at the moment.  If you were attempting to deepcopy a module, this may be because of a "
                "torch.nn.utils.weight_norm usage, see https://github.com/pytorch/pytorch/pull/103001"
            )
        with torch.no_grad():
            copy = memo[id(self)] = self.clone(memory_format=torch.preserve_format)
            copy.requires_grad_(self.requires_grad)
            copy.__dict__.update({k: v for k, v in self.__dict__.items() if k not in copy.__dict__})
            if self.grad is not None:
                copy.grad = self.grad.__deepcopy__(memo)
        return copy


VirtualTensor.__name__ = VirtualTensor.__qualname__ = "Tensor"  # so that error messages read as usual


def wrap(inner: torch.Tensor, device: torch.device) -> VirtualTensor:
    """Put the CPU tensor `inner` on virtual `device` without copying; charge its storage there."""
    machine = active()
    if inner.layout is torch.strided:
        machine.charge(inner.untyped_storage(), device.index)
        tensor = torch.Tensor._make_wrapper_subclass(
            VirtualTensor,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="cpu",
            _extra_dispatch_keys=_AUTOCAST,
        )
    else:
        for part in (inner._indices(), inner._values()) if inner.is_sparse else ():
            machine.charge(part.untyped_storage(), device.index)
        tensor = torch.Tensor._make_wrapper_subclass(
            VirtualTensor, inner.size(), dtype=inner.dtype, device="cpu"
        )
    tensor._inner = inner
    tensor._home = device
    return tensor


def become(tensor: torch.Tensor, new: torch.Tensor) -> None:
    """Give the object `tensor` the contents and the device of `new`; its identity and autograd role stay.

    This is `tensor.data = new` also between a CPU and a virtual tensor, which `nn.Module.to` relies on.
    The C++ tensors behind the two objects change places, because only a new one can dispatch to Python.
    """
    parameter, requires_grad, grad = isinstance(tensor, torch.nn.Parameter), tensor.requires_grad, tensor.grad
    if grad is not None and grad.dtype != new.dtype:
        become(grad, grad.detach().to(new.dtype))  # PyTorch refuses a gradient of another type
    fresh = new.detach()
    torch._C._swap_tensor_impl(tensor, fresh)
    for name in ("_inner", "_home", "_is_param"):
        tensor.__dict__.pop(name, None)
    if isinstance(fresh, VirtualTensor):
        tensor._inner, tensor._home = fresh._inner, fresh._home
        if parameter and type(tensor) in (torch.nn.Parameter, VirtualTensor):
            tensor._is_param = True
        tensor.__class__ = VirtualTensor
    else:
        tensor.__class__ = torch.nn.Parameter if parameter else torch.Tensor
    tensor.requires_grad_(requires_grad)
    _real_grad.__set__(tensor, grad)


# ---- running one operation ------------------------------------------------------------------------
# Out-of-range indices are found by a CUDA kernel, which kills the whole context.
_NOTHING: dict[int, Any] = {}
_ASSERTING = frozenset(
    """nll_loss_forward nll_loss2d_forward embedding index_select gather scatter scatter_add index
index_put index_add index_copy cross_entropy_loss""".split()
)


def dispatch(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run operator `func` on the inner tensors and put its results on the arguments' device."""
    __tracebackhide__ = True  # IPython shows the reader's line and PyTorch's, as on a real GPU
    special = _SPECIAL.get(func)
    if special is not None:
        return special(*args, **kwargs)
    machine, op = active(), facts(func)
    machine.check()
    seen: list[torch.Tensor] = []
    inner_args = [_unwrap(value, seen) for value in args]
    inner_kwargs = {key: _unwrap(value, seen) for key, value in kwargs.items()} if kwargs else kwargs
    device = _device_of(op, seen, args, kwargs)
    if op.random:
        check_generator(kwargs.get("generator"), device)
        result = on_stream_of(machine, device, func, inner_args, inner_kwargs)
    else:
        result = _run(machine, op, func, inner_args, inner_kwargs)
    if device.type == "cpu":  # a CPU tensor read through a GPU index, or the like
        return args[0] if op.mutates else result
    same = {id(t._inner): t for t in seen if type(t) is VirtualTensor} if op.mutates else _NOTHING
    if op.per_tensor and isinstance(result, (list, tuple)):
        homes = [t.device for t in args[0]]
        return [_rewrap(r, home, same) for r, home in zip(result, homes, strict=True)]
    return _rewrap(result, device, same)


def _unwrap(value: Any, seen: list[torch.Tensor]) -> Any:
    """Replace virtual tensors by their inner ones, also inside lists; collect all tensors in `seen`."""
    if type(value) is VirtualTensor:
        seen.append(value)
        return value._inner
    if isinstance(value, (list, tuple)):
        return type(value)([_unwrap(item, seen) for item in value])
    if isinstance(value, torch.Tensor):
        seen.append(value)
    return value


def _device_of(
    op: Facts, seen: list[torch.Tensor], args: Sequence[Any], kwargs: dict[str, Any]
) -> torch.device:
    """Return the one device all tensors share; ask the rules when they do not."""
    __tracebackhide__ = True
    first = seen[0].device
    for tensor in seen:
        if tensor.device != first:
            break
    else:
        return first
    if op.per_tensor:
        return _check_each(op, args)
    if torch._C._current_graph_task_id() != -1:
        # The autograd engine makes zero gradients on the device C++ knows, the CPU: take them in.
        gpus = {tensor.device for tensor in seen if tensor.is_cuda}
        if len(gpus) == 1:
            return gpus.pop()
    return common_device(op, args, kwargs)


def _check_each(op: Facts, args: Sequence[Any]) -> torch.device:
    """`_foreach_` operations: the tensors at one position of all lists must share a device."""
    lists = [value for value in args if isinstance(value, (list, tuple)) and value]
    for row in zip(*lists, strict=False):
        row = [value for value in row if isinstance(value, torch.Tensor)]
        if len({tensor.device for tensor in row if tensor.is_cuda or tensor.dim()}) > 1:
            common_device(op, row, {})
    return lists[0][0].device


def _run(machine: Machine, op: Facts, func: Any, args: Any, kwargs: Any) -> Any:
    """Call the CPU kernel; an index out of range becomes CUDA's device-side assert."""
    __tracebackhide__ = True
    try:
        return func(*args, **kwargs)
    except IndexError:
        if op.base not in _ASSERTING:
            raise
        machine.broken = True
        raise device_assert() from None


def on_stream_of(machine: Machine, device: torch.device, func: Any, args: Any, kwargs: Any) -> Any:
    """Call a random operation on the device's own stream of random numbers, if it was given one."""
    own = machine.random_state[device.index] if device.type == "cuda" else None
    if own is None or kwargs.get("generator") is not None:
        return func(*args, **kwargs)
    shared = torch.get_rng_state()
    torch.set_rng_state(own)
    try:
        return func(*args, **kwargs)
    finally:
        machine.random_state[device.index] = torch.get_rng_state()
        torch.set_rng_state(shared)


def check_generator(generator: Any, device: torch.device) -> None:
    """Raise PyTorch's error for a generator of another device type."""
    if generator is not None and generator.device.type != device.type:
        found = generator.device.type
        raise RuntimeError(f"Expected a '{device.type}' device type for generator but found '{found}'")


def _rewrap(result: Any, device: torch.device, same: dict[int, VirtualTensor]) -> Any:
    """Wrap the tensors in a result; one that an operation changed in place comes back as itself."""
    if isinstance(result, torch.Tensor):
        known = same.get(id(result))
        if known is None:
            return wrap(result, device)
        if known.shape != result.shape or known.stride() != result.stride():
            become(known, wrap(result, device))
        return known
    if isinstance(result, (list, tuple)):
        return type(result)([_rewrap(item, device, same) for item in result])
    return result


def _copy(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """`copy_` is the one operation that crosses devices."""
    active().check()
    inner = [t._inner if isinstance(t, VirtualTensor) else t for t in (target, source)]
    inner[0].copy_(inner[1])
    return target


_SPECIAL: dict[Any, Callable[..., Any]] = {
    aten.copy_.default: _copy,
    aten.is_pinned.default: lambda tensor, device=None: False,
    aten._has_compatible_shallow_copy_type.default: lambda first, second: True,
}


# ---- printing ---------------------------------------------------------------------------------------
def describe(tensor: VirtualTensor) -> str:
    """Print as PyTorch prints a CUDA tensor: values, device, then what differs from the defaults."""
    from torch import _tensor_str

    inner = tensor._inner.detach()
    suffixes = [f"device='{tensor.device}'"]
    if inner.numel() == 0 and inner.dim() != 1:
        suffixes.append(f"size={tuple(inner.shape)}")
    usual = (torch.get_default_dtype(), torch.complex64, torch.int64, torch.bool)
    if inner.dtype not in usual or (inner.numel() == 0 and inner.dtype != torch.get_default_dtype()):
        suffixes.append(f"dtype={inner.dtype}")
    if inner.layout is not torch.strided:
        suffixes += [f"size={tuple(inner.shape)}", f"nnz={inner._nnz()}", f"layout={inner.layout}"]
    if tensor.grad_fn is not None:
        suffixes.append(f"grad_fn=<{type(tensor.grad_fn).__name__}>")
    elif tensor.requires_grad:
        suffixes.append("requires_grad=True")
    values = inner if inner.layout is torch.strided else inner.to_dense()
    text = "[]" if inner.numel() == 0 else _tensor_str._tensor_str(values, len("tensor("))
    text = _tensor_str._add_suffixes("tensor(" + text, suffixes, len("tensor("), force_newline=False)
    return f"Parameter containing:\n{text}" if isinstance(tensor, torch.nn.Parameter) else text
