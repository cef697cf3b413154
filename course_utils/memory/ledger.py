"""What `track_memory` gives its reader: what was on each GPU at the peak and at the end, also drawn."""

import math
from dataclasses import dataclass, field

import torch

from course_utils.figures.machine_map.drawing import MachineMap

from .drawing import draw_bars, draw_note, draw_timeline
from .history import MIB, Block, Timeline

Device = torch.device | str | int | None
_RUNNING = "The ledger is complete when the `with` block has ended; ask it after that."


@dataclass
class Ledger:
    """Where the memory of the GPUs went while a block ran; `print` it for a table, ask it, or draw it.

    A `device` argument is a `torch.device`, a name ("cuda:1") or a GPU's index; without one, the first GPU
    with any memory is meant. Sizes are bytes: of each block what was asked for, rounded up to 512. (The
    allocator may hand out a little more, so that `torch.cuda.max_memory_allocated` is somewhat larger.)

    Attributes:
        timelines: the memory of each GPU that had any in use.
        cards: the name of each of these GPUs, in short, such as "Tesla T4".
        note: what to say when there is none.

    Raises:
        RuntimeError: a question is asked while the block is still running.
        ValueError: the device has no ledger: nothing of it was in use.
    """

    timelines: dict[torch.device, Timeline] = field(default_factory=dict)
    cards: dict[torch.device, str] = field(default_factory=dict)
    note: str = _RUNNING

    @property
    def devices(self) -> list[torch.device]:
        """The GPUs that had any memory in use."""
        if self.note == _RUNNING:
            raise RuntimeError(_RUNNING)
        return list(self.timelines)

    def timeline(self, device: Device = None) -> Timeline:
        """Return the bytes of each category after each allocation and free."""
        return self.timelines[self._find(device)] if self.devices else Timeline()

    def peak(self, device: Device = None) -> int:
        """Return the bytes of all blocks when they were most."""
        return sum(self.at_peak(device).values())

    def at_peak(self, device: Device = None) -> dict[str, int]:
        """Return the bytes of each category when all together were most."""
        timeline = self.timeline(device)
        return timeline.bytes_at(timeline.peak_point)

    def live(self, device: Device = None) -> dict[str, int]:
        """Return the bytes of each category at the end."""
        return self.timeline(device).bytes_at(-1)

    def peak_label(self, device: Device = None) -> str:
        """Return what was running when the peak was first reached; empty if nothing was in use."""
        timeline = self.timeline(device)
        return timeline.labels[timeline.peak_point] if timeline.labels else ""

    def largest(self, device: Device = None, count: int = 5) -> list[Block]:
        """Return the `count` biggest blocks that were there at the peak, the biggest first."""
        timeline = self.timeline(device)
        point = timeline.peak_point
        there = [block for block in timeline.blocks if block.start <= point < (block.end or math.inf)]
        return sorted(there, key=lambda block: -block.size)[:count]

    def reserved(self, device: Device = None) -> int:
        """Return the most bytes that the allocator held from the driver, in use or not."""
        return max(self.timeline(device).reserved, default=0)

    def draw(self, device: Device = None) -> MachineMap:
        """Return a figure of the timeline: bytes by category, phases, the peak, the reserved memory."""
        if not self.devices:
            return draw_note(self.note)
        device = self._find(device)
        title = f"{device} ({self.cards[device]}): memory over the block"
        return draw_timeline(self.timelines[device], title, str(self))

    def draw_devices(self, what: str = "peak") -> MachineMap:
        """Return a figure with a bar for each GPU: its bytes by category at its "peak" or at the "end".

        Raises:
            ValueError: `what` is neither.
        """
        moments = {"peak": ("each GPU's peak", self.at_peak), "end": ("the end of the block", self.live)}
        if what not in moments:
            raise ValueError(f'what={what!r} is neither "peak" nor "end".')
        if not self.devices:
            return draw_note(self.note)
        moment, sizes = moments[what]
        title = f"Memory at {moment} ({', '.join(sorted(set(self.cards.values())))})"
        return draw_bars({str(device): sizes(device) for device in self.devices}, title, str(self))

    def __str__(self) -> str:
        """Return a table for each GPU, in MiB."""
        return "\n\n".join(map(self._table, self.timelines)) or self.note

    __repr__ = __str__

    def _table(self, device: torch.device) -> str:
        peak, end = self.at_peak(device), self.live(device)
        peak["total"], end["total"] = sum(peak.values()), sum(end.values())
        lines = [f"{f'{device}, MiB':<18}{'at the peak':>12}{'at the end':>12}"]
        for name in peak:
            if peak[name] or end[name]:
                lines.append(f"  {name:<16}{peak[name] / MIB:>12,.2f}{end[name] / MIB:>12,.2f}")
        lines.append(f"  peak during: {self.peak_label(device)}")
        lines.append(f"  reserved: up to {self.reserved(device) / MIB:,.2f} MiB")
        return "\n".join(lines)

    def _find(self, device: Device) -> torch.device:
        """Return the device that is meant; the ledger is not empty."""
        if device is None:
            return next(iter(self.timelines))
        wanted = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        wanted = torch.device(wanted.type, wanted.index or 0)
        if wanted not in self.timelines:
            used = ", ".join(map(str, self.timelines))
            raise ValueError(f"No memory of {wanted} was in use. GPUs with memory in use: {used}.")
        return wanted
