"""The same-device rule, with the words CUDA uses for each operation.

CUDA has three places that refuse a mix, and each words it in its own way:

* element-wise operations (`TensorIterator`): "found at least two devices, cuda:0 and cpu!"; they let a
  0-dimensional CPU tensor pass, as a plain number;
* the generated wrappers of most other kernels: "got mat1 is on cpu, different from other tensors on cuda:0".
  Which kernels have one, and its name, was read from PyTorch's CUDA library: `wrappers.toml`;
* convolution and indexing, which check by hand.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch

from .errors import ANY_ORDER, FLOATING, OPERATIONS, WORDS, refuse, wrappers
from .machine import active

# What the Python key sees as one operation is another kernel on a GPU: (its wrapper, new argument names).
_ON_GPU = {
    "embedding": ("wrapper_CUDA__index_select", {"weight": "self", "indices": "index"}),
    "mv": ("wrapper_CUDA_addmv_", {"self": "mat"}),
    "stack": ("wrapper_CUDA_cat", {}),
    "convolution": ("wrapper_CUDA__cudnn_convolution", {"input": "self"}),
}


class Facts:
    """What the dispatcher needs to know about one operator; worked out once for each.

    Attributes:
        kernel: what runs in its place, if anything.
    """

    kernel: Callable[..., Any] | None = None

    def __init__(self, func: torch._ops.OpOverload) -> None:
        self.func, schema = func, func._schema
        self.name = schema.name.removeprefix("aten::")
        self.base = self.name.rstrip("_")
        self.mutates = schema.is_mutable
        alone = not any(str(argument.type) == "Tensor" for argument in schema.arguments[1:])  # not view_as
        self.view = func.is_view and alone and not self.mutates  # shares its argument's storage: no charge
        self.random = torch.Tag.nondeterministic_seeded in func.tags
        self.per_tensor = self.name.startswith("_foreach_")
        self.cpu_only = self.name in OPERATIONS["cpu_only"]
        self.no_half = self.base in OPERATIONS["no_half"]
        self.any_order = ANY_ORDER.get(self.base)
        self.floating = FLOATING.get(self.base)
        names = self.base, f"{self.name}.{func._overloadname}"
        self.asserts = not OPERATIONS["asserting"].isdisjoint(names)
        self.arguments = [argument.name for argument in schema.arguments]
        self.renamed = _ON_GPU[self.base][1] if self.base in _ON_GPU else {}

    @cached_property
    def wrapper(self) -> str | None:
        """The wrapper that checks its devices on a GPU, None where there is none."""
        if self.base in _ON_GPU:
            return _ON_GPU[self.base][0]
        return next((name for name in _possible_wrappers(self.func._schema) if name in wrappers()), None)


def _possible_wrappers(schema: torch._C.FunctionSchema) -> Iterator[str]:
    """Yield what the wrapper of a kernel may be called: its own, or that of the variant which does the work.

    "Structured" kernels are named after function and overload, all others after overload and function.
    """
    name, overload = schema.name.removeprefix("aten::"), schema.overload_name
    variants = [(name, overload), (f"{name}_", overload)]
    if any(argument.is_out for argument in schema.arguments):
        variants = [(f"{name}_out", overload)]
    else:
        variants.append((f"{name}_out", f"{overload}_out" if overload else "out"))
    for name, overload in variants:
        yield "_".join(filter(None, ("wrapper_CUDA", name, overload)))
        yield f"wrapper_CUDA_{overload}_{name}"


_known: dict[int, Facts] = {}  # by identity: an operator's own hash is slow


def facts(func: torch._ops.OpOverload) -> Facts:
    """Return the facts about one operator overload."""
    found = _known.get(id(func))
    if found is None:
        found = _known[id(func)] = Facts(func)
    return found


def tensors_by_argument(
    op: Facts, args: Sequence[Any], kwargs: dict[str, Any]
) -> list[tuple[str, torch.Tensor]]:
    """List (argument name, tensor) as CUDA checks them: `out` first, then in schema order.

    The tensors of a list share the list's name.
    """
    named = [*zip(op.arguments, args, strict=False), *kwargs.items()]
    named.sort(key=lambda pair: pair[0] != "out")
    found = []
    for name, value in named:
        values = value if isinstance(value, (list, tuple)) else [value]
        label = op.renamed.get(name, name)
        found += [(label, tensor) for tensor in values if isinstance(tensor, torch.Tensor)]
    return found


def common_device(op: Facts, args: Sequence[Any], kwargs: dict[str, Any]) -> torch.device:
    """Return the device an operation with mixed arguments runs on, if CUDA would run it.

    Raises:
        RuntimeError: the mix is not allowed; the text is the one CUDA gives for this operation.
    """
    __tracebackhide__ = True
    named = tensors_by_argument(op, args, kwargs)
    if op.base in OPERATIONS["indexing"] or (active().assigning and op.base in OPERATIONS["assigning"]):
        accumulate = True in args[3:4] or kwargs.get("accumulate", False)
        return _index_device(named, reading=op.base in ("index", "_unsafe_index"), accumulate=accumulate)
    if op.name.startswith("torchvision::"):
        _check_torchvision(named)
    if op.base == "convolution":
        _check_convolution(named)
    if op.base == "masked_fill":
        _check_mask(named)
    if op.base.startswith("_scaled_dot_product"):
        _check_attention(named)
    if op.wrapper is None:
        return elementwise_device(named, op.mutates)
    if op.base == "mv":
        named.reverse()  # CUDA adds to a new tensor that is made where the vector is
    wrapper = op.wrapper
    if op.base == "native_batch_norm" and named[0][1].is_cuda:
        wrapper = "wrapper_CUDA__cudnn_batch_norm"
    first = named[0][1].device
    for name, tensor in named:
        if tensor.device != first:
            shown = "self" if name == "out" else name
            refuse(WORDS["other_device"].format(shown, tensor.device, first, wrapper))
    return first


def elementwise_device(named: list[tuple[str, torch.Tensor]], mutates: bool) -> torch.device:
    """TensorIterator: the first GPU counts; 0-dimensional CPU tensors pass, unless they are the output."""
    __tracebackhide__ = True
    common = next(tensor.device for _, tensor in named if tensor.is_cuda)
    written = named[0][1] if mutates else None
    for _, tensor in named:
        scalar = tensor.dim() == 0 and tensor.is_cpu and tensor is not written
        if tensor.device != common and not scalar:
            refuse(WORDS["two_devices"].format(common, tensor.device))
    return common


def _index_device(named: list[tuple[str, torch.Tensor]], reading: bool, accumulate: bool) -> torch.device:
    """Indexing: index tensors may be on the CPU; values must be where the indexed tensor is."""
    __tracebackhide__ = True
    home = named[0][1].device
    for name, tensor in named[1:]:
        if tensor.device == home:
            continue
        if name != "values" and not tensor.is_cpu and (reading or home.type == "cuda") and tensor.dim() > 0:
            refuse(WORDS["indices"].format(home))
        if name == "values" and accumulate:
            refuse(WORDS["values"].format(home, tensor.device))
        if name == "values" and (tensor.dim() > 0 or not tensor.is_cpu):
            gpu, other = (home, tensor.device) if home.type == "cuda" else (tensor.device, home)
            refuse(WORDS["two_devices"].format(gpu, other))
    return home


def _check_mask(named: list[tuple[str, torch.Tensor]]) -> None:
    """`masked_fill` compares mask and tensor by hand."""
    __tracebackhide__ = True
    tensors = dict(named)
    if tensors["mask"].device != tensors["self"].device:
        refuse(WORDS["mask"].format(tensors["mask"].device, tensors["self"].device))


def _check_attention(named: list[tuple[str, torch.Tensor]]) -> None:
    """Attention compares query, key and value by hand."""
    __tracebackhide__ = True
    devices = {name: tensor.device for name, tensor in named}
    query, key, value = (devices[name] for name in ("query", "key", "value"))
    if not query.type == key.type == value.type:
        refuse(WORDS["attention"].format(query, key, value))


def _check_torchvision(named: list[tuple[str, torch.Tensor]]) -> None:
    """Kernels of torchvision, such as `nms`, ask each tensor by name."""
    __tracebackhide__ = True
    for name, tensor in named:
        if tensor.is_cpu:
            refuse(WORDS["torchvision"].format(name))


def _check_convolution(named: list[tuple[str, torch.Tensor]]) -> None:
    """Convolution compares types such as torch.cuda.FloatTensor, which do not tell the GPU's index."""
    __tracebackhide__ = True
    types = {name: tensor.type() for name, tensor in named}
    source = types["self"]
    for name in ("weight", "bias"):
        if types.get(name, source) != source:
            tail = WORDS["mkldnn"] if named[0][1].is_cpu and source == "torch.FloatTensor" else ""
            refuse(WORDS["convolution"].format(source, name, types[name], tail))
