"""Draws the map: boxes with a dashed edge for virtual devices, blocks in them, copies as arrows."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from ..style import device_color, mix
from . import layout
from .layout import INSET, LINE, NAME, PAD, SMALL, TITLE, VIRTUAL, Box, fit, width_of
from .placement import Block, find_blocks, format_bytes

INK, SOFT, WHITE = "#1A1A1A", "#4A4A4A", "#FFFFFF"
DASHED, DOTTED = (0, (5, 3)), (0, (2, 2))


class MachineMap(Figure):
    """A matplotlib figure that shows itself once in a notebook and is text where pictures cannot be seen.

    It is no pyplot figure, so nothing has to be closed.

    Args:
        description: the text, such as one line per block and arrow.
        options: as for any `Figure`.
    """

    def __init__(self, description: str = "", **options: Any) -> None:
        super().__init__(**{"dpi": 100, "facecolor": WHITE} | options)
        self.description = description

    def __repr__(self) -> str:
        return self.description

    __str__ = __repr__

    def _ipython_display_(self) -> None:
        """Show the picture, with the text beside it and as the picture's alternative text."""
        from IPython.display import display

        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": self.description}
        display(data, metadata={"image/png": {"alt": self.description}}, raw=True)


def draw_machine(*, gpus: int = 0, copies: Mapping[str, str] | None = None, **named: Any) -> MachineMap:
    """Draw where the named objects are now.

    Args:
        gpus: draw at least this many GPUs, if the machine has them. GPUs with something in them are always
            drawn, and the first one if none has.
        copies: arrows, as {copy: original}: `copies={"y": "x"}` draws one from x to y. The name of a list or
            dict stands for everything in it.
        **named: tensors, modules, optimizers, and lists, tuples or dicts of them.

    Returns:
        A matplotlib figure that keeps none of the objects alive. `print` it for the same as text.

    Raises:
        TypeError: a value is of another kind.
        ValueError: `copies` has a name that is not drawn.
    """
    found = find_blocks(named)
    boxes = layout.find_boxes([block for blocks in found.values() for block in blocks], gpus)
    arrows = _find_arrows(found, copies or {})
    layout.lay_out(boxes, top=layout.CHANNEL if arrows and len(boxes) > 2 else layout.MARGIN)
    width = max(box.x + box.width for box in boxes) + layout.MARGIN
    height = boxes[0].y + boxes[0].height + layout.MARGIN
    figure = MachineMap(_text(boxes, arrows), figsize=(width, height), layout="none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for box in boxes:
        _draw_box(axes, box)
    _draw_arrows(axes, boxes, arrows)
    return figure


def _find_arrows(found: dict[str, list[Block]], copies: Mapping[str, str]) -> list[tuple[Block, Block]]:
    """Turn {copy: original} into pairs of blocks (from, to)."""

    def find(name: str) -> list[Block]:
        hits = [block for blocks in found.values() for block in blocks if name in block.names]
        hits = hits or [block for block in found.get(name, ()) if not block.planned]
        if not hits:
            raise ValueError(f"copies has the name {name!r}, which is not on the map: pass that object too.")
        return hits

    return [(start, end) for copy, origin in copies.items() for start in find(origin) for end in find(copy)]


def _text(boxes: list[Box], arrows: list[tuple[Block, Block]]) -> str:
    """Say what the map shows, one line per block and arrow."""
    lines = []
    for box in boxes:
        name = f"{box.device} (virtual)" if box.kind == VIRTUAL else box.device
        for block in box.blocks:
            (shape, dtype), *rows = block.rows
            head = " ".join(filter(None, (block.title, shape, dtype, block.size)))
            lines.append("; ".join([f"{name}: {head}", *(" ".join(filter(None, row)) for row in rows)]))
        if not box.blocks:
            lines.append(f"{name}: nothing named here")
    return "\n".join([*lines, *(f"copy: {start.title} -> {end.title}" for start, end in arrows)])


def _rectangle(
    axes: Axes, x: float, y: float, width: float, height: float, rounding: float = 0.05, **look: Any
) -> None:
    shape = f"round,pad=0,rounding_size={rounding}"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, **look))


def _write(axes: Axes, x: float, y: float, text: str, font: FontProperties, **look: Any) -> None:
    look = {"color": INK, "va": "center_baseline", "parse_math": False} | look
    axes.text(x, y, text, fontproperties=font, **look)


def _draw_box(axes: Axes, box: Box) -> None:
    """Draw one device: frame, header, and how full it is."""
    color = device_color(box.device)
    look = {"facecolor": mix(color, WHITE, 0.94), "edgecolor": mix(color, INK, 0.15), "linewidth": 2.2}
    look |= {"linestyle": DASHED if box.kind == VIRTUAL else "solid", "gid": f"box {box.device}"}
    _rectangle(axes, box.x, box.y, box.width, box.height, rounding=0.1, **look)
    left, right, y = box.x + INSET, box.x + box.width - INSET, box.y + layout.HEADER / 2 + 0.02
    _rectangle(axes, left, y - 0.08, 0.16, 0.16, facecolor=color, edgecolor="none", rounding=0.03)
    _write(axes, left + 0.24, y, box.device, TITLE)
    kind = fit(box.kind, right - left - 0.34 - width_of(box.device, TITLE), SMALL)
    _write(axes, right, y, kind, SMALL, ha="right", color=SOFT)
    if not box.blocks:
        y = box.y + layout.HEADER + LINE / 2
        _write(axes, left + PAD, y, "nothing named here", SMALL, color=SOFT, style="italic")
    for block in box.blocks:
        _draw_block(axes, block, left, right, box.y + block.y)
    if box.usage:
        _draw_meter(axes, box, *box.usage)


def _draw_meter(axes: Axes, box: Box, used: int, total: int) -> None:
    """Draw the share of a GPU's memory that tensors use."""
    color = mix(device_color(box.device), INK, 0.25)
    x, y, width = box.x + INSET, box.y + box.height - layout.METER + 0.06, box.width - 2 * INSET
    _rectangle(axes, x, y, width, 0.07, facecolor=WHITE, edgecolor=color, rounding=0.03)
    if used:
        share = max(0.015, min(1.0, used / total))  # even a little stays visible
        _rectangle(axes, x, y, width * share, 0.07, facecolor=color, edgecolor="none", rounding=0.0)
    text = f"{format_bytes(used)} of {format_bytes(total)}"
    text += " in use" if width_of(f"{text} in use", SMALL) <= width else ""
    _write(axes, x, y + 0.22, text, SMALL, color=SOFT)


def _draw_block(axes: Axes, block: Block, left: float, right: float, top: float) -> None:
    color = device_color(block.device)
    look = {"facecolor": mix(color, WHITE, 0.76), "edgecolor": mix(color, INK, 0.25), "linewidth": 1.2}
    if block.planned:
        look |= {"facecolor": "none", "linestyle": DOTTED}
    _rectangle(axes, left, top, right - left, block.height, gid=f"block {block.title}", **look)
    for number, (name, value) in enumerate(block.lines):
        y = top + PAD + LINE * (number + 0.5)
        _write(axes, left + PAD, y, name, SMALL if number else NAME)
        _write(axes, right - PAD, y, value, SMALL, ha="right")


def _draw_arrows(axes: Axes, boxes: list[Box], arrows: list[tuple[Block, Block]]) -> None:
    """Draw copies through the gutters between boxes, so that they cross no block.

    Arrows with one source, or else with one target, share a lane: they branch like a bus.
    """
    homes = {block: box for box in boxes for block in box.blocks}
    starts, ends = [start for start, _ in arrows], [end for _, end in arrows]
    hubs = [start if starts.count(start) > 1 else end for start, end in arrows]
    lanes = list(dict.fromkeys(hubs))
    for (start, end), hub in zip(arrows, hubs, strict=True):
        lane = (lanes.index(hub) - (len(lanes) - 1) / 2) * min(0.1, 0.24 / len(lanes))
        # apart where a block has arrows in and out
        y0 = homes[start].y + start.y + start.height * (0.75 if start in ends else 0.5)
        y1 = homes[end].y + end.y + end.height * (0.25 if end in starts else 0.5)
        look = {"arrowstyle": "-|>", "mutation_scale": 15, "linewidth": 1.8, "color": INK}
        path = _rounded(layout.route(homes[start], homes[end], y0, y1, lane))
        axes.add_patch(FancyArrowPatch(path=path, gid=f"copy {start.title} -> {end.title}", **look))


def _rounded(points: np.ndarray, radius: float = 0.09) -> Path:
    """Return a path along `points`, shape (n, 2), with rounded corners."""
    steps = np.diff(points, axis=0)
    lengths = np.hypot(*steps.T)[:, None]
    cuts = steps * np.minimum(radius / np.maximum(lengths, 1e-9), 0.5)
    corners = zip(points[1:-1] - cuts[:-1], points[1:-1], points[1:-1] + cuts[1:], strict=True)
    vertices = [points[0], *(vertex for corner in corners for vertex in corner), points[-1]]
    inner = [Path.LINETO, Path.CURVE3, Path.CURVE3] * (len(points) - 2)
    return Path(vertices, [Path.MOVETO, *inner, Path.LINETO])
