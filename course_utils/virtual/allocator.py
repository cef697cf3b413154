"""CUDA's caching allocator, for one virtual GPU: blocks cut from segments, kept for the next request.

Follows c10/cuda/CUDACachingAllocator.cpp of PyTorch 2.10 to 2.15 with its default settings: the same
rounding, the same choice of block, the same splitting and merging, so that `torch.cuda.memory_stats` agrees
to the byte. Simplified: one stream per device (a freed block serves any stream at once); no settings of
PYTORCH_ALLOC_CONF (expandable segments, garbage collection, rounding to powers of two); of two free blocks of
one size the lower is taken, and which one that is on a real GPU depends on the driver's addresses.
"""

import functools
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import torch

from .blocks import BLOCK, SMALL, Block, Pool, Segment, block_size, counters, segment_size
from .errors import WORDS, format_size
from .history import History


def _alone(work: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of the allocator: nobody else changes the blocks while it runs.

    The garbage collector may run in there and free tensors: those wait in line, see `free`.
    """

    @functools.wraps(work)
    def run(self: "Allocator", *arguments: Any) -> Any:
        with self._lock:
            if self._busy:
                return work(self, *arguments)
            self._busy = True
            try:
                return work(self, *arguments)
            finally:
                while self._waiting:
                    self._free(self._waiting.pop())
                self._busy = False

    return run


class Allocator:
    """The memory of one virtual GPU of `capacity` bytes. All sizes are bytes."""

    def __init__(self, capacity: int, index: int, history: History) -> None:
        self.capacity, self.index, self.history = capacity, index, history
        self.fraction = 1.0
        self.limited = False
        self.high = math.inf  # with more in use than that, the machine's `look` is called
        self.reset_events()
        self.statistics = counters()
        self.pools = [Pool(name, self.statistics) for name in ("small_pool", "large_pool")]
        self.segments: dict[int, Segment] = {}
        self._next = itertools.count(0x300000000000 + index * 2**41, 2**34)
        self._lock = threading.RLock()
        self._busy = False
        self._waiting: list[Block] = []

    # ---- figures --------------------------------------------------------------------------------------
    @property
    def allocated(self) -> int:
        """Bytes of the blocks in use."""
        return self.statistics["allocated_bytes"].current

    @property
    def reserved(self) -> int:
        """Bytes held from the driver, in use or not."""
        return self.statistics["reserved_bytes"].current

    @property
    def limit(self) -> int:
        """Bytes that may be reserved."""
        return int(self.capacity * self.fraction) if self.limited else self.capacity

    def reset_events(self) -> None:
        """Begin to count errors, retries and calls of the driver from zero."""
        self.ooms = self.retries = self.synchronizations = 0
        self.device_allocations = self.device_frees = 0

    # ---- taking ---------------------------------------------------------------------------------------
    @_alone
    def malloc(self, nbytes: int) -> Block:
        """Return a block for `nbytes`, cut from a cached block or from a new segment.

        Raises:
            torch.OutOfMemoryError: neither is there; what was cached unused has been given back by then.
        """
        size = block_size(nbytes)
        pool = self.pools[size > SMALL]
        block = pool.best(size)
        if block is None:
            self._make_room(size)
            block = self._new_segment(segment_size(size), pool)
        else:
            pool.take(block)
        splits, rest = self._cut(block, size, pool)
        block.used, block.requested = True, nbytes
        amounts = {"allocated_bytes": block.size, "requested_bytes": nbytes}
        pool.count(allocation=1, **amounts, inactive_split=splits, inactive_split_bytes=rest)
        block.frames = self.history.add("alloc", self.index, block.address, nbytes) if self.history.on else ()
        return block

    def demand(self, nbytes: int) -> None:
        """Raise torch.OutOfMemoryError when a tensor of `nbytes` does not fit; else change nothing."""
        size = block_size(nbytes)
        if self.pools[size > SMALL].best(size) is None:
            self._make_room(size)

    def _fits(self, size: int) -> bool:
        return self.reserved + segment_size(size) <= self.limit

    @_alone
    def _make_room(self, size: int) -> None:
        """Give cached segments back if the driver has no segment for `size`; raise if that is not enough."""
        if self._fits(size):
            return
        self.empty_cache()
        self.retries += 1
        if self._fits(size):
            return
        self.ooms += 1
        free = self.capacity - self.reserved
        self.history.add("oom", self.index, free, size, device_free=free)
        for tell in self.history.observers:
            tell(self.index, segment_size(size), self.capacity, free)
        raise torch.OutOfMemoryError(self._out_of_memory(segment_size(size)))

    def _out_of_memory(self, wanted: int) -> str:
        """Return the error's text where the driver has no `wanted` bytes more."""
        if wanted >= 2**60:
            return "CUDA out of memory. Tried to allocate more than 1EB memory."
        sizes = {
            "wanted": wanted,
            "total": self.capacity,
            "free": self.capacity - self.reserved,
            "held": self.reserved,
            "allocated": self.allocated,
            "cached": self.reserved - self.allocated,
        }
        allowed = f"{format_size(self.limit)} allowed; " if self.limited else ""
        words = {name: format_size(size) for name, size in sizes.items()}
        return WORDS["out_of_memory"].format(index=self.index, allowed=allowed, **words)

    def _new_segment(self, size: int, pool: Pool) -> Block:
        address = next(self._next)
        segment = self.segments[address] = Segment(address, size, pool)
        segment.first = Block(address, size, segment)
        self.device_allocations += 1
        pool.count(segment=1, reserved_bytes=size)
        self.history.add("segment_alloc", self.index, address, size)
        return segment.first

    def _cut(self, block: Block, size: int, pool: Pool) -> tuple[int, int]:
        """Keep `size` bytes of `block`; the rest, if it is worth it, becomes a free block behind it.

        Returns:
            What this adds to the number, and to the bytes, of free parts of segments.
        """
        rest, was_split = block.size - size, block.split
        if rest < BLOCK or (size > SMALL and rest <= SMALL):
            return (-1, -block.size) if was_split else (0, 0)
        other = Block(block.address + size, rest, block.segment, before=block, after=block.after)
        if block.after is not None:
            block.after.before = other
        block.size, block.after = size, other
        pool.put(other)
        return (0, -size) if was_split else (1, rest)

    # ---- giving back ----------------------------------------------------------------------------------
    def free(self, block: Block) -> None:
        """Make `block` free for the next request; called when a storage dies, so at any moment."""
        self._waiting.append(block)
        if not self._busy:
            self._free_waiting()

    @_alone
    def _free_waiting(self) -> None:
        """Do nothing: what waits is freed at the end of whatever runs alone."""

    def _free(self, block: Block) -> None:
        pool, size = block.segment.pool, block.size
        if self.history.on:
            for action in ("free_requested", "free_completed"):
                self.history.add(action, self.index, block.address, block.requested)
        amounts = {"allocated_bytes": -size, "requested_bytes": -block.requested}
        block.used = False
        before, after = block.before, block.after
        count = nbytes = 0
        for other in (before, after):
            if other is not None and not other.used:
                count, nbytes = count - 1, nbytes - other.size
                pool.take(other)
        if after is not None and not after.used:
            block.take_in_next()
        if before is not None and not before.used:
            before.take_in_next()
            block = before
        pool.put(block)
        if block.split:
            count, nbytes = count + 1, nbytes + block.size
        pool.count(allocation=-1, **amounts, inactive_split=count, inactive_split_bytes=nbytes)

    @_alone
    def empty_cache(self) -> None:
        """Give every segment that holds no used block back to the driver."""
        self.synchronizations += 1
        for pool in reversed(self.pools):
            for _, address, block in [entry for entry in pool.free if not entry[2].split]:
                pool.take(block)
                del self.segments[address]
                self.device_frees += 1
                pool.count(segment=-1, reserved_bytes=-block.size)
                self.history.add("segment_free", self.index, address, block.size)
