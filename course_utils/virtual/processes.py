"""Child processes have the virtual GPUs of their parent, and tensors that go to one keep their GPU.

A child finds out by a variable of its environment, and by a folder on its PYTHONPATH: see `startup`. A child
that was forked has the GPUs no more than with CUDA.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any
from unittest import mock

import torch
from torch.multiprocessing import reductions

from .machine import Machine, active
from .startup.sitecustomize import settings
from .tensor import VirtualTensor, wrap


@contextmanager
def shared(machine: Machine) -> Iterator[None]:
    """Let the children of this process have virtual GPUs like its own."""
    variables = settings(machine.count, machine.capacity, machine.card)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _rebuild(make: Any, parts: Any, layout: Any, index: int, requires_grad: bool, is_param: bool) -> Any:
    """Make a tensor that came from another process: both see the same memory, as with CUDA."""
    dtype, *place = layout
    tensor = wrap(torch.empty(0, dtype=dtype).set_(make(*parts), *place), active().device(index))
    return torch.nn.Parameter(tensor, requires_grad) if is_param else tensor.requires_grad_(requires_grad)


def _reduce(tensor: VirtualTensor) -> Any:
    """Pickle a tensor for another process."""
    if tensor.requires_grad and not tensor.is_leaf:
        reductions.reduce_tensor(torch.zeros(1, requires_grad=True).clone())  # PyTorch's own error
    inner, is_param = tensor._inner, isinstance(tensor, torch.nn.Parameter)
    with mock.patch.object(torch.UntypedStorage, "device", torch.device("cpu")):  # which the memory is on
        shared = reductions.reduce_storage(inner.untyped_storage())
    layout = inner.dtype, inner.storage_offset(), inner.size(), inner.stride()
    return _rebuild, (*shared, layout, tensor.get_device(), tensor.requires_grad, is_param)


ForkingPickler.register(VirtualTensor, _reduce)
