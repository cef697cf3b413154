"""What judges of placement need: a GPU to try an answer on, a machine that has fewer, and copies counted."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from course_utils.memory.labels import tensors_in
from course_utils.virtual import virtual_gpus
from course_utils.virtual.tensor import VirtualTensor

CPU = torch.device("cpu")
aten = torch.ops.aten
_MOVES = ("to", "cpu", "cuda", "type", "tolist", "numpy", "__repr__")
_FACTORIES = ("tensor", "as_tensor", "asarray")


@contextmanager
def some_gpus(needed: int = 1, most: int = 8) -> Iterator[list[torch.device]]:
    """Yield at most `most` GPUs, real or virtual; where there are fewer than `needed`, virtual ones."""
    with ExitStack() as stack:
        if torch.cuda.device_count() < needed:
            stack.enter_context(virtual_gpus(count=most))
        yield [torch.device("cuda", index) for index in range(min(most, torch.cuda.device_count()))]


@contextmanager
def visible_gpus(count: int) -> Iterator[None]:
    """Let PyTorch see only the first `count` GPUs, as `torch.load` asks for them."""
    with (
        patch.object(torch.cuda, "is_available", lambda: count > 0),
        patch.object(torch.cuda, "device_count", lambda: count),
    ):
        yield


class Copies(TorchDispatchMode):
    """Records in a `with` block each copy from one device to another, also the silent ones.

    That is `.to` and its relatives, `copy_`, tensors made from Python numbers on a GPU, numbers fetched from
    it (`.item()`, `if loss < 1`), and CPU tensors as indices of GPU tensors.

    Attributes:
        made: for each copy the devices that it went from and to, and its bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[torch.device, torch.device, int]] = []
        self._inside = False
        self._patches = ExitStack()

    @property
    def host(self) -> list[int]:
        """The bytes of each copy between host memory and a GPU, either way."""
        return [nbytes for one, two, nbytes in self.made if CPU in (one, two)]

    @property
    def busiest(self) -> int:
        """The most bytes that one device sent, or received."""
        ends = (Counter[torch.device](), Counter[torch.device]())
        for one, two, nbytes in self.made:
            ends[0][one] += nbytes
            ends[1][two] += nbytes
        return max((0, *ends[0].values(), *ends[1].values()))

    def note(self, source: torch.device, target: torch.device, nbytes: int) -> None:
        """Take a copy."""
        if source != target:
            self.made.append((source, target, nbytes))

    def __enter__(self) -> "Copies":
        for owner in (torch.Tensor, VirtualTensor):
            for name in _MOVES:
                if owner is torch.Tensor or name in vars(owner):
                    self._watch(owner, name, self._moved)
        for name in _FACTORIES:
            self._watch(torch, name, self._made)
        self._watch(torch.Tensor, "new_tensor", lambda args, result: self._made(args[1:], result))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._patches.close()
        super().__exit__(*error)

    def _watch(self, owner: Any, name: str, note: Callable[[tuple[Any, ...], Any], None]) -> None:
        """Let each outermost call of `owner.name` be noted, with its arguments and its result."""
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return real(*args, **kwargs)
            self._inside = True
            try:
                result = real(*args, **kwargs)
            finally:
                self._inside = False
            note(args, result)
            return result

        self._patches.enter_context(patch.object(owner, name, call))

    def _moved(self, args: tuple[Any, ...], result: Any) -> None:
        """Note what a method of a tensor copied; what is no tensor is on the host."""
        source, target = args[0].device, getattr(result, "device", CPU)
        self.note(source, target, (args[0] if target == CPU else result).nbytes)

    def _made(self, args: tuple[Any, ...], result: torch.Tensor) -> None:
        """Note what a factory copied."""
        data = args[0] if args else None
        if isinstance(data, torch.Tensor):
            return self._moved((data,), result)
        for tensor in tensors_in(data):  # each is fetched as a number
            self.note(tensor.device, CPU, tensor.nbytes)
        self.note(CPU, result.device, result.nbytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what crosses inside one operation."""
        if not self._inside:
            self._look(func, args)
        return func(*args, **(kwargs or {}))

    def _look(self, func: Any, args: Any) -> None:
        tensors = list(tensors_in(args))
        if func is aten._local_scalar_dense.default:
            self.note(tensors[0].device, CPU, tensors[0].itemsize)
        elif func is aten.copy_.default:
            self.note(tensors[1].device, tensors[0].device, tensors[0].nbytes)
        elif gpu := next((tensor.device for tensor in tensors if tensor.is_cuda), None):
            for tensor in tensors:
                if not tensor.is_cuda and tensor.dim():  # a single number travels with the operation
                    self.note(CPU, gpu, tensor.nbytes)
