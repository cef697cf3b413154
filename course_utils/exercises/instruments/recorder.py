"""What an answer did while it was tried: functions of PyTorch it called, launches a GPU would get."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..trying import Mistake

_NO_WORK = ("_unsafe_view", "_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty")
_WAYS_OUT = ("numpy", "tolist", "__array__", "__dlpack__", "cpu")


class TorchCalls(TorchFunctionMode):
    """Notes in a `with` block which functions of PyTorch are called, also where an error is caught.

    Attributes:
        names: of the functions, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.device:  # a name, no computation
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


class Launches(TorchDispatchMode):
    """Counts operations that a GPU would get as launches: all but views and empty memory."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func.overloadpacket.__name__ in _NO_WORK)
        return func(*args, **(kwargs or {}))


class StaysInside(TorchFunctionMode):
    """Finds data that leave PyTorch or go to the CPU, and so would escape a count."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        there = (*args[1:], *(kwargs or {}).values()) if name == "to" else ()
        if name in _WAYS_OUT or any(isinstance(item, str) and item == "cpu" for item in there):
            raise Mistake("left", way="It" if name in ("to", "cpu") else f"{name}()")
        return func(*args, **(kwargs or {}))
