"""Which operations of a program mix devices: all of them in one run, where PyTorch stops at the first."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from course_utils.memory.labels import tensors_in

from .placement import some_gpus


@contextmanager
def two_devices() -> Iterator[tuple[torch.device, torch.device]]:
    """Yield two devices to try an answer on: two GPUs, real or virtual, or the one there is and the CPU.

    After the block random numbers go on as if none had been drawn, and the current GPU is that of before.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        places = stack.enter_context(some_gpus())
        stack.enter_context(torch.cuda.device(0))
        first, second = [*places, torch.device("cpu")][:2]
        yield first, second


def places(*values: Any) -> set[torch.device]:
    """Return the devices of the tensors in `values`, also of those in lists and dicts."""
    return {tensor.device for tensor in tensors_in(values)}


@dataclass(frozen=True)
class Mix:
    """One operation that refused tensors on two devices.

    Attributes:
        operation: name of the function, as in "sub" or "cross_entropy".
        astray: the tensors that were not where the work is.
        in_module: whether it was called in a module's `forward`.
    """

    operation: str
    astray: list[torch.Tensor]
    in_module: bool


class Watch(TorchFunctionMode):
    """A `with` block that notes where the work is done.

    With `mend`, an operation that refuses a mix is noted, and run again with its tensors brought together:
    so one run finds every mix.

    Attributes:
        home: the device where the work should be.
        mend: see above.
        mixes: what was mended, in order.
        worked_on: the devices where linear layers worked.
    """

    def __init__(self, home: torch.device, *, mend: bool = False) -> None:
        super().__init__()
        self.home, self.mend = home, mend
        self.mixes: list[Mix] = []
        self.worked_on: set[torch.device] = set()
        self._depth = 0

    def __enter__(self) -> "Watch":
        self._hooks = [
            hooks.register_module_forward_pre_hook(lambda *_: self._step(1)),
            hooks.register_module_forward_hook(lambda *_: self._step(-1), always_call=True),
        ]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def _step(self, step: int) -> None:
        """Go into a module's `forward`, or out of it."""
        self._depth += step

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function of PyTorch."""
        kwargs = kwargs or {}
        try:
            result = func(*args, **kwargs)
        except RuntimeError:
            if not self.mend or len(places(args, kwargs)) < 2:
                raise
            result = self._mended(func, args, kwargs)
        if func.__name__ == "linear":
            self.worked_on |= places(result)
        return result

    def _mended(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Note a mix, and return what the function gives with all its tensors on one device."""
        tensors = list(tensors_in((args, kwargs)))
        astray = [tensor for tensor in tensors if tensor.device != self.home]
        name = func.__name__
        self.mixes.append(Mix(name, astray, self._depth > 0))
        in_place = name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
        place = tensors[0].device if in_place else self.home
        args, kwargs = tree_map(
            lambda value: value.to(place) if isinstance(value, torch.Tensor) else value, (args, kwargs)
        )
        return func(*args, **kwargs)
