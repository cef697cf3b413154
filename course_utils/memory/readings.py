"""The answers: what was on each GPU at the peak and at the end, and what was running then."""

from dataclasses import dataclass, field

import torch

from .history import CATEGORIES, Block, Replay, Timeline

MIB = 2**20
Device = torch.device | str | int | None
_RUNNING = "The ledger is complete when the `with` block has ended; ask it after that."


@dataclass
class Readings:
    """Where the memory of the GPUs went while a block ran, in bytes and in words.

    A `device` argument is a `torch.device`, a name ("cuda:1") or a GPU's index; without one, the first GPU
    with any memory is meant. Sizes are bytes: of each block what was asked for, rounded up to 512. (The
    allocator may hand out a little more, so that `torch.cuda.max_memory_allocated` is somewhat larger.)

    Attributes:
        cards: the name of each GPU that had any memory in use.
        note: what to say when there is none.

    Raises:
        RuntimeError: a question is asked while the block is still running.
        ValueError: the device has no ledger: nothing of it was in use.
    """

    cards: dict[torch.device, str] = field(default_factory=dict)
    note: str = ""
    running: bool = True
    _replays: dict[torch.device, Replay] = field(default_factory=dict, repr=False)

    def add(self, device: torch.device, card: str, replayed: Replay) -> None:
        """Take over what was recorded on a GPU; `card` is its name."""
        self._replays[device], self.cards[device] = replayed, card

    @property
    def devices(self) -> list[torch.device]:
        """The GPUs that had any memory in use."""
        self._check()
        return list(self._replays)

    def timeline(self, device: Device = None) -> Timeline:
        """Return the bytes of each category after each allocation and free."""
        return self._of(device).timeline

    def peak(self, device: Device = None) -> int:
        """Return the bytes of all blocks when they were most."""
        return max(self.timeline(device).total, default=0)

    def at_peak(self, device: Device = None) -> dict[str, int]:
        """Return the bytes of each category when all together were most."""
        return self._bytes(device, self.peak_point(device))

    def live(self, device: Device = None) -> dict[str, int]:
        """Return the bytes of each category at the end."""
        return self._bytes(device, -1)

    def peak_label(self, device: Device = None) -> str:
        """Return what was running when the peak was first reached; empty if nothing was in use."""
        labels = self.timeline(device).labels
        return labels[self.peak_point(device)] if labels else ""

    def peak_point(self, device: Device = None) -> int:
        """Return the point of the timeline at which the peak was first reached."""
        total = self.timeline(device).total
        return total.index(max(total)) if total else 0

    def largest(self, device: Device = None, count: int = 5) -> list[Block]:
        """Return the `count` biggest blocks that were there at the peak, the biggest first."""
        point = self.peak_point(device)
        there = [
            block
            for block in self._of(device).blocks
            if block.start <= point and (block.end is None or block.end > point)
        ]
        return sorted(there, key=lambda block: -block.size)[:count]

    def reserved(self, device: Device = None) -> int:
        """Return the most bytes that the allocator held from the driver, in use or not."""
        return self._of(device).reserved_peak

    def name(self, device: Device = None) -> str:
        """Return the device's name, such as "cuda:0"."""
        return str(self._find(device))

    def card(self, device: Device = None) -> str:
        """Return the card's name in short, such as "Tesla T4"."""
        return self.cards[self._find(device)].partition(" (")[0].removeprefix("NVIDIA ")

    # ---- in words -------------------------------------------------------------------------------------
    def __str__(self) -> str:
        """Return a table for each GPU, in MiB."""
        if self.running:
            return _RUNNING
        return "\n\n".join(self._table(device) for device in self._replays) or self.note

    __repr__ = __str__

    def _table(self, device: torch.device) -> str:
        peak, end = self.at_peak(device), self.live(device)
        rows = [(name, peak[name], end[name]) for name in CATEGORIES if peak[name] or end[name]]
        rows.append(("total", sum(peak.values()), sum(end.values())))
        return "\n".join(
            [
                f"{f'{device}, MiB':<18}{'at the peak':>12}{'at the end':>12}",
                *(f"  {name:<16}{first / MIB:>12,.2f}{last / MIB:>12,.2f}" for name, first, last in rows),
                f"  peak during: {self.peak_label(device)}",
                f"  reserved: up to {self.reserved(device) / MIB:,.2f} MiB",
            ]
        )

    # ---- inside ---------------------------------------------------------------------------------------
    def _check(self) -> None:
        if self.running:
            raise RuntimeError(_RUNNING)

    def _find(self, device: Device) -> torch.device:
        """Return the device that is meant; the ledger is not empty."""
        if device is None:
            return next(iter(self._replays))
        wanted = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        wanted = torch.device(wanted.type, wanted.index or 0)
        if wanted not in self._replays:
            used = ", ".join(map(str, self._replays))
            raise ValueError(f"No memory of {wanted} was in use. GPUs with memory in use: {used}.")
        return wanted

    def _of(self, device: Device) -> Replay:
        self._check()
        return self._replays[self._find(device)] if self._replays else Replay()

    def _bytes(self, device: Device, point: int) -> dict[str, int]:
        timeline = self.timeline(device)
        return {name: timeline.bytes[name][point] if timeline.labels else 0 for name in CATEGORIES}
