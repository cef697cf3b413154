"""Running one operation: every one, forward and backward, that meets a virtual tensor arrives in `dispatch`.

The same-device rule is checked, the CPU kernel runs on the inner tensors, and the results are wrapped and
charged to the device. (PyTorch calls this hook `__torch_dispatch__`; it lies below autograd, so gradients
need no code of their own.)
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from . import sync_norm
from .collectives import kernels
from .errors import WORDS, absent, alert_any_order, device_assert, refuse
from .machine import Machine, active
from .randomness import home_of
from .rules import Facts, common_device, elementwise_device, facts
from .tensor import VirtualTensor, reshape, type_name, view, wrap

aten = torch.ops.aten

# What the host checks for all devices: by indexing, by `multinomial` without replacement, by assertions
_TOLD = re.compile("for dimension with size 0|probability tensor contains|Boolean value of Tensor with")
_NOTHING: dict[int, Any] = {}
_NUMBERS = frozenset((int, float, bool, type(None)))  # what most arguments are, where they are no tensors


def dispatch(cls: Any, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
    """Run operator `func` on the inner tensors and put its results on the arguments' device."""
    __tracebackhide__ = True  # IPython shows the reader's line and PyTorch's, as on a real GPU
    if len(types) > 1:
        return NotImplemented  # a tensor that is made of virtual ones knows better, such as a DTensor
    op = facts(func)
    if op.kernel is not None:
        return op.kernel(*args, **(kwargs or {}))
    machine = active()
    machine.check()
    if op.view and type(args[0]) is VirtualTensor:
        return view(func(args[0]._inner, *args[1:], **(kwargs or {})), args[0]._home)
    if kwargs and kwargs.get("device") is not None:
        return _elsewhere(op, func, args, kwargs)
    seen: list[torch.Tensor] = []
    inner_args = [_unwrap(value, seen) for value in args]
    inner_kwargs = {key: _unwrap(value, seen) for key, value in kwargs.items()} if kwargs else {}
    device = _device_of(op, seen, args, kwargs or {})
    if device.type == "meta":  # forward mode asks for the shape of what it adds to nothing
        shapes = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (inner_args, inner_kwargs))
        return func(*shapes[0], **shapes[1])
    if op.random:
        check_generator(inner_kwargs.get("generator"), device)
        with stream_of(machine, device, inner_kwargs):
            result = _run(machine, op, func, inner_args, inner_kwargs)
    else:
        result = _run(machine, op, func, inner_args, inner_kwargs)
    if device.type == "cpu":  # a CPU tensor read through a GPU index, or the like
        return args[0] if op.mutates else result
    same = {id(t._inner): t for t in seen if type(t) is VirtualTensor} if op.mutates else _NOTHING
    if op.per_tensor and isinstance(result, (list, tuple)):
        homes = [t.device for t in next(value for value in args if isinstance(value, (list, tuple)))]
        return [_rewrap(r, home, same) for r, home in zip(result, homes, strict=True)]
    return _rewrap(result, device, same)


def _unwrap(value: Any, seen: list[torch.Tensor]) -> Any:
    """Replace virtual tensors by their inner ones, also inside lists; collect all tensors in `seen`."""
    kind = type(value)
    if kind is VirtualTensor:
        seen.append(value)
        return value._inner
    if kind in _NUMBERS:
        return value
    if isinstance(value, (list, tuple)):
        return type(value)([_unwrap(item, seen) for item in value])
    if isinstance(value, torch.Tensor):
        seen.append(value)
    return value


def _elsewhere(op: Facts, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> torch.Tensor:
    """Run an operation that names the device of its result, such as `zeros_like(x, device="cuda:1")`.

    C++ itself names the CPU, where it believes that the arguments are.
    """
    machine = active()
    home = machine.device(kwargs["device"])
    seen: list[torch.Tensor] = []
    inner = [_unwrap(value, seen) for value in args]
    if home.type == "cpu":
        home = seen[0].device
    if home.type != "cuda":
        return func(*inner, **kwargs)
    options = {**kwargs, "device": "cpu"}
    with stream_of(machine, home, options) if op.random else nullcontext():
        return wrap(func(*inner, **options), home)


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
    if any(tensor.is_meta for tensor in seen):
        return torch.device("meta")
    if active().taking_in or torch._C._current_graph_task_id() != -1:
        # The autograd engine makes zero gradients on the device C++ knows, the CPU: take them in, too.
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
            elementwise_device([("", tensor) for tensor in row], op.mutates)  # then they run one by one
    return lists[0][0].device


def _run(machine: Machine, op: Facts, func: Any, args: Any, kwargs: Any) -> Any:
    """Call the CPU kernel; a value that it refuses, such as an index, is a device-side assert on CUDA."""
    __tracebackhide__ = True
    if op.any_order and torch.are_deterministic_algorithms_enabled():
        alert_any_order(op.any_order)
    if op.floating and not (args[0].is_floating_point() or args[0].is_complex()):
        raise NotImplementedError(WORDS["no_dtype"].format(op.floating, type_name(args[0])))
    if op.cpu_only:
        raise NotImplementedError(WORDS["no_kernel"].format(func.name()))
    try:
        return _in_single(func, args, kwargs) if op.no_half else func(*args, **kwargs)
    except (IndexError, RuntimeError) as error:
        if str(error).startswith("Could not run"):
            absent(str(func))
        untold = isinstance(error, NotImplementedError) or _TOLD.search(str(error))
        if not op.asserts or untold or _host_refuses(func, args, kwargs):
            raise
        machine.broken = True
        raise device_assert() from None


def _in_single(func: Any, args: Any, kwargs: Any) -> Any:
    """Compute in float32 what the CPU has no half precision for, and round, as CUDA's kernels do."""
    dtype = next(value.dtype for value in args if isinstance(value, torch.Tensor))
    if dtype not in (torch.float16, torch.bfloat16):
        return func(*args, **kwargs)
    wide = tree_map_only(torch.Tensor, lambda t: t.float() if t.dtype is dtype else t, (args, kwargs))
    result = func(*wide[0], **wide[1])
    return tree_map_only(torch.Tensor, lambda t: t.to(dtype) if t.dtype is torch.float32 else t, result)


def _host_refuses(func: Any, args: Any, kwargs: Any) -> bool:
    """Tell whether shapes are at fault, such as a mask's: the host finds that without reading any value."""
    shapes = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
    try:
        func(*shapes[0], **shapes[1])
    except (AssertionError, IndexError, RuntimeError) as error:  # meta tensors: no values, not all kernels
        return "a meta tensor" not in str(error) and "'Meta' backend" not in str(error)
    return False


@contextmanager
def stream_of(machine: Machine, device: torch.device, kwargs: dict[str, Any]) -> Iterator[None]:
    """Draw random numbers from the device's own stream, if it was given one and no generator is named."""
    generator = machine.generators[device.index] if device.type == "cuda" else None
    if generator is None or not generator.own or kwargs.get("generator") is not None:
        yield
        return
    shared = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(shared)


def check_generator(generator: Any, device: torch.device) -> None:
    """Raise PyTorch's error for a generator of another device type."""
    found = None if generator is None else home_of(generator).type
    if found not in (None, device.type):
        refuse(WORDS["generator"].format(device.type, found))


def _rewrap(result: Any, device: torch.device, same: dict[int, VirtualTensor]) -> Any:
    """Wrap the tensors in a result; one that an operation changed in place comes back as itself."""
    if isinstance(result, torch.Tensor):
        known = same.get(id(result))
        if known is None:
            return wrap(result, device)
        if known.shape != result.shape or known.stride() != result.stride():
            reshape(known, wrap(result, device))
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


def _item(tensor: VirtualTensor) -> Any:
    """`.item()`: the host waits for the number."""
    active().check()
    active().synchronizing()
    return tensor._inner.item()


def _pack_padded(given: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> Any:
    """Pack a padded batch: the lengths, and the batch sizes that come of them, are on the CPU."""
    if lengths.is_cuda:
        refuse(WORDS["lengths"].format(lengths.dim(), lengths.device, type_name(lengths)))
    data, sizes = aten._pack_padded_sequence(given._inner, lengths, batch_first)
    return wrap(data, given.device), sizes


_SPECIAL: dict[Any, Callable[..., Any]] = {
    aten._local_scalar_dense.default: _item,
    aten.copy_.default: _copy,
    aten._pack_padded_sequence.default: _pack_padded,
    aten.is_pinned.default: lambda tensor, device=None: False,
    aten._has_compatible_shallow_copy_type.default: lambda first, second: True,
    **kernels(),
    **sync_norm.KERNELS,
}
for _func, _kernel in _SPECIAL.items():
    facts(_func).kernel = _kernel

VirtualTensor.__torch_dispatch__ = classmethod(dispatch)
