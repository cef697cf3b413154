"""Labels: what is running, as a word on each entry of PyTorch's memory history.

PyTorch's viewer (https://docs.pytorch.org/memory_viz) shows them, too.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel

from course_utils.virtual.machine import active, is_active

FORWARD, BACKWARD, RECOMPUTE, STEP, OTHER = "forward", "backward", "recompute", "optimizer step", "other"
FROM_HOST, ACCUMULATE = "copy from host", "accumulate gradient"
_NODE_KEY = "course_utils module"
_SEPARATOR = " | "
now_signing = itertools.count(1).__next__


class Label(NamedTuple):
    """What was running: phase, module (qualified name, may be empty), operation (of aten)."""

    phase: str = OTHER
    module: str = ""
    operation: str = ""

    @property
    def text(self) -> str:
        """The label as the history's metadata."""
        return _SEPARATOR.join(self)

    def __str__(self) -> str:
        """Say it in words, as in "backward of features.3: convolution_backward"."""
        words = {RECOMPUTE: "recomputing", OTHER: ""}.get(self.phase, self.phase)
        if self.module:
            words += f" {self.module}" if self.phase == RECOMPUTE else f" of {self.module}"
        return ": ".join(filter(None, (words, self.operation))) or "between operations"


NOTHING = Label()  # between a step and the next operation


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Label | None, str]:
    """Read a label and its words out of the history's metadata; no label from a text of somebody else."""
    parts = text.split(_SEPARATOR)
    label = Label(*parts) if len(parts) == 3 else None
    return label, str(label or NOTHING)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in `value`, also those in lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))


def module_names(root: nn.Module, name: str = "", full: bool = False) -> dict[nn.Module, str]:
    """Return the qualified name of each module in `root`, such as "features.3".

    Args:
        name: what the reader calls it. The parts of a bare `nn.Sequential` are numbers only: they get it as
            their first part, or else the name of the class.
        full: give it to every part.
    """
    inner = root.module if isinstance(root, DataParallel) else root  # replicas know no "module." either
    first = name or type(inner).__name__
    names = {root: name or type(root).__name__}
    for path, module in inner.named_modules():
        alone = path and not full and not path.replace(".", "").isdigit()
        names.setdefault(module, path if alone else f"{first}.{path}".rstrip("."))
    return names


def sign(tensors: Iterable[Tensor], name: str, first: int, began: int) -> None:
    """Write a module's name on the autograd nodes that its forward made, where no inner module has signed.

    Args:
        tensors: the results of the forward.
        first: its nodes have this number or a higher one.
        began: nodes that were signed earlier than this are not its own; `now_signing` counts.
    """
    nodes = [tensor.grad_fn for tensor in tensors]
    seen = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen or node._sequence_nr() < first:
            continue
        seen.add(node)
        if node.metadata.setdefault(_NODE_KEY, (name, now_signing()))[1] > began:
            nodes.extend(following for following, _ in node.next_functions)


def sign_sources(tensors: Iterable[Tensor], name: str) -> None:
    """Write a module's name on the autograd nodes that made `tensors`, and on no others."""
    for node in filter(None, (tensor.grad_fn for tensor in tensors)):
        node.metadata.setdefault(_NODE_KEY, (name, now_signing()))


def backward_label(operation: str) -> Label:
    """Return the label of an operation in the backward pass: each node knows its module."""
    node = torch._C._current_autograd_node()
    if node is None:
        return Label(BACKWARD, "", operation)
    last = node.name() == "torch::autograd::AccumulateGrad"
    return Label(BACKWARD, node.metadata.get(_NODE_KEY, ("",))[0], ACCUMULATE if last else operation)


@cache
def _name_of(func: Any) -> str:
    return getattr(func, "overloadpacket", func).__name__


def operation_name(func: Any, args: Any) -> str:
    """Return the operator's name, or FROM_HOST for what brings data from the host's memory."""
    name = _name_of(func)
    return FROM_HOST if name == "lift_fresh" or (name == "_to_copy" and on_host(args[0])) else name


def on_host(tensor: Tensor) -> bool:
    """Tell whether `tensor` is in the host's memory; the numbers of a virtual GPU are, and do not count."""
    if tensor.device.type != "cpu":
        return False
    return not is_active() or active().home(tensor.untyped_storage()) is None
