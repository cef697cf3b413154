"""The machine behind the virtual GPUs: one allocator per device, the current device, random streams.

Nothing here patches PyTorch. Every storage on a virtual GPU is charged to the allocator of its device once
(views are free), and given back when the storage dies.
"""

import os
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter

import torch

from .allocator import Allocator
from .blocks import Block
from .errors import WORDS, device_assert, invalid_device, refuse
from .history import History

_active: "Machine | None" = None
listeners: list[Callable[[str, torch.Tensor, torch.Tensor | None], None]] = []  # see `crossing`


def active() -> "Machine":
    """Return the machine that is switched on; raise RuntimeError when there is none."""
    if _active is None:
        raise RuntimeError(
            "The virtual GPUs are switched off, but this tensor lives on one. "
            "Use it inside `with course_utils.virtual_gpus():`; to take it along, call `.cpu()` in there."
        )
    return _active


def is_active() -> bool:
    """Tell whether virtual GPUs are switched on in this process."""
    return _active is not None


def activate(machine: "Machine | None") -> None:
    """Make `machine` the one that tensors and `torch.cuda` talk to (None switches off)."""
    global _active
    _active = machine


def _mark_forked() -> None:
    """Note in a forked child that its parent has used a GPU: CUDA cannot be begun a second time."""
    if _active is not None:
        _active.forked = _active.is_begun()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_mark_forked)


def operator(name: str) -> torch._ops.OpOverload:
    """Return an operator of PyTorch by its name, such as "add.Tensor" or "relu"."""
    return attrgetter(name if "." in name else f"{name}.default")(torch.ops.aten)


def crossing(method: str, source: torch.Tensor, result: torch.Tensor | None = None) -> None:
    """Tell `listeners` of a copy to `result`, or to Python numbers, that no mode of PyTorch sees."""
    for tell in listeners:
        tell(method, source, result)


class Machine:
    """`count` virtual GPUs of `capacity` bytes each, that go by the name of `card` in cards.toml, or of none.

    Device `i` shares the CPU's random stream, so that numbers equal the CPU's, until `generators[i]` is
    seeded: then it draws from that.
    """

    def __init__(self, count: int, capacity: int, card: str | None = None) -> None:
        self.count, self.capacity, self.card = count, capacity, card
        self.history = History(count)
        self.memory = [Allocator(capacity, index, self.history) for index in range(count)]
        self.generators: tuple[torch.Generator, ...] = ()
        self.broken = False  # by a device-side assert
        self.begun = self.forked = False
        self.sync_debug = 0
        self.taking_in = False  # see composites.py
        self.look: Callable[[Allocator], None] | None = None  # see `Allocator.high`
        self.assigning = False  # to `x[...]`, for which C++ takes other operations when it sees the CPU
        self.sent: Counter[str] = Counter()  # bytes that this process sent, by kind of collective
        self._pinned: dict[int, weakref.ref] = {}
        self._blocks: dict[int, tuple[weakref.ref, int, Block | None]] = {}
        self._thread = threading.local()

    # ---- which device -------------------------------------------------------------------------------
    @property
    def current(self) -> int:
        """Index of this thread's current device (each thread starts on 0, as in CUDA)."""
        return getattr(self._thread, "device", 0)

    @current.setter
    def current(self, index: int) -> None:
        self._thread.device = self.valid(index)

    @property
    def streams(self) -> dict[int, int]:
        """The number of this thread's current stream for each device index (0 is the default one)."""
        return self._thread.__dict__.setdefault("streams", {})

    def valid(self, index: int) -> int:
        """Return `index`; raise torch.AcceleratorError when there is no such device."""
        if not 0 <= index < self.count:
            raise invalid_device()
        return index

    def device(self, spec: "torch.device | str | int | None") -> torch.device:
        """Turn any way to name a device into a torch.device with its index filled in."""
        if spec is None:
            return torch.device("cuda", self.current)
        if isinstance(spec, int) and spec < 0:
            raise RuntimeError("Device index must not be negative")
        found = torch.device("cuda", spec) if isinstance(spec, int) else torch.device(spec)
        if found.type != "cuda":
            return found
        return torch.device("cuda", self.current if found.index is None else self.valid(found.index))

    def check(self) -> None:
        """Raise what CUDA raises in a forked child, and after a device-side assert."""
        if self.broken:
            raise device_assert()
        if self.forked:
            refuse(WORDS["forked"])

    def is_begun(self) -> bool:
        """Tell whether a GPU was used: CUDA is begun by that, and not before."""
        self.begun = self.begun or any(memory.segments for memory in self.memory)
        return self.begun

    @contextmanager
    def allowing(self, what: str) -> Iterator[None]:
        """Have the attribute `what` True for a while: "taking_in" or "assigning"."""
        before = getattr(self, what)
        setattr(self, what, True)
        try:
            yield
        finally:
            setattr(self, what, before)

    def synchronizing(self) -> None:
        """Note that the host waits for a device here: `torch.cuda.set_sync_debug_mode` may want to know."""
        if self.sync_debug == 2:
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.sync_debug == 1:
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=4)

    # ---- memory -------------------------------------------------------------------------------------
    def charge(self, storage: torch.UntypedStorage, index: int) -> None:
        """Count `storage` on device `index`, once, until it dies.

        Raises:
            torch.OutOfMemoryError: the device has no room for it.
        """
        key, nbytes = storage._cdata, storage.nbytes()
        known = self._blocks.get(key)
        if known is not None and nbytes == (known[2].requested if known[2] else 0):
            return
        memory = self.memory[index]
        block = memory.malloc(nbytes) if nbytes else None
        if memory.allocated > memory.high:
            self.look(memory)
        if known is not None:  # it was resized: the new block comes before the old one goes
            self.release(key)
        self._blocks[key] = (weakref.ref(storage, lambda _, key=key: self.release(key)), index, block)

    def demand(self, nbytes: int, index: int) -> None:
        """Raise torch.OutOfMemoryError when `nbytes` more do not fit on device `index`."""
        if nbytes:
            self.memory[index].demand(nbytes)

    def release(self, key: int) -> None:
        """Give the bytes of a dead storage back."""
        _, index, block = self._blocks.pop(key, (None, 0, None))
        if block is not None:
            self.memory[index].free(block)

    def address(self, storage: torch.UntypedStorage) -> int | None:
        """Return where `storage` begins in its device's memory; None for host memory."""
        known = self._blocks.get(storage._cdata)
        return None if known is None else known[2].address if known[2] else 0

    def block(self, key: int) -> object:
        """Return what is kept of the storage with this `_cdata`: the same object for as long as it lives."""
        return self._blocks.get(key)

    def home(self, storage: torch.UntypedStorage) -> int | None:
        """Return the index of the device that `storage` is charged to, None for host memory."""
        block = self._blocks.get(storage._cdata)
        return None if block is None else block[1]

    def pin(self, storage: torch.UntypedStorage) -> None:
        """Remember that this host memory counts as pinned."""
        key = storage._cdata
        self._pinned[key] = weakref.ref(storage, lambda _, key=key: self._pinned.pop(key, None))

    def is_pinned(self, storage: torch.UntypedStorage) -> bool:
        """Tell whether this host memory counts as pinned."""
        return storage._cdata in self._pinned
