"""Where each box and block of the map goes. Lengths are inches; y grows downwards."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from course_utils.virtual import is_active

from .placement import Block

WIDE, NARROW = 2.8, 2.16  # a box; narrow where four GPUs stand side by side
MARGIN, GUTTER, CHANNEL = 0.1, 0.4, 0.3  # around everything; left of each GPU; above a row of GPUs
HEADER, METER, INSET, GAP = 0.42, 0.44, 0.1, 0.1  # inside a box
LINE, PAD = 0.235, 0.08  # inside a block

TITLE, NAME = (FontProperties(size=size, weight="bold") for size in (14, 12.5))
SMALL = FontProperties(size=11)
VIRTUAL = "virtual"


@dataclass
class Box:
    """The memory of one device.

    Attributes:
        kind: what the device is, in a word or two; VIRTUAL for a virtual GPU.
        usage: bytes that tensors use on a GPU, and all it has; None where that is unknown.
        column, row: its cell among the GPUs; column -1 is the host, which is as high as all rows.
        x, y, width, height: set by `lay_out`.
    """

    device: str
    kind: str
    usage: tuple[int, int] | None
    blocks: list[Block]
    column: int
    row: int
    width: float
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0


def find_boxes(blocks: list[Block], gpus: int) -> list[Box]:
    """Return the host's box and those of at least `gpus` GPUs, up to four of them side by side."""
    found = {block.device for block in blocks} - {"cpu"}
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        count = min(max(gpus, 0 if found else 1), torch.accelerator.device_count())
        found |= {f"{accelerator.type}:{index}" for index in range(count)}
    names = sorted(found, key=lambda name: (torch.device(name).type, torch.device(name).index or 0))
    columns = math.ceil(len(names) / max(1, math.ceil(len(names) / 4)))
    width = NARROW if columns == 4 else WIDE
    boxes = []
    for cell, name in enumerate(["cpu", *names], start=-1):
        row, column = divmod(cell, columns) if cell >= 0 else (0, -1)
        inside = [block for block in blocks if block.device == name]
        boxes.append(Box(name, *_facts(name), inside, column, row, width))
    return boxes


def _facts(device: str) -> tuple[str, tuple[int, int] | None]:
    """Return a box's kind and usage."""
    kind = torch.device(device).type
    if kind == "cuda":
        name = VIRTUAL if is_active() else torch.cuda.get_device_name(device).removeprefix("NVIDIA ")
        total = torch.cuda.get_device_properties(device).total_memory
        return name, (torch.cuda.memory_allocated(device), total)
    if kind == "mps":
        return "Apple GPU", (torch.mps.current_allocated_memory(), torch.mps.recommended_max_memory())
    return {"cpu": "host memory", "meta": "shapes only"}.get(kind, ""), None


@lru_cache(maxsize=2048)
def width_of(text: str, font: FontProperties) -> float:
    """Return the width of `text` in inches."""
    points = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return points * 1.02 / 72  # the grid of pixels widens text a little


def fit(text: str, room: float, font: FontProperties) -> str:
    """Return `text`, without its beginning if it is wider than `room` inches: names differ at their ends."""
    while width_of(text, font) > room and len(text) > 1:
        text = "…" + text[2:]
    return text


def _lines(block: Block, room: float) -> list[tuple[str, str]]:
    """Return the lines of a block; left and right go on two lines where they do not fit on one."""
    lines: list[tuple[str, str]] = []
    for left, right in ((block.title, block.size), *block.rows):
        font = SMALL if lines else NAME
        if width_of(left, font) + width_of(right, SMALL) + 0.08 <= room:
            lines.append((left, right))
        else:
            lines += [(fit(left, room, font), ""), ("", fit(right, room, SMALL))][: 2 if right else 1]
    return lines


def lay_out(boxes: list[Box], top: float) -> None:
    """Give each box its place, `top` below the edge, and each block its own within its box."""
    rows = [0.0] * (boxes[-1].row + 1)  # heights
    for box in boxes:
        box.x, box.height = MARGIN + (box.column + 1) * (box.width + GUTTER), HEADER
        for block in box.blocks:
            block.lines = _lines(block, box.width - 2 * INSET - 2 * PAD)
            block.y, block.height = box.height, LINE * len(block.lines) + 2 * PAD
            box.height += block.height + GAP
        box.height = max(box.height, HEADER + LINE + GAP) + (METER if box.usage else 0)
        if box.column >= 0:
            rows[box.row] = max(rows[box.row], box.height)
    gaps = CHANNEL * (len(rows) - 1)
    spare = max(0.0, boxes[0].height - sum(rows) - gaps) / len(rows)
    for box in boxes:
        box.y = top + sum(rows[: box.row]) + (spare + CHANNEL) * box.row
        box.height = rows[box.row] + spare if box.column >= 0 else sum(rows) + gaps + spare * len(rows)


def route(start: Box, end: Box, y0: float, y1: float, lane: float) -> np.ndarray:
    """Return the corners of an arrow between blocks, from height y0 to y1, that crosses no block.

    It goes out into a gutter, perhaps above a row, in from a gutter; shape (4 or 6, 2). Its `lane` says how
    far from the middle of the gutter it runs.
    """
    a, b = start.column, end.column
    right_out = a < b or a == b == -1  # the host's gutter is on its right
    right_in = b < a or a == b == -1
    step, wide = start.width + GUTTER, start.width - 2 * INSET
    x0, x1 = start.x + INSET + wide * right_out, end.x + INSET + wide * right_in
    first, last = (MARGIN + (g + 1) * step - GUTTER / 2 + lane for g in (a + right_out, b + right_in))
    if first == last:
        return np.array([(x0, y0), (first, y0), (first, y1), (x1, y1)])
    above = (start if b == -1 else end).y - CHANNEL / 2 + lane
    return np.array([(x0, y0), (first, y0), (first, above), (last, above), (last, y1), (x1, y1)])
