"""What a caching allocator works with: segments from the driver, blocks cut from them, pools and counters."""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

# kMinBlockSize, kSmallSize, kSmallBuffer, kMinLargeAlloc and kLargeBuffer of c10/core/AllocatorConfig.h
BLOCK = 512
SMALL = 2**20
SMALL_SEGMENT = 2 * 2**20
BIG = 10 * 2**20
LARGE_SEGMENT = 20 * 2**20


def round_up(nbytes: int, unit: int) -> int:
    """Round `nbytes` up to a multiple of `unit`."""
    return -(-nbytes // unit) * unit


def block_size(nbytes: int) -> int:
    """Bytes of the block that serves a request of `nbytes`, at least 512."""
    return max(BLOCK, round_up(nbytes, BLOCK))


def segment_size(size: int) -> int:
    """Bytes the allocator asks the driver for when no free block has `size` bytes."""
    if size <= SMALL:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < BIG else round_up(size, SMALL_SEGMENT)


@dataclass(eq=False, slots=True)
class Segment:
    """A piece of memory from the driver; `first` is its lowest block."""

    address: int
    size: int
    pool: "Pool"
    first: "Block | None" = None


@dataclass(eq=False, slots=True)
class Block:
    """A part of a segment, in use or free, between its neighbours."""

    address: int
    size: int
    segment: Segment
    requested: int = 0
    used: bool = False
    before: "Block | None" = None
    after: "Block | None" = None
    frames: tuple[dict[str, object], ...] = ()

    @property
    def split(self) -> bool:
        """Whether the block shares its segment with others."""
        return self.before is not None or self.after is not None

    def take_in_next(self) -> None:
        """Swallow the block behind this one."""
        self.size += self.after.size
        self.after = self.after.after
        if self.after is not None:
            self.after.before = self


@dataclass(slots=True)
class Counter:
    """One figure of `torch.cuda.memory_stats`."""

    current: int = 0
    peak: int = 0
    allocated: int = 0
    freed: int = 0


COUNTERS = ("allocation", "segment", "inactive_split")
BYTE_COUNTERS = ("allocated_bytes", "reserved_bytes", "inactive_split_bytes", "requested_bytes")


def counters() -> dict[str, Counter]:
    """Return the counters of one pool of blocks, or of all."""
    return {name: Counter() for name in COUNTERS + BYTE_COUNTERS}


@dataclass(eq=False)
class Pool:
    """Free blocks of small (up to 1 MiB) or large requests, sorted by size, then address.

    Attributes:
        total: the counters of all pools.
    """

    name: str
    total: dict[str, Counter]
    statistics: dict[str, Counter] = field(default_factory=counters)
    free: list[tuple[int, int, Block]] = field(default_factory=list)

    def count(self, **amounts: int) -> None:
        """Add amounts to counters of this pool and of `total`; a negative amount counts as freed."""
        for name, amount in amounts.items():
            if not amount:
                continue
            for counter in (self.total[name], self.statistics[name]):
                current = counter.current = counter.current + amount
                if amount < 0:
                    counter.freed -= amount
                    continue
                counter.allocated += amount
                if current > counter.peak:
                    counter.peak = current

    def best(self, size: int) -> Block | None:
        """Return the smallest free block of at least `size` bytes, the lowest of its kind."""
        place = bisect_left(self.free, (size,))
        return self.free[place][2] if place < len(self.free) else None

    def put(self, block: Block) -> None:
        """Add a free block."""
        insort(self.free, (block.size, block.address, block))

    def take(self, block: Block) -> None:
        """Remove a free block."""
        del self.free[bisect_left(self.free, (block.size, block.address))]
