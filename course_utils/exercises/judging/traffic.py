"""What the all-reduce exercises need: several GPUs, and every byte that travels between devices counted."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ...virtual import moves, virtual_gpus

_COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


@contextmanager
def several_gpus(most: int = 8) -> Iterator[list[torch.device]]:
    """Yield GPUs to try an answer on, at most `most`; virtual ones where there are fewer than two."""
    with ExitStack() as stack:
        if torch.cuda.device_count() < 2:
            stack.enter_context(virtual_gpus(count=most))
        yield [torch.device("cuda", index) for index in range(min(most, torch.cuda.device_count()))]


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
