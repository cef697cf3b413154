"""Where each box and block of the map goes. Lengths are inches; y grows downwards."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from ..virtual import is_active
from .placement import Block

WIDE, NARROW = 2.8, 2.16  # a box; narrow where four GPUs stand side by side
MARGIN, GUTTER, CHANNEL = 0.1, 0.4, 0.3  # around everything; left of each GPU; above a row of GPUs
HEADER, METER, INSET, GAP = 0.42, 0.44, 0.1, 0.1  # inside a box
LINE, PAD = 0.235, 0.08  # inside a block

Font = tuple[float, str]  # size in points, weight
TITLE, NAME, SMALL = (14.0, "bold"), (12.5, "bold"), (11.0, "normal")


@dataclass
class Box:
    """The memory of one device.

    Attributes:
        kind: what the device is, in a word or two.
        virtual: the device is a virtual GPU.
        usage: bytes that tensors use on a GPU, and all it has; None where that is unknown.
        column, row: its cell among the GPUs; column -1 is the host, which is as high as all rows.
        x, y, width, height: set by `lay_out`.
    """

    device: str
    kind: str
    virtual: bool
    usage: tuple[int, int] | None
    blocks: list[Block]
    column: int
    row: int
    width: float
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0


@dataclass
class Place:
    """Where a block is, and its lines of (left, right) text, made to fit its width."""

    box: Box
    lines: list[tuple[str, str]]
    x: float
    y: float
    width: float
    height: float


def find_boxes(blocks: list[Block], gpus: int) -> list[Box]:
    """Return the host's box and those of at least `gpus` GPUs, up to four of them side by side."""
    found = {block.device for block in blocks} - {"cpu"}
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        count = min(max(gpus, 0 if found else 1), torch.accelerator.device_count())
        found |= {f"{accelerator.type}:{index}" for index in range(count)}
    names = sorted(found, key=lambda name: (torch.device(name).type, torch.device(name).index or 0))
    columns = math.ceil(len(names) / (math.ceil(len(names) / 4) or 1)) or 1
    cells = [("cpu", -1, 0), *((name, i % columns, i // columns) for i, name in enumerate(names))]
    width = NARROW if columns == 4 else WIDE
    return [
        Box(name, *_facts(name), [block for block in blocks if block.device == name], column, row, width)
        for name, column, row in cells
    ]


def _facts(device: str) -> tuple[str, bool, tuple[int, int] | None]:
    """Return the kind of device, whether it is virtual, and its memory: bytes used and bytes in all."""
    kind = torch.device(device).type
    if kind == "cuda":
        usage = (torch.cuda.memory_allocated(device), torch.cuda.get_device_properties(device).total_memory)
        name = "virtual" if is_active() else torch.cuda.get_device_name(device).removeprefix("NVIDIA ")
        return name, is_active(), usage
    if kind == "mps":
        return "Apple GPU", False, (torch.mps.current_allocated_memory(), torch.mps.recommended_max_memory())
    return {"cpu": "host memory", "meta": "shapes only"}.get(kind, ""), False, None


@lru_cache(maxsize=2048)
def width_of(text: str, font: Font) -> float:
    """Return the width of `text` in inches."""
    properties = FontProperties(size=font[0], weight=font[1])
    points = text_to_path.get_text_width_height_descent(text, properties, ismath=False)[0]
    return points * 1.02 / 72  # the grid of pixels widens text a little


def fit(text: str, room: float, font: Font) -> str:
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


def lay_out(boxes: list[Box], top: float) -> dict[int, Place]:
    """Give each box its place, `top` below the edge, and return the place of each block by the block's id."""
    places: dict[int, Place] = {}
    rows = [0.0] * (boxes[-1].row + 1)  # heights
    for box in boxes:
        box.x, y = MARGIN + (box.column + 1) * (box.width + GUTTER), HEADER
        for block in box.blocks:
            lines = _lines(block, box.width - 2 * INSET - 2 * PAD)
            height = LINE * len(lines) + 2 * PAD
            places[id(block)] = Place(box, lines, box.x + INSET, y, box.width - 2 * INSET, height)
            y += height + GAP
        box.height = max(y, HEADER + LINE + GAP) + (METER if box.usage else 0)
        if box.column >= 0:
            rows[box.row] = max(rows[box.row], box.height)
    gaps = CHANNEL * (len(rows) - 1)
    spare = max(0.0, boxes[0].height - sum(rows) - gaps) / len(rows)
    for box in boxes:
        box.y = top + sum(rows[: box.row]) + (spare + CHANNEL) * box.row
        box.height = rows[box.row] + spare if box.column >= 0 else sum(rows) + gaps + spare * len(rows)
    for place in places.values():
        place.y += place.box.y
    return places
