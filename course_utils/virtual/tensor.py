"""The virtual tensor: a tensor that says it is on `cuda:N` and holds its numbers in a CPU tensor.

To PyTorch's C++ core a `VirtualTensor` is a CPU tensor without data. Python sees the device it pretends to
be on. What happens when an operation meets one is told in `dispatch.py`.
"""

from typing import Any, NoReturn

import torch
from torch import _tensor_str

from .errors import WORDS, absent, misplaced_gradient, refusal
from .machine import active, crossing, is_active

_CPU = torch.device("cpu")
_make = torch.Tensor._make_wrapper_subclass
_real_data = torch.Tensor.data
_real_grad = torch.Tensor.grad
_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)
_SPARSE = _AUTOCAST | torch._C.DispatchKeySet(torch._C.DispatchKey.SparseCPU)
_COMPRESSED = _AUTOCAST | torch._C.DispatchKeySet(torch._C.DispatchKey.SparseCsrCPU)


def set_grad(tensor: torch.Tensor, grad: torch.Tensor | None) -> None:
    """`tensor.grad = ...`: the gradient must be where the tensor is."""
    if isinstance(grad, torch.Tensor) and grad.device != tensor.device:
        misplaced_gradient(grad.device, tensor.device)
    _real_grad.__set__(tensor, grad)


class VirtualTensor(torch.Tensor):
    """A tensor on a virtual GPU. Made by `wrap`; users meet it through `.to("cuda")` and factories."""

    _inner: torch.Tensor
    _home: torch.device

    __torch_function__ = torch._C._disabled_torch_function_impl
    is_cuda, is_cpu = True, False

    def __new__(cls, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`type(p)(data, requires_grad=...)` for a parameter `p`, `type(x)(2, 3)` for another tensor."""
        of_parameter = bool(kwargs) or any(isinstance(value, torch.Tensor) for value in args)
        return (torch.nn.Parameter if of_parameter else torch.Tensor)(*args, **kwargs)

    # ---- where it is ----------------------------------------------------------------------------
    @property
    def device(self) -> torch.device:
        return self._home

    @device.setter
    def device(self, _: Any) -> None:
        raise AttributeError("attribute 'device' of 'torch._C.TensorBase' objects is not writable")

    @property
    def layout(self) -> torch.layout:
        return self._inner.layout

    @property
    def is_sparse(self) -> bool:
        return self._inner.is_sparse

    @property
    def is_sparse_csr(self) -> bool:
        return self._inner.is_sparse_csr

    @property
    def grad(self) -> torch.Tensor | None:
        grad = _real_grad.__get__(self)
        if grad is not None and not isinstance(grad, VirtualTensor):  # zeros that the engine made itself
            grad = wrap(grad, self.device)
            _real_grad.__set__(self, grad)
        return grad

    grad = grad.setter(set_grad).deleter(_real_grad.__delete__)

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
        address = active().address(self._inner.untyped_storage())
        offset = self._inner.storage_offset() * self._inner.itemsize
        return self._inner.data_ptr() if address is None else address + offset * (address > 0)

    def untyped_storage(self) -> torch.UntypedStorage:
        return self._inner.untyped_storage()

    def tolist(self) -> Any:
        active()
        crossing("tolist", self)
        return self._inner.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        active()
        if force:
            crossing("numpy", self)
            return self._inner.numpy(force=True)
        raise TypeError(WORDS["numpy"].format(self.device))

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(WORDS["numpy"].format(self.device))

    def new(self, *args: Any, device: Any = None) -> torch.Tensor:
        plain = [value._inner if isinstance(value, VirtualTensor) else value for value in args]
        return wrap(self._inner.new(*plain), self.device if device is None else active().device(device))

    def apply_(self, *_: Any) -> NoReturn:
        raise TypeError(WORDS["on_the_host"].format("apply_"))

    def map_(self, *_: Any) -> NoReturn:
        raise TypeError(WORDS["on_the_host"].format("map_"))

    __dlpack__ = refusal("torch.Tensor.__dlpack__")

    def pin_memory(self, device: Any = None) -> NoReturn:
        raise RuntimeError(f"cannot pin '{self.type()}' only dense CPU tensors can be pinned")

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        crossing("__repr__", self)
        return describe(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle the plain tensor that this one stands for."""
        plain = self._inner.detach()
        if isinstance(self, torch.nn.Parameter):
            plain = torch.nn.Parameter(plain, self.requires_grad)
        elif self.requires_grad:
            plain = plain.requires_grad_()
        return plain.__reduce_ex__(protocol)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Assign to a place; where it is told by a list, an array or a CPU tensor, CUDA copies that."""
        with active().allowing("assigning"):
            super().__setitem__(key, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        if id(self) in memo or not self.is_leaf:
            return super().__deepcopy__(memo)  # the copy that was made before, or PyTorch's error
        with torch.no_grad():
            copy = memo[id(self)] = self.clone()
            copy.requires_grad_(self.requires_grad)
            copy.__dict__.update({k: v for k, v in self.__dict__.items() if k not in copy.__dict__})
            if self.grad is not None:
                copy.grad = self.grad.__deepcopy__(memo)
        return copy


VirtualTensor.__name__ = VirtualTensor.__qualname__ = "Tensor"  # so that messages and `type(x)` read as usual
VirtualTensor.__module__ = "torch"


def wrap(inner: torch.Tensor, device: torch.device) -> VirtualTensor:
    """Put the CPU tensor `inner` on virtual `device` without copying; charge its storage there."""
    inner, machine = _resolved(inner), active()
    for part in dense_parts(inner):
        machine.charge(part.untyped_storage(), device.index)
    return _shell(inner, device)


def dense_parts(inner: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the strided tensors of a tensor: itself, or the indices and values of a sparse one."""
    if inner.layout is torch.strided:
        return (inner,)
    if inner.layout is torch.sparse_coo:
        return inner._indices(), inner._values()
    if inner.layout in (torch.sparse_csr, torch.sparse_bsr):
        return inner.crow_indices(), inner.col_indices(), inner.values()
    return inner.ccol_indices(), inner.row_indices(), inner.values()


def view(inner: Any, device: torch.device) -> Any:
    """Put a view, or a list of views, of a tensor that is already charged on virtual `device`."""
    first = inner if isinstance(inner, torch.Tensor) else next(iter(inner), None)
    if torch.is_inference_mode_enabled() and first is not None and not first.is_inference():
        with torch.inference_mode(False):  # a view of an ordinary tensor is an ordinary one
            return view(inner, device)
    if isinstance(inner, torch.Tensor):
        return wrap(inner, device) if inner.is_conj() or inner.is_neg() else _shell(inner, device)
    return type(inner)([_shell(part, device) for part in inner])


def _resolved(inner: torch.Tensor) -> torch.Tensor:
    """Carry out a conjugation or negation that PyTorch has put off: the wrapper cannot tell of it."""
    if inner.layout is torch.strided and (inner.is_conj() or inner.is_neg()):
        return inner.resolve_conj().resolve_neg()
    return inner


def _shell(inner: torch.Tensor, device: torch.device) -> VirtualTensor:
    """Make the tensor that Python sees: shape and type of `inner`, without data."""
    if inner.is_nested or inner.is_quantized:
        absent("a nested or quantized tensor")
    dense = inner.layout is torch.strided
    tensor = _make(
        VirtualTensor,
        inner.size(),
        strides=inner.stride() if dense else None,
        storage_offset=inner.storage_offset() if dense else None,
        dtype=inner.dtype,
        device=_CPU,
        _extra_dispatch_keys=_AUTOCAST if dense else _SPARSE if inner.is_sparse else _COMPRESSED,
        dispatch_layout=not dense,
    )
    tensor._inner = inner
    tensor._home = device
    return tensor


def type_name(tensor: torch.Tensor) -> str:
    """Return the name of a tensor's type in errors, such as "Half"."""
    return tensor.type().rpartition(".")[2].removesuffix("Tensor")


def become(tensor: torch.Tensor, new: torch.Tensor) -> None:
    """Give the object `tensor` the contents and the device of `new`; its identity and autograd role stay.

    This is `tensor.data = new` also between a CPU and a virtual tensor, which `nn.Module.to` relies on.
    The C++ tensors behind the two objects change places, because only a new one can dispatch to Python.
    """
    if new is tensor:
        return
    if isinstance(tensor, VirtualTensor) and isinstance(new, VirtualTensor):
        return reshape(tensor, new)
    grad, requires_grad = tensor.grad, tensor.requires_grad
    if grad is not None and (grad.device, grad.dtype) != (new.device, new.dtype):
        become(grad, grad.detach().to(new.device, new.dtype))
    parameter = isinstance(tensor, torch.nn.Parameter)
    fresh = new.detach()
    torch._C._swap_tensor_impl(tensor, fresh)
    _swap_python(tensor, fresh)
    if parameter and isinstance(tensor, VirtualTensor):
        tensor._is_param = True
    elif parameter:
        tensor.__class__ = torch.nn.Parameter
    tensor.requires_grad_(requires_grad)
    _real_grad.__set__(tensor, grad)


def reshape(tensor: VirtualTensor, new: VirtualTensor) -> None:
    """Let a virtual tensor have the shape and contents of another; its C++ side stays the same one."""
    _real_data.__set__(tensor, new)
    tensor._inner, tensor._home = new._inner, new._home


def _swap_python(tensor: torch.Tensor, fresh: torch.Tensor) -> None:
    """Let the Python side of two tensors follow their C++ sides."""
    old = {
        name: tensor.__dict__.pop(name)
        for name in ("_inner", "_home", "_is_param")
        if name in tensor.__dict__
    }
    tensor.__dict__.update(
        {name: fresh.__dict__.pop(name) for name in ("_inner", "_home") if name in fresh.__dict__}
    )
    fresh.__dict__.update(old)
    old_class = VirtualTensor if "_inner" in old else torch.Tensor
    tensor.__class__, fresh.__class__ = type(fresh), old_class


# ---- printing ---------------------------------------------------------------------------------------
def describe(tensor: VirtualTensor) -> str:
    """Print as PyTorch prints a CUDA tensor: values, device, then what differs from the defaults."""
    if not is_active():
        return f"<a tensor on {tensor.device} of virtual GPUs that are switched off>"
    inner, indent = tensor._inner.detach(), len("tensor(")
    contents = _tensor_str._tensor_str(inner, indent) if inner.layout is torch.strided else None
    text = _tensor_str._str(tensor, tensor_contents=contents)
    if isinstance(tensor, torch.nn.Parameter):  # PyTorch writes those of other classes in another way
        text = "Parameter containing:\n" + text.removeprefix("Parameter(").removesuffix(")")
    return text.replace("Tensor(", "tensor(", 1)
