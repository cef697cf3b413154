"""Which memory belongs to what: parameters, their gradients, optimizer state, inputs.

The history knows addresses only. Whenever PyTorch shows an object, a mark says what the memory behind it is;
`history.py` finds the block that was at this address at this time.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from course_utils.virtual import history as virtual_history
from course_utils.virtual import is_active

from .labels import ACCUMULATE, FORWARD, FROM_HOST, RECOMPUTE, Label, on_host, tensors_in

# Operators whose libraries take memory of their own beside the result, and may keep it.
WITH_WORKSPACE = frozenset("addmm mm bmm baddbmm addmv mv addbmm dot vdot convolution _scaled_mm".split())


class Mark(NamedTuple):
    """At `time`, the block at `address` was `category`; not `sure` when forward may as well have made it."""

    time: int
    address: int
    category: str
    sure: bool = True


def now() -> int:
    """Return the history's time: microseconds since 1970, on virtual GPUs a count of events."""
    return virtual_history.now() if is_active() else time.time_ns() // 1000


def addresses(tensor: Tensor) -> Iterator[int]:
    """Yield where the memory of a tensor on a GPU begins; nothing for a tensor elsewhere."""
    if tensor.device.type == "cuda" and not is_lazy(tensor):
        sparse = tensor.layout is torch.sparse_coo
        parts = (tensor._indices(), tensor._values()) if sparse else (tensor,)
        yield from (part.untyped_storage().data_ptr() for part in parts)


def _parameters(module: nn.Module) -> Iterator[Tensor]:
    """Yield parameters and buffers; replicas of DataParallel keep their parameters elsewhere."""
    replicas = (vars(child).get("_former_parameters", {}).values() for child in module.modules())
    return chain(module.parameters(), module.buffers(), *replicas)


class Marks:
    """Collects marks. Keeps no object alive.

    Args:
        named: the reader's modules, optimizers and tensors, also in lists, tuples and dicts.

    Raises:
        TypeError: a value is of another kind.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.noted: list[Mark] = []
        self._handles: list[RemovableHandle] = []
        self._named: list[ref[Any]] = []
        self._inputs: list[int] = []
        for name, value in named.items():
            self._take(name, value)

    def _take(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module | Optimizer | nn.Parameter):
            self._named.append(ref(value))
        elif isinstance(value, Tensor):
            self._inputs += addresses(value)
        elif isinstance(value, Mapping | list | tuple):
            for item in value.values() if isinstance(value, Mapping) else value:
                self._take(name, item)
        else:
            kind = type(value).__name__
            raise TypeError(f"{name} is a {kind}; track_memory takes modules, optimizers and tensors.")

    def open(self) -> None:
        """Mark what the reader named."""
        self._note(self._inputs, "inputs")
        self.look()

    def look(self) -> None:
        """Mark again what belongs to the modules and optimizers that the reader named."""
        for value in (named() for named in self._named):
            if value is None:
                continue
            if isinstance(value, Optimizer):
                self.stepping(value)
                self.stepped(value)
            else:
                self._own([value] if isinstance(value, Tensor) else _parameters(value))

    def close(self) -> None:
        """Take the hooks off the parameters of replicas."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    # ---- what PyTorch shows ---------------------------------------------------------------------------
    def entering(self, module: nn.Module, args: Any) -> None:
        """Mark the parameters of the outermost module of a thread, and what it is called with."""
        self._own(_parameters(module))
        replica = getattr(module, "_is_replica", False)  # of DataParallel: it is called with parts of a batch
        for tensor in tensors_in(args):
            self.add(tensor, "inputs", sure=replica)

    def stepping(self, optimizer: Optimizer) -> None:
        """Mark parameters and gradients before an optimizer's step."""
        for group in optimizer.param_groups:
            self._own(group["params"])

    def stepped(self, optimizer: Optimizer) -> None:
        """Mark the optimizer's state after its step."""
        for tensor in tensors_in(list(optimizer.state.values())):
            self.add(tensor, "optimizer state")

    def computed(self, label: Label, args: Any, result: Any) -> None:
        """Mark the result of an operation if more is known than its label says."""
        if label.operation == ACCUMULATE:
            category, sure = "gradients", True
        elif label.operation in WITH_WORKSPACE and label.phase in (FORWARD, RECOMPUTE):
            category, sure = "activations", True
        elif label.operation == FROM_HOST or (label.operation == "copy_" and on_host(args[1])):
            category, sure = "inputs", False
        else:
            return
        for tensor in tensors_in(result):
            self.add(tensor, category, sure)

    # ---- noting ---------------------------------------------------------------------------------------
    def _own(self, parameters: Iterable[Tensor]) -> None:
        """Mark parameters and their gradients; a replica's gradients are seen when they come by."""
        for parameter in parameters:
            self.add(parameter, "parameters")
            if not parameter.is_leaf:
                self._handles.append(parameter.register_hook(self._passing))
            elif parameter.grad is not None:
                self.add(parameter.grad, "gradients")

    def _passing(self, gradient: Tensor) -> None:
        self.add(gradient, "gradients")

    def add(self, tensor: Tensor, category: str, sure: bool = True) -> None:
        """Mark the memory behind a tensor, if it is on a GPU."""
        self._note(addresses(tensor), category, sure)

    def _note(self, places: Iterable[int], category: str, sure: bool = True) -> None:
        self.noted += [Mark(now(), address, category, sure) for address in places]
