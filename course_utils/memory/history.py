"""Replays PyTorch's memory history: which blocks lived when, and what they were.

The history is that of `torch.cuda.memory._snapshot`: the segments and blocks at the beginning, then one entry
for each allocation, each free, and each segment taken from the driver or given back.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from course_utils.figures.style import CATEGORY_COLORS
from course_utils.virtual.blocks import block_size

from .labels import ACCUMULATE, BACKWARD, FORWARD, FROM_HOST, NOTHING, OTHER, RECOMPUTE, Label, read
from .marks import WITH_WORKSPACE, Mark

CATEGORIES = tuple(CATEGORY_COLORS)
BEFORE = "before the block"
# the first of these that is marked wins
_RANKED = ("parameters", "optimizer state", "gradients", "inputs", "activations")
_RESERVING = {"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1}


@dataclass(slots=True)
class Block:
    """One piece of memory.

    Attributes:
        size: bytes, rounded up to 512.
        category: one of `style.CATEGORY_COLORS`.
        label: what was running when it was allocated.
        start: the point of the timeline at which it was allocated, 0 if it was there before.
        end: the point at which it was freed; None if it was still there at the end.
    """

    size: int
    category: str
    label: str
    start: int
    end: int | None = None

    def __str__(self) -> str:
        """Say size, category and origin in one line."""
        return f"{self.size / 2**20:9.2f} MiB  {self.category:<15}  {self.label}"


@dataclass
class Timeline:
    """The memory of one device after each allocation or free; point 0 is the beginning.

    Attributes:
        bytes: for each category, the bytes of its blocks at each point.
        labels: what was running at each point.
        phases: "forward", "backward", "optimizer step" or "other" at each point.
        reserved: bytes held from the driver at each point.
    """

    bytes: dict[str, list[int]]
    labels: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)

    @cached_property
    def total(self) -> list[int]:
        """Bytes of all blocks at each point."""
        return [sum(point) for point in zip(*self.bytes.values(), strict=True)]


@dataclass
class Replay:
    """What happened on one device: its blocks, its timeline, and the most bytes it held from the driver."""

    blocks: list[Block] = field(default_factory=list)
    timeline: Timeline = field(
        default_factory=lambda: Timeline({name: [] for name in CATEGORIES}, [], [], [])
    )
    reserved_peak: int = 0


@dataclass(slots=True)
class _Life:
    """A block with what is needed to find out its category."""

    block: Block
    origin: Label | None
    began: float
    ended: float = float("inf")
    marks: set[tuple[str, bool]] = field(default_factory=set)


def replay(
    segments: Iterable[Mapping[str, Any]], trace: Iterable[Mapping[str, Any]], marks: Iterable[Mark]
) -> Replay:
    """Replay the history of one device.

    Args:
        segments: its segments at the beginning.
        trace: its entries, oldest first.
        marks: those of all devices; addresses are unique.
    """
    replayed = _Replayer(segments)
    for entry in trace:
        replayed.take(entry)
    replayed.categorize(marks)
    return replayed.result()


class _Replayer:
    def __init__(self, segments: Iterable[Mapping[str, Any]]) -> None:
        self.lives: dict[int, list[_Life]] = defaultdict(list)  # at each address, one after the other
        self.live: dict[int, _Life] = {}
        self.labels, self.phases, self.reserved = [BEFORE], [OTHER], [0]
        for segment in segments:
            self.reserved[0] += segment["total_size"]
            for block in segment["blocks"]:
                if block["state"] == "active_allocated":
                    size = block_size(block.get("requested_size", block["size"]))
                    self._begin(block["address"], Block(size, OTHER, BEFORE, 0), None, float("-inf"))
        self.held = self.reserved_peak = self.reserved[0]

    def _begin(self, address: int, block: Block, origin: Label | None, time: float) -> None:
        self.live[address] = _Life(block, origin, time)
        self.lives[address].append(self.live[address])

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take the next entry of the trace."""
        action, point = entry["action"], len(self.labels)
        if action in _RESERVING:
            self.held += _RESERVING[action] * entry["size"]
            self.reserved_peak = max(self.reserved_peak, self.held)
        elif action == "alloc":
            label, words = read(entry.get("user_metadata", ""))
            block = Block(block_size(entry["size"]), OTHER, words, point)
            self._begin(entry["addr"], block, label, entry["time_us"])
            self._point(label, words, free=False)
        elif action == "free_requested" and entry["addr"] in self.live:
            life = self.live.pop(entry["addr"])
            life.block.end, life.ended = point, entry["time_us"]
            self._point(*read(entry.get("user_metadata", "")), free=True)

    def _point(self, label: Label | None, words: str, free: bool) -> None:
        """Add a point to the timeline. A free may come late, in any thread: NOTHING is all it can begin."""
        phase = OTHER if label is None else BACKWARD if label.phase == RECOMPUTE else label.phase
        stays = label is None or (free and label != NOTHING)
        self.phases.append(self.phases[-1] if stays else phase)
        self.labels.append(words)
        self.reserved.append(self.held)

    def categorize(self, marks: Iterable[Mark]) -> None:
        """Give each block its category: the best that it was marked as, or else what its label tells."""
        for mark in marks:
            life = _find(self.lives.get(mark.address, []), mark.time)
            if life is not None:
                life.marks.add((mark.category, mark.sure))
        for lives in self.lives.values():
            for life in lives:
                life.block.category = _category(life)

    def result(self) -> Replay:
        """Return what was found out."""
        changes = {category: [0] * (len(self.labels) + 1) for category in CATEGORIES}
        blocks = [life.block for lives in self.lives.values() for life in lives]
        blocks.sort(key=lambda block: block.start)
        for block in blocks:
            changes[block.category][block.start] += block.size
            changes[block.category][-1 if block.end is None else block.end] -= block.size
        sums = {category: list(accumulate(change[:-1])) for category, change in changes.items()}
        return Replay(blocks, Timeline(sums, self.labels, self.phases, self.reserved), self.reserved_peak)


def _find(lives: list[_Life], time: float) -> _Life | None:
    """Return the block that lived at `time`, of those that were at one address."""
    place = bisect_right(lives, time, key=lambda life: life.began) - 1
    if place >= 0 and lives[place].ended >= time:
        return lives[place]
    # The clock of a real GPU's history may be some microseconds off: then it is the one after.
    return lives[place + 1] if place + 1 < len(lives) else None


def _category(life: _Life) -> str:
    for category in _RANKED:
        if (category, True) in life.marks:
            return category
    category = _told_by(life.origin)
    return "inputs" if category == OTHER and ("inputs", False) in life.marks else category


def _told_by(origin: Label | None) -> str:
    """Return the category that an allocation's label tells."""
    if origin is None or (origin.phase != BACKWARD and origin.operation in WITH_WORKSPACE):
        return OTHER
    if origin.operation in (FROM_HOST, ACCUMULATE):
        return "inputs" if origin.operation == FROM_HOST else "gradients"
    return "activations" if origin.phase in (FORWARD, RECOMPUTE) else OTHER
