"""Virtual GPUs: `cuda:0` ... `cuda:7` on a machine that has none.

They hold real numbers, refuse to mix, run out of memory, and carry the real `nn.DataParallel`. The same
code runs unchanged on real GPUs. To read how it works, start with `tensor.py` (a tensor that says where it
is) and `dispatch.py` (what happens when an operation meets one), then `rules.py` (what may mix) and
`allocator.py` (bytes); the other files are named after what they stand in for.

What they are not:

* fast. A virtual GPU is the CPU; nothing about speed is simulated, and streams never overlap.
* a memory profiler of kernels. Only tensors are counted: no workspaces, no temporary buffers inside one
  operation, no CUDA context. (Their blocks and segments follow CUDA's caching allocator, see `allocator.py`.)
* asynchronous. An error is raised by the very call that made it.
* sparing with host memory. A result is computed on the host before it is found too big for the device; only
  factories (`torch.empty`, ...) and copies are measured first.
* there before they are switched on. A `torch.tensor` taken out of torch earlier (`from torch import tensor`)
  fails; other functions taken out earlier know them.
* shared by processes. Each process has its own, all of them: what another rank holds on `cuda:1` is not seen
  here. NCCL's collectives are carried by gloo, see `collectives.py`.
* a compiler target. CUDA graphs and custom CUDA kernels do not know them; `torch.compile`
  leaves the code as it is, and says so. Nested and quantized tensors are not carried: a `TransformerEncoder`
  in its fast path gives zeros at padded places on CUDA, here what its layers give.
* separate random streams. A device draws from the CPU's stream, which makes its numbers equal to the
  CPU's, until `torch.cuda.manual_seed` gives it one of its own.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch

from . import (
    autocast,
    collectives,
    composites,
    creation,
    cuda_api,
    gradients,
    memory_api,
    moves,
    parallel,
    randomness,
    storages,
    subclasses,
)
from .machine import Machine, activate, active, is_active
from .processes import shared

__all__ = ["Machine", "is_active", "switch_off", "switch_on", "virtual_gpus"]

_ROOMS = (
    moves,
    creation,
    gradients,
    cuda_api,
    memory_api,
    randomness,
    parallel,
    storages,
    autocast,
    composites,
    collectives,
    subclasses,
)
_UNITS = {"B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_stack: ExitStack | None = None


def parse_memory(memory: int | str) -> int:
    """Turn `"2 GiB"`, `"512 MiB"` or a number of bytes into bytes.

    Raises:
        ValueError: the text is not a number followed by B, KiB, MiB, GiB or TiB.
    """
    if isinstance(memory, int):
        nbytes = memory
    else:
        number = memory.rstrip("BbKkMmGgTtIi ")
        unit = memory[len(number) :].strip().upper() or "B"
        try:
            nbytes = int(float(number) * _UNITS[unit])
        except (KeyError, ValueError):
            raise ValueError(
                f"memory={memory!r} is not a size. Write a number and a unit: '2 GiB'."
            ) from None
    if nbytes <= 0:
        raise ValueError(f"memory={memory!r} is not a size above zero. Write, for example, '2 GiB'.")
    return nbytes


def switch_on(count: int = 8, memory: int | str = "2 GiB") -> Machine:
    """Switch virtual GPUs on until `switch_off()`; the same settings again change nothing.

    Args:
        count: number of devices, 1 to 8.
        memory: capacity of each, as bytes or text such as "2 GiB".

    Raises:
        ValueError: a bad count or size.
        RuntimeError: already on with other settings, a real GPU's CUDA is already in use, or torch is
            older than 2.10.
    """
    global _stack
    capacity = parse_memory(memory)
    if not 1 <= count <= 8:
        raise ValueError(f"count={count} is not a number of virtual GPUs. Choose 1 to 8.")
    if is_active():
        machine = active()
        if (machine.count, machine.capacity) != (count, capacity):
            raise RuntimeError(
                f"Virtual GPUs are already on: {machine.count} with {machine.capacity} bytes each. "
                f"Switch them off first to have {count} with {capacity} bytes each."
            )
        return machine
    if torch.__version__ < "2.10":  # compares as versions, not as texts
        raise RuntimeError(
            f"Virtual GPUs need torch 2.10 or newer; this is torch {torch.__version__}. "
            "Install the course's requirements: pip install -r requirements.txt"
        )
    if torch.cuda.is_initialized():
        raise RuntimeError(
            "A real GPU is in use in this process. Restart the kernel, then choose virtual GPUs."
        )
    machine = Machine(count, capacity)
    with ExitStack() as stack:
        for room in _ROOMS:
            for owner, name, value in room.replacements(machine):
                stack.enter_context(mock.patch.object(owner, name, value, create=True))
        stack.callback(_register()._destroy)
        stack.callback(activate, None)
        activate(machine)
        stack.enter_context(shared(machine))
        _stack = stack.pop_all()
    return machine


def _register() -> torch.library.Library:
    """Put kernels in the place of CUDA's; `_destroy()` of the result takes them back."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "Overriding a previously registered kernel"
        for name, key, kernel in (*autocast.kernels(), *creation.kernels()):
            library.impl(name, kernel, key)
    return library


def switch_off() -> None:
    """Switch virtual GPUs off and put every function of PyTorch back; nothing happens when they are off."""
    global _stack
    if _stack is not None:
        stack, _stack = _stack, None
        stack.close()


@contextmanager
def virtual_gpus(count: int = 8, memory: int | str = "2 GiB") -> Iterator[Machine]:
    """Have `count` virtual GPUs of `memory` each inside a `with` block.

    Yields:
        The `Machine`, whose ledger tells the bytes on each device.

    Raises:
        ValueError, RuntimeError: as `switch_on` does. Inside a block with the same settings nothing changes.
    """
    nested = is_active()
    machine = switch_on(count, memory)
    try:
        yield machine
    finally:
        if not nested:
            switch_off()
