"""Replays PyTorch's memory history: which blocks lived when, and what they were.

The history is that of `torch.cuda.memory._snapshot`: the segments and blocks at the beginning, then one entry
for each allocation, each free, and each segment taken from the driver or given back.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from course_utils.figures.style import CATEGORY_COLORS
from course_utils.virtual.blocks import block_size

from .labels import BACKWARD, NOTHING, OTHER, RECOMPUTE, read
from .marks import WITH_WORKSPACE, Mark

CATEGORIES = tuple(CATEGORY_COLORS)
BEFORE = "before the block"
# of those that a block is surely marked as, the last wins
_RANKED = ("activations", "inputs", "gradients", "optimizer state", "parameters")
_RESERVING = {"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1}


@dataclass(slots=True)
class Block:
    """One piece of memory.

    Attributes:
        size: bytes, rounded up to 512.
        label: what was running when it was allocated.
        start: the point of the timeline at which it was allocated, 0 if it was there before.
        end: the point at which it was freed; None if it was still there at the end.
        category: one of `style.CATEGORY_COLORS`.
    """

    size: int
    label: str
    start: int
    end: int | None = None
    category: str = "other"

    def __str__(self) -> str:
        """Say size, category and origin in one line."""
        return f"{self.size / 2**20:9.2f} MiB  {self.category:<15}  {self.label}"


@dataclass
class Timeline:
    """The memory of one device after each allocation or free; point 0 is the beginning.

    Attributes:
        labels: what was running at each point.
        phases: "forward", "backward", "optimizer step" or "other" at each point.
        reserved: bytes held from the driver at each point.
        blocks: all that were there at any time, in the order in which they were allocated.
        bytes: for each category, the bytes of its blocks at each point.
    """

    labels: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    bytes: dict[str, list[int]] = field(default_factory=lambda: {category: [] for category in CATEGORIES})

    @cached_property
    def total(self) -> list[int]:
        """Bytes of all blocks at each point."""
        return [sum(point) for point in zip(*self.bytes.values(), strict=True)]

    @cached_property
    def peak_point(self) -> int:
        """The point at which the bytes of all blocks were most for the first time."""
        return self.total.index(max(self.total)) if self.total else 0

    def bytes_at(self, point: int) -> dict[str, int]:
        """Return the bytes of each category at a point; -1 is the end."""
        return {category: sizes[point] if sizes else 0 for category, sizes in self.bytes.items()}


@dataclass(slots=True)
class _Life:
    """When a block was there, in the history's time."""

    block: Block
    began: float = float("-inf")
    ended: float = float("inf")


def replay(
    segments: Sequence[Mapping[str, Any]], trace: Iterable[Mapping[str, Any]], marks: Iterable[Mark]
) -> Timeline:
    """Replay the history of one device.

    Args:
        segments: its segments at the beginning.
        trace: its entries, oldest first.
        marks: those of all devices; addresses are unique.
    """
    replayed = _Replay(segments)
    for entry in trace:
        replayed.take(entry)
    replayed.categorize(marks)
    return replayed.timeline


class _Replay:
    """A timeline in the making."""

    def __init__(self, segments: Sequence[Mapping[str, Any]]) -> None:
        self.lives: dict[int, list[_Life]] = defaultdict(list)  # at each address, one after the other
        self.live: dict[int, _Life] = {}
        self.held = sum(segment["total_size"] for segment in segments)
        self.timeline = Timeline([BEFORE], [OTHER], [self.held])
        for block in (block for segment in segments for block in segment["blocks"]):
            if block["state"] == "active_allocated":
                size = block.get("requested_size", block["size"])
                self._begin(block["address"], _Life(Block(block_size(size), BEFORE, 0)))

    def _begin(self, address: int, life: _Life) -> None:
        self.timeline.blocks.append(life.block)
        self.live[address] = life
        self.lives[address].append(life)

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take the next entry of the trace."""
        action, label, words = entry["action"], *read(entry.get("user_metadata", ""))
        point = len(self.timeline.labels)
        if action == "alloc":
            told = label is not None and label.operation not in WITH_WORKSPACE
            category = label.category if told else "other"
            block = Block(block_size(entry["size"]), words, point, category=category)
            self._begin(entry["addr"], _Life(block, entry["time_us"]))
        elif action == "free_requested" and entry["addr"] in self.live:
            life = self.live.pop(entry["addr"])
            life.block.end, life.ended = point, entry["time_us"]
        else:
            self.held += _RESERVING.get(action, 0) * entry["size"]
            return
        # A free may come late, in any thread: NOTHING is all it can begin.
        stays = label is None or (action != "alloc" and label != NOTHING)
        phase = self.timeline.phases[-1] if stays else label.phase
        self.timeline.phases.append(BACKWARD if phase == RECOMPUTE else phase)
        self.timeline.labels.append(words)
        self.timeline.reserved.append(self.held)

    def categorize(self, marks: Iterable[Mark]) -> None:
        """Give each block the best category that it was marked as; without any, its label's stays."""
        own = (mark for mark in marks if mark.address in self.lives)
        for mark in sorted(own, key=lambda mark: (mark.sure, _RANKED.index(mark.category))):
            life = _find(self.lives[mark.address], mark.time)
            if life is not None and (mark.sure or life.block.category == "other"):
                life.block.category = mark.category
        changes = {category: [0] * (len(self.timeline.labels) + 1) for category in CATEGORIES}
        for block in self.timeline.blocks:
            changes[block.category][block.start] += block.size
            changes[block.category][-1 if block.end is None else block.end] -= block.size
        self.timeline.bytes = {name: list(accumulate(change[:-1])) for name, change in changes.items()}


def _find(lives: list[_Life], time: float) -> _Life | None:
    """Return the block that lived at `time`, of those that were at one address."""
    place = bisect_right(lives, time, key=lambda life: life.began) - 1
    if place >= 0 and lives[place].ended >= time:
        return lives[place]
    # The clock of a real GPU's history may be some microseconds off: then it is the one after.
    return lives[place + 1] if place + 1 < len(lives) else None
