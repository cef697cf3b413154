"""Which memory belongs to what: parameters, their gradients, optimizer state, inputs.

The history knows addresses only. Whenever PyTorch shows an object, a mark says what the memory behind it is;
`history.py` finds the block that was at this address at this time.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import Any, NamedTuple
from weakref import ref

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from course_utils.figures.nested import parameters_of, tensors_in, walk
from course_utils.virtual import history as virtual_history
from course_utils.virtual import is_active
from course_utils.virtual.tensor import dense_parts


class Mark(NamedTuple):
    """At `time`, the block at `address` was `category`; not `sure` when forward may as well have made it.

    The time is that of the history: microseconds since 1970, on virtual GPUs a count of events.
    """

    time: int
    address: int
    category: str
    sure: bool = True


class Marks:
    """Collects marks. Keeps no object alive.

    Args:
        named: the reader's modules, optimizers and tensors, also in lists, tuples and dicts.

    Attributes:
        noted: the marks.
        hooks: on the parameters of replicas, until it is closed.

    Raises:
        TypeError: a value is of another kind.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.noted: list[Mark] = []
        self.hooks = ExitStack()
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
        """Mark what belongs to the modules, optimizers and parameters that the reader named."""
        for named in self._named:
            if (value := named()) is not None:
                self.own(value)

    def own(self, value: nn.Module | Optimizer | Tensor) -> None:
        """Mark a module's, an optimizer's or single parameters, their gradients, and an optimizer's state."""
        parameters = [value]
        if isinstance(value, nn.Module):
            parameters = chain(parameters_of(value), value.buffers())
        elif isinstance(value, Optimizer):
            parameters = chain.from_iterable(group["params"] for group in value.param_groups)
            self.add(list(value.state.values()), "optimizer state")
        for parameter in parameters:
            self.add(parameter, "parameters")
            if not parameter.is_leaf:  # a replica's: its gradient is seen when it comes by
                note = partial(self.add, category="gradients")
                self.hooks.enter_context(parameter.register_hook(note))
            elif parameter.grad is not None:
                self.add(parameter.grad, "gradients")

    def add(self, value: Any, category: str, sure: bool = True) -> None:
        """Mark the memory behind the tensors in `value` that are on a GPU."""
        now = virtual_history.now() if is_active() else time.time_ns() // 1000
        for tensor in tensors_in(value):
            if tensor.device.type == "cuda" and not is_lazy(tensor):
                for part in dense_parts(tensor):
                    self.noted.append(Mark(now, part.untyped_storage().data_ptr(), category, sure))
