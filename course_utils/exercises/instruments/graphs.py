"""A stand-in for a CUDA graph that runs on any machine.

It does what matters to its user: while it captures, nothing is computed; a replay repeats the captured
operations on the very same memory; no line of Python runs in it. It saves no time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from course_utils.figures.nested import tensors_in

_READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}  # Python is told what came out


class PretendGraph(TorchDispatchMode):
    """Stands in for `torch.cuda.CUDAGraph`.

    Attributes:
        captures, replays: how often each was done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.captures = self.replays = 0
        self._operations: list[tuple[Any, Any, Any, Any]] = []  # each with its memory

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Note the operations of a `with` block, as `with torch.cuda.graph(graph):` does.

        Raises:
            RuntimeError: (in the block) Python asks for a number, and nothing has been computed yet.
        """
        self.captures += 1
        self._operations.clear()
        with self:
            yield
        for *_, results in self._operations:
            for tensor in tensors_in(results):  # as they are before anything is computed
                tensor.fill_(float("nan") if tensor.is_floating_point() else 0)

    def replay(self) -> None:
        """Do the captured operations again, on the memory that they were captured with."""
        self.replays += 1
        with torch.no_grad():
            for function, args, kwargs, results in self._operations:
                found = tensors_in(function(*args, **kwargs))
                for old, new in zip(tensors_in(results), found, strict=False):
                    old.copy_(new)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _READS & set(func.tags):
            raise RuntimeError(
                "operation not permitted when a graph is being captured: nothing is computed yet"
            )
        new = None if func._schema.is_mutable else func(*args, **kwargs)
        if not func.is_view:  # a view is memory that is there
            # other names for the memory, which `tensor.data = ...` does not change
            same_memory = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs, new))
            self._operations.append((func, *same_memory))
        written = kwargs.get("out", args[0]) if func._schema.is_mutable and func._schema.returns else None
        return written if new is None else new
