"""What the all-reduce exercises need: every byte that travels between devices counted."""

from collections import Counter
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from course_utils.virtual import moves

_COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class Traffic(TorchDispatchMode):
    """Counts, in a `with` block, the bytes that `.to`, `copy_` and the like move from one device to another.

    Attributes:
        sent, received: bytes, by device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter[torch.device] = Counter()
        self.received: Counter[torch.device] = Counter()
        self._patches = ExitStack()

    @property
    def busiest(self) -> int:
        """The most bytes that one device sent, or received."""
        return max((0, *self.sent.values(), *self.received.values()))

    def __enter__(self) -> "Traffic":
        real = moves.transfer

        def transfer(tensor: torch.Tensor, device: torch.device, options: dict[str, Any]) -> torch.Tensor:
            result = real(tensor, device, options)
            self._note(tensor.device, result)
            return result

        self._patches.enter_context(patch.object(moves, "transfer", transfer))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._patches.close()
        super().__exit__(*error)

    def _note(self, source: torch.device, result: torch.Tensor) -> None:
        if source != result.device:
            self.sent[source] += result.nbytes
            self.received[result.device] += result.nbytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a copy; a number that is read from a GPU goes to the CPU."""
        result = func(*args, **(kwargs or {}))
        if func in _COPIES:
            self._note(args[func is _COPIES[0]].device, result)
        elif func is torch.ops.aten._local_scalar_dense.default:
            self._note(args[0].device, torch.empty((), dtype=args[0].dtype))
        return result
