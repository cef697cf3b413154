"""The machine behind the virtual GPUs: one memory ledger per device, the current device, random streams.

Nothing here patches PyTorch. A `Machine` counts the bytes that live on each of its devices the way
CUDA's caching allocator does: every storage is charged once (views are free), rounded up to 512 bytes,
and given back when the storage dies.
"""

import os
import threading
import warnings
import weakref
from dataclasses import dataclass, field

import torch

from .errors import FORKED, device_assert, invalid_device, out_of_memory

# CUDA's caching allocator, c10/cuda/CUDACachingAllocator.cpp: kMinBlockSize, kSmallBuffer, kLargeBuffer.
BLOCK = 512
SMALL_SEGMENT = 2 * 2**20
LARGE_SEGMENT = 20 * 2**20

_active: "Machine | None" = None


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


def round_up(nbytes: int, unit: int) -> int:
    """Round `nbytes` up to a multiple of `unit`."""
    return -(-nbytes // unit) * unit


def segment_size(nbytes: int) -> int:
    """Bytes CUDA's allocator would ask the driver for to serve a request of `nbytes`."""
    if nbytes <= 2**20:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if nbytes < 10 * 2**20 else round_up(nbytes, SMALL_SEGMENT)


@dataclass
class Memory:
    """Memory counters of one device, all in bytes unless a name says otherwise."""

    capacity: int
    allocated: int = 0
    peak: int = 0
    reserved: int = 0
    reserved_peak: int = 0
    total_allocated: int = 0
    allocations: int = 0
    live: int = 0
    live_peak: int = 0
    ooms: int = 0

    def take(self, nbytes: int) -> None:
        """Count one more block of `nbytes` (a multiple of 512)."""
        self.allocated += nbytes
        self.total_allocated += nbytes
        self.allocations += 1
        self.live += 1
        self.live_peak = max(self.live_peak, self.live)
        self.peak = max(self.peak, self.allocated)
        self.reserved = max(self.reserved, round_up(self.allocated, SMALL_SEGMENT))
        self.reserved_peak = max(self.reserved_peak, self.reserved)

    def give_back(self, nbytes: int) -> None:
        """Count one block of `nbytes` as free; it stays reserved, as in a caching allocator."""
        self.allocated -= nbytes
        self.live -= 1

    def empty_cache(self) -> None:
        """Hand the reserved but unused segments back to the driver."""
        self.reserved = round_up(self.allocated, SMALL_SEGMENT)


@dataclass
class Machine:
    """`count` virtual GPUs of `capacity` bytes each.

    Device `i` shares the CPU's random stream, so that numbers equal the CPU's, until `own_stream[i]` is set:
    then it draws from `generators[i]`.
    """

    count: int
    capacity: int
    memory: list[Memory] = field(init=False)
    broken: bool = False
    pid: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        self.memory = [Memory(self.capacity) for _ in range(self.count)]
        self.own_stream = [False] * self.count
        self.generators: tuple[torch.Generator, ...] = ()
        self.sync_debug = 0
        self.taking_in = False  # see composites.py
        self._pinned: dict[int, weakref.ref] = {}
        self._blocks: dict[int, tuple[weakref.ref, int, int]] = {}
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
    def streams(self) -> dict[int, object]:
        """This thread's current stream for each device index."""
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
        if os.getpid() != self.pid:
            raise RuntimeError(FORKED)

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
            torch.OutOfMemoryError: the device would hold more than its capacity.
        """
        key = storage._cdata
        known = self._blocks.get(key)
        size = round_up(storage.nbytes(), BLOCK)
        if known is not None:
            if known[2] == size:
                return
            self.release(key)
        self.demand(size, index)
        self._blocks[key] = (weakref.ref(storage, lambda _, key=key: self.release(key)), index, size)
        self.memory[index].take(size)

    def demand(self, nbytes: int, index: int) -> None:
        """Raise torch.OutOfMemoryError when `nbytes` more do not fit on device `index`."""
        memory = self.memory[index]
        if memory.allocated + round_up(nbytes, BLOCK) <= memory.capacity:
            return
        memory.ooms += 1
        memory.empty_cache()  # CUDA's allocator empties its cache before it gives up
        raise torch.OutOfMemoryError(out_of_memory(segment_size(nbytes), index, memory))

    def release(self, key: int) -> None:
        """Give the bytes of a dead storage back."""
        block = self._blocks.pop(key, None)
        if block is not None:
            self.memory[block[1]].give_back(block[2])

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
