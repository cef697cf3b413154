"""Colours and the matplotlib style of the course: one colour per device, another set for kinds of memory.

Seven device colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/). Their eighth, black, is
kept for text; a dark red-brown takes its place. The CPU's grey and the memory colours stay apart from all of
them, also for readers with protanopia or deuteranopia (`tests/test_style.py` computes it). Colour never
carries a meaning alone: drawings also write the device's name, and memory categories have a hatch.
"""

import re
import sys
from pathlib import Path
from typing import Any

CPU_COLOR = "#555555"
# cuda:0 ... cuda:7
GPU_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#661100")

_CATEGORIES = {
    "parameters": ("#364863", ""),
    "gradients": ("#856C47", ".."),
    "optimizer state": ("#9DCFF1", "\\\\"),
    "activations": ("#E9CE63", ""),
    "inputs": ("#ABE3AB", "//"),
    "other": ("#E2E2E2", "xx"),
}
CATEGORY_COLORS = {name: color for name, (color, _) in _CATEGORIES.items()}
CATEGORY_HATCHES = {name: hatch for name, (_, hatch) in _CATEGORIES.items()}

STYLE_FILE = Path(__file__).with_name("course.mplstyle")
_DEVICE = re.compile(r"(?P<type>cpu|meta|cuda|mps|xpu)(:(?P<index>\d+))?")


def device_color(device: Any) -> str:
    """Return the colour that `device` has through the whole course.

    The GPU of a Mac (`mps`) has the colour of `cuda:0`: no machine has both, and a lesson looks the same on
    either. From the ninth GPU on the colours repeat.

    Args:
        device: a `torch.device`, its name ("cpu", "cuda:3", "mps"; "cuda" means "cuda:0"), or a GPU's index.

    Raises:
        ValueError: the name is not one of a device.
    """
    name = f"cuda:{device}" if isinstance(device, int) else str(device)
    match = _DEVICE.fullmatch(name)
    if match is None:
        raise ValueError(f"{device!r} is not a device. Write 'cpu', 'cuda:0', 'mps' or a GPU's number.")
    if match["type"] in ("cpu", "meta"):
        return CPU_COLOR
    return GPU_COLORS[int(match["index"] or 0) % len(GPU_COLORS)]


def mix(color: str, other: str, share: float) -> str:
    """Return `color` with a `share` (0 to 1) of `other` in it, both as "#RRGGBB"."""
    pairs = [(int(color[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def use_style() -> None:
    """Make every later matplotlib figure readable on a projector, and give it an alternative text.

    Calling it again changes nothing.
    """
    import matplotlib.style  # here, because drawing is the only thing that needs it
    from matplotlib.figure import Figure

    from .text import with_words

    matplotlib.style.use(STYLE_FILE)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        shell.display_formatter.mimebundle_formatter.for_type(Figure, with_words)
