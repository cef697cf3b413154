"""What `track_memory` gives its reader: the readings, and figures of them."""

from typing import TYPE_CHECKING

from .readings import Device, Readings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Ledger(Readings):
    """Where the memory of the GPUs went while a block ran; `print` it for a table, or draw it."""

    def draw(self, device: Device = None) -> "Figure":
        """Return a figure of the timeline: bytes by category, phases, the peak, the reserved memory."""
        from .drawing import draw_timeline  # here: matplotlib is needed for drawing only

        return draw_timeline(self, device)

    def draw_devices(self, what: str = "peak") -> "Figure":
        """Return a figure with a bar for each GPU: its bytes by category at its "peak" or at the "end".

        Raises:
            ValueError: `what` is neither.
        """
        from .drawing import draw_bars

        return draw_bars(self, what)
