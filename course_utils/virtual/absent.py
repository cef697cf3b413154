"""What virtual GPUs do not have: everything that would need a real one says so, in one line.

All of `torch.cuda` ends in C functions whose names begin alike. The other files stand in for some of them;
here each of the rest is refused, but for those that only tell of the build or keep a setting.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch

from .errors import ABSENT, refusal
from .machine import Machine

_C_FUNCTION = re.compile(r"_(cuda|nccl|gds|accelerator)_(?!" + ABSENT["but_for"].replace(" ", "|") + ")")


class _Runtime:
    """`torch.cuda.cudart()`: a profiler that looks on from outside can be told to begin and to end."""

    cudaProfilerStart = cudaProfilerStop = staticmethod(lambda: 0)

    def __getattr__(self, name: str) -> Any:
        return refusal(f"torch.cuda.cudart().{name}")


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): refusals. The first of all rooms, so that the others replace some again."""
    for name, value in list(vars(torch._C).items()):
        if _C_FUNCTION.match(name) and not isinstance(value, type):
            yield torch._C, name, refusal(f"torch._C.{name}")
    for name in ABSENT["functions"].split():
        for owner in (torch.cuda, torch.cuda.memory):
            yield owner, name, refusal(f"torch.cuda.{name}")
    for path in ABSENT["classes"].split():
        module, _, name = path.rpartition(".")
        found = getattr(import_module(module), name, None)  # some are younger than PyTorch 2.10
        if found is not None:
            yield found, "__new__" if "__new__" in vars(found) else "__init__", refusal(path)
    runtime = _Runtime()
    for owner in (torch.cuda, torch.cuda.profiler):
        yield owner, "cudart", lambda: runtime
