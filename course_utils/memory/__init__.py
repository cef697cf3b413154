"""The memory ledger: what every byte on the GPUs is, while a piece of code runs.

It reads PyTorch's own memory history, so real and virtual GPUs go the same way. `labels.py` and
`labelling.py` say what is running, `marks.py` what the memory of an object is, `history.py` replays the
history with both, `ledger.py` answers questions about it, `drawing.py` draws it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.cuda.memory import _record_memory_history, _snapshot
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from .history import Block, Timeline, replay
from .labelling import Labeller
from .ledger import Ledger
from .marks import Marks

__all__ = ["Block", "Ledger", "Timeline", "track_memory"]

MAX_ENTRIES = 1_000_000
_NESTED = "track_memory is already running, and its blocks do not nest. End the first one before the next."
_TAKEN = (
    "PyTorch's memory history is already being recorded, and track_memory needs it for itself. "
    "Stop that first: torch.cuda.memory._record_memory_history(enabled=None)"
)
_NO_GPU = "No CUDA device: the block ran, but there is no GPU memory to account for."
_NOTHING = "The block ran, but no GPU memory was in use."
_FULL = f"No ledger: more than {MAX_ENTRIES:,} allocations and frees on one GPU. Track fewer steps."


@contextmanager
def track_memory(**named: Any) -> Iterator[Ledger]:
    """Account for the memory of all GPUs while a block runs.

        with course_utils.track_memory(model=model, optimizer=optimizer, pictures=x) as ledger:
            criterion(model(x), y).backward()
            optimizer.step()
        print(ledger)

    Meanwhile PyTorch's memory history is recorded, and hooks label it with what is running; outside the
    block nothing is left of either. Without a CUDA device the block just runs, and the ledger is empty. If
    the block raises, the ledger is complete up to there. What `torch.compile` made runs uncompiled.

    Args:
        **named: helps to tell what is what: modules, optimizers and tensors (as inputs), also in lists,
            tuples and dicts. Modules that are called and optimizers that step are known anyway. The ledger
            keeps none of them alive.

    Yields:
        The ledger, to be asked after the block.

    Raises:
        RuntimeError: another such block is running, or somebody else records the memory history.
        TypeError: a named value is of another kind.
    """
    if any(isinstance(mode, Labeller) for mode in _get_current_dispatch_mode_stack()):
        raise RuntimeError(_NESTED)
    ledger, marks = Ledger(), Marks(named)
    labeller = Labeller(named, marks)
    del named  # what is deleted in the block must really go
    with ExitStack() as stack:
        if torch.cuda.is_available():
            _record(ledger, labeller, marks, stack)
        else:
            stack.callback(setattr, ledger, "note", _NO_GPU)
        yield ledger


def _record(ledger: Ledger, labeller: Labeller, marks: Marks, stack: ExitStack) -> None:
    """Record the history until `stack` is closed, which fills the ledger with it."""
    if torch._C._cuda_isHistoryEnabled():
        raise RuntimeError(_TAKEN)
    segments = _snapshot()["segments"]
    stack.callback(_record_memory_history, None)
    _record_memory_history(context=None, stacks="python", max_entries=MAX_ENTRIES)
    stack.enter_context(marks.hooks)
    marks.look()
    stack.callback(_fill, ledger, segments, marks)
    labeller.switch_on(stack)


def _fill(ledger: Ledger, segments: list[Any], marks: Marks) -> None:
    """Put the timeline of each GPU with any memory in use into the ledger."""
    marks.look()
    traces = _snapshot()["device_traces"]
    full = max(map(len, traces), default=0) >= MAX_ENTRIES
    ledger.note = _FULL if full else _NOTHING
    for index, trace in enumerate([] if full else traces):
        timeline = replay([one for one in segments if one["device"] == index], trace, marks.noted)
        if timeline.blocks:
            device, card = torch.device("cuda", index), torch.cuda.get_device_name(index)
            ledger.timelines[device] = timeline
            ledger.cards[device] = card.partition(" (")[0].removeprefix("NVIDIA ")
