"""The map: a drawing of host and GPU memory with the reader's own tensors, modules and batches in it.

`placement.py` finds out what lies where, `layout.py` gives it a place on the page, `drawing.py` draws it.
"""

from collections.abc import Mapping
from typing import Any

from .drawing import MachineMap, draw
from .layout import VIRTUAL, Box, find_boxes
from .placement import Block, find_blocks

__all__ = ["MachineMap", "draw_machine"]


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
    boxes = find_boxes([block for blocks in found.values() for block in blocks], gpus)
    arrows = _find_arrows(found, copies or {})
    return draw(boxes, arrows, _text(boxes, arrows))


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
