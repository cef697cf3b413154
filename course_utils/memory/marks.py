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

from course_utils.figures.nested import parameters_of, tensors_in, walk
from course_utils.virtual import history as virtual_history
from course_utils.virtual import is_active

from .labels import ACCUMULATE, FROM_HOST, Label

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
        for name, value in chain.from_iterable(walk(value, name) for name, value in named.items()):
            if isinstance(value, nn.Module | Optimizer | nn.Parameter):
                self._named.append(ref(value))
            elif isinstance(value, Tensor):
                self.add(value, "inputs")
            else:
                kind = type(value).__name__
                raise TypeError(f"{name} is a {kind}; track_memory takes modules, optimizers and tensors.")

    def look(self) -> None:
        """Mark what belongs to the modules and optimizers that the reader named."""
        for value in (named() for named in self._named):  # None for what is gone
            if isinstance(value, Optimizer):
                self.stepping(value)
                self.stepped(value)
            elif isinstance(value, nn.Module):
                self._own(_registered(value))
            elif isinstance(value, Tensor):
                self._own([value])

    def close(self) -> None:
        """Take the hooks off the parameters of replicas."""
        while self._handles:
            self._handles.pop().remove()

    # ---- what PyTorch shows ---------------------------------------------------------------------------
    def entering(self, module: nn.Module, args: Any) -> None:
        """Mark the parameters of the outermost module of a thread, and what it is called with."""
        self._own(_registered(module))
        # a replica of DataParallel is called with parts of a batch
        self.add(args, "inputs", sure=getattr(module, "_is_replica", False))

    def stepping(self, optimizer: Optimizer) -> None:
        """Mark parameters and gradients before an optimizer's step."""
        self._own(chain.from_iterable(group["params"] for group in optimizer.param_groups))

    def stepped(self, optimizer: Optimizer) -> None:
        """Mark the optimizer's state after its step."""
        self.add(list(optimizer.state.values()), "optimizer state")

    def computed(self, label: Label, result: Any) -> None:
        """Mark the result of an operation whose memory may carry another label, or a library's beside it."""
        known = label.operation in (ACCUMULATE, FROM_HOST)
        if known or (label.operation in WITH_WORKSPACE and label.category == "activations"):
            self.add(result, label.category, sure=label.operation != FROM_HOST)

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

    def add(self, value: Any, category: str, sure: bool = True) -> None:
        """Mark the memory behind the tensors in `value` that are on a GPU."""
        places = chain.from_iterable(map(addresses, tensors_in(value)))
        self.noted += [Mark(now(), address, category, sure) for address in places]


def _registered(module: nn.Module) -> Iterator[Tensor]:
    return chain(parameters_of(module), module.buffers())
