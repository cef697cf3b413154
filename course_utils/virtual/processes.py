"""Child processes have the virtual GPUs of their parent, and tensors that go to one keep their GPU.

A child finds out by a variable of its environment, and by a folder on its PYTHONPATH: see `startup`. A child
that was forked has the GPUs no more than with CUDA.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.multiprocessing import reductions

from .machine import Machine, active
from .startup.sitecustomize import FOLDER, SETTINGS
from .tensor import VirtualTensor, wrap


def settings(count: int, memory: int | str) -> dict[str, str]:
    """Return the variables that give a child process virtual GPUs."""
    path = os.environ.get("PYTHONPATH", "")
    first = [] if path.split(os.pathsep)[0] == FOLDER else [FOLDER]
    return {
        SETTINGS: f"{count}:{memory}",
        "PYTHONPATH": os.pathsep.join(filter(None, [*first, path])),
    }


@contextmanager
def shared(machine: Machine) -> Iterator[None]:
    """Let the children of this process have virtual GPUs like its own."""
    variables = settings(machine.count, machine.capacity)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _rebuild(inner: torch.Tensor, index: int, requires_grad: bool, parameter: bool) -> torch.Tensor:
    """Make a tensor of another process: both see the same memory, as with CUDA."""
    tensor = wrap(inner, active().device(index)).requires_grad_(requires_grad)
    return torch.nn.Parameter(tensor, requires_grad) if parameter else tensor


def _reduce(tensor: VirtualTensor) -> Any:
    """Pickle a tensor for another process."""
    if tensor.requires_grad and not tensor.is_leaf:
        reductions.reduce_tensor(torch.empty(0, requires_grad=True) * 1)  # raises PyTorch's error
    parameter = isinstance(tensor, torch.nn.Parameter)
    return _rebuild, (tensor._inner.detach(), tensor.get_device(), tensor.requires_grad, parameter)


ForkingPickler.register(VirtualTensor, _reduce)
