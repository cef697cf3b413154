"""What virtual GPUs do not have: everything that would need a real one says so, in one line.

All of `torch.cuda` ends in C functions whose names begin alike. The other files stand in for some of them;
here each of the rest is refused, but for those that only tell of the build or keep a setting.
"""

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorConverter

from .errors import ABSENT, absent, refusal
from .machine import Machine, is_active
from .startup.sitecustomize import when_imported
from .tensor import VirtualTensor

_NAMES = re.compile(r"_(cuda|nccl|gds|accelerator)_(?!" + ABSENT["but_for"].replace(" ", "|") + ")")


def _not_of_virtual(real: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Wrap what reads memory of its own accord: it would find none behind a virtual tensor."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if any(type(value) is VirtualTensor for value in args):
            absent(name)
        return real(*args, **kwargs)

    return call


def _refuse_in(name: str, what: str) -> Callable[[Any], None]:
    """Return what lets a module refuse, while virtual GPUs are on, that of which a function is the way in."""

    def change(module: Any) -> None:
        real = getattr(module, name)
        setattr(module, name, lambda *given: absent(what) if is_active() else real(*given))

    return change


class _Marks:
    """What `torch.cuda.nvtx` calls: marks for a profiler that looks on, which a build for the CPU lacks."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_: 0


class _Runtime:
    """`torch.cuda.cudart()`: a profiler that looks on from outside can be told to begin and to end."""

    cudaProfilerStart = cudaProfilerStop = staticmethod(lambda: 0)

    def __getattr__(self, name: str) -> Any:
        return refusal(f"torch.cuda.cudart().{name}")


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): refusals. The first of all rooms, so that the others replace some again."""
    for name, value in list(vars(torch._C).items()):
        if _NAMES.match(name) and not isinstance(value, type):
            yield torch._C, name, refusal(f"torch._C.{name}")
    for path in ABSENT["names"].split():
        module, _, name = path.rpartition(".")
        found = getattr(import_module(module), name, None)  # some are younger than PyTorch 2.10
        if isinstance(found, type):
            yield found, "__new__" if "__new__" in vars(found) else "__init__", refusal(path)
        elif found is not None:
            yield import_module(module), name, refusal(path)
    for owner, name in ((torch._C, "_to_dlpack"), (torch, "to_dlpack"), (torch.utils.dlpack, "to_dlpack")):
        yield owner, name, _not_of_virtual(getattr(owner, name), "torch.to_dlpack")
    fake = FakeTensorConverter.from_real_tensor
    yield FakeTensorConverter, "from_real_tensor", _not_of_virtual(fake, "torch.export")
    for owner in (torch.cuda, torch.cuda.profiler):
        yield owner, "cudart", _Runtime
    yield torch.cuda.nvtx, "_nvtx", _Marks()


when_imported("torch.utils.cpp_extension", _refuse_in("_join_cuda_home", "an extension in CUDA"))
when_imported("triton.runtime.driver", _refuse_in("_create_driver", "a Triton kernel"))
