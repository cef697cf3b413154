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
* a compiler target. CUDA graphs, custom CUDA kernels and `torch.compile` refuse them.
  Nested and quantized tensors are not carried: a `TransformerEncoder`
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
    absent,
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
from .errors import CARDS
from .machine import Machine, activate, active, is_active
from .processes import shared

__all__ = ["Machine", "is_active", "switch_off", "switch_on", "virtual_gpus"]

_ROOMS = (
    absent,
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


def capacity_of(memory: int | str | None, card: str | None) -> int:
    """Return the bytes of a GPU: `memory`, without it the card's, or 2 GiB; raise ValueError as they do."""
    if memory is not None:
        return parse_memory(memory)
    return CARDS[known_card(card)]["memory"] * 2**20 if card else 2 * 2**30


def known_card(card: str) -> str:
    """Return a card's name as `cards.toml` spells it; ValueError when it is not there."""
    known = {name.upper(): name for name in CARDS}
    if card.upper() not in known:
        raise ValueError(f"card={card!r} is not known. Choose one of: {', '.join(CARDS)}.")
    return known[card.upper()]


def switch_on(count: int = 8, memory: int | str | None = None, card: str | None = None) -> Machine:
    """Switch virtual GPUs on until `switch_off()`; the same settings again change nothing.

    Args:
        count: number of devices, 1 to 8.
        memory: capacity of each, as bytes or text such as "2 GiB" (without it the card's, or 2 GiB).
        card: the real card whose memory, compute capability and name they take, such as "T4" (`cards.toml`).

    Raises:
        ValueError: a bad count or size, or an unknown card.
        RuntimeError: already on with other settings, a real GPU's CUDA is already in use, or torch is
            older than 2.10.
    """
    global _stack
    card = card and known_card(card)
    capacity = capacity_of(memory, card)
    if not 1 <= count <= 8:
        raise ValueError(f"count={count} is not a number of virtual GPUs. Choose 1 to 8.")
    if is_active():
        machine = active()
        if (machine.count, machine.capacity, machine.card) != (count, capacity, card):
            raise RuntimeError(
                f"Virtual GPUs are already on: {_told(machine.count, machine.capacity, machine.card)}. "
                f"Switch them off first to have {_told(count, capacity, card)}."
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
    machine = Machine(count, capacity, card)
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


def _told(count: int, capacity: int, card: str | None) -> str:
    return f"{count} with {capacity} bytes each" + (f" as {card}" if card else "")


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
def virtual_gpus(
    count: int = 8, memory: int | str | None = None, card: str | None = None
) -> Iterator[Machine]:
    """Have `count` virtual GPUs of `memory` each, or such as `card`, inside a `with` block.

    Yields:
        The `Machine`, whose ledger tells the bytes on each device.

    Raises:
        ValueError, RuntimeError: as `switch_on` does. Inside a block with the same settings nothing changes.
    """
    nested = is_active()
    machine = switch_on(count, memory, card)
    try:
        yield machine
    finally:
        if not nested:
            switch_off()
