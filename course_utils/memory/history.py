"""Replays PyTorch's memory history: which blocks lived when, and what they were.

The history is that of `torch.cuda.memory._snapshot`: the segments and blocks at the beginning, then one entry
for each allocation, each free, and each segment taken from the driver or given back.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain
from typing import Any

from course_utils.figures.style import CATEGORY_COLORS
from course_utils.virtual.blocks import block_size

from .labels import BACKWARD, NOTHING, RECOMPUTE, UNTOLD, WITH_WORKSPACE, Label, read
from .marks import Mark

CATEGORIES = tuple(CATEGORY_COLORS)
MIB = 2**20
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
        return f"{self.size / MIB:9.2f} MiB  {self.category:<15}  {self.label}"


@dataclass
class Timeline:
    """The memory of one device after each allocation or free; point 0 is the beginning.

    Attributes:
        labels: what was running at each point.
        phases: "forward", "backward", "optimizer step" or "other" at each point.
        reserved: bytes held from the driver at each point.
        blocks: all that were there at any time, in the order in which they were allocated.
    """

    labels: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def add(self, label: Label, words: str, reserved: int) -> None:
        """Add a point; if the label tells no phase, it is that of the point before."""
        phase = label.phase or self.phases[-1]
        self.phases.append(BACKWARD if phase == RECOMPUTE else phase)
        self.labels.append(words)
        self.reserved.append(reserved)

    @cached_property
    def bytes(self) -> dict[str, list[int]]:
        """For each category, the bytes of its blocks at each point."""
        changes = {category: [0] * (len(self.labels) + 1) for category in CATEGORIES}
        for block in self.blocks:
            changes[block.category][block.start] += block.size
            changes[block.category][-1 if block.end is None else block.end] -= block.size
        return {name: list(accumulate(change[:-1])) for name, change in changes.items()}

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


def replay(
    segments: Sequence[Mapping[str, Any]], trace: Iterable[Mapping[str, Any]], marks: Iterable[Mark]
) -> Timeline:
    """Replay the history of one device.

    Args:
        segments: its segments at the beginning.
        trace: its entries, oldest first.
        marks: those of all devices; addresses are unique.
    """
    there: dict[int, list[Block]] = defaultdict(list)  # at each address, one after the other
    for block in chain.from_iterable(segment["blocks"] for segment in segments):
        if block["state"] == "active_allocated":
            there[block["address"]].append(Block(block_size(block["requested_size"]), BEFORE, 0))
    timeline, times, held = Timeline(), [-math.inf], sum(segment["total_size"] for segment in segments)
    timeline.add(NOTHING, BEFORE, held)
    for entry in trace:
        action, label = entry["action"], read(entry.get("user_metadata", ""))
        words, blocks = str(label), there[entry.get("addr", 0)]
        if action == "alloc":
            category = "other" if label.operation in WITH_WORKSPACE else label.category
            blocks.append(Block(block_size(entry["size"]), words, len(times), category=category))
        elif action == "free_requested" and blocks and blocks[-1].end is None:
            blocks[-1].end = len(times)
            # it may come late, in any thread: NOTHING is all it can begin
            label = label if label == NOTHING else UNTOLD
        else:
            held += _RESERVING.get(action, 0) * entry["size"]
            continue
        times.append(entry["time_us"])
        timeline.add(label, words, held)
    _categorize(there, times, marks)
    timeline.blocks = sorted(chain.from_iterable(there.values()), key=lambda block: block.start)
    return timeline


def _categorize(there: Mapping[int, list[Block]], times: Sequence[float], marks: Iterable[Mark]) -> None:
    """Give each block the best category that it was marked as; without any, its label's stays.

    Args:
        there: the blocks at each address, one after the other.
        times: the history's time at each point.
    """
    for mark in sorted(marks, key=lambda mark: (mark.sure, _RANKED.index(mark.category))):
        blocks = there.get(mark.address, [])
        # The clock of a real GPU's history may be some microseconds off: then it is the one after.
        later = bisect_left(blocks, mark.time, key=lambda block: times[block.end] if block.end else math.inf)
        for block in blocks[later : later + 1]:
            if mark.sure or block.category == "other":
                block.category = mark.category
