"""How high a cell is on a slide, estimated in lines of text from its source and its stored outputs.

A slide is 1280 x 720 pixels, its text and code 24 pixels high (deck/deck.css), so that the last row of a room
can read it. The estimate decides what shares a slide; the browser test measures the slides themselves.
"""

import base64
import math
import re
import struct
from itertools import groupby, zip_longest

from nbformat import NotebookNode

SLIDE_LINES = 22
TEXT_COLUMNS, CODE_COLUMNS = 101, 84
LINE_PIXELS = 31
PICTURE_PIXELS = 330  # a picture may shrink to this height for the rest of its slide

HEADING = re.compile(r"(#{1,6}) ")
PNG = b"\x89PNG"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def cell_height(cell: NotebookNode) -> float:
    """The lines that a cell takes with its stored outputs."""
    if cell.cell_type == "markdown":
        return text_height(cell.source)
    outputs = cell.get("outputs", [])
    code = lines(cell.source, CODE_COLUMNS) + 0.7 if cell.source else 0.0
    return code + sum(map(_output_height, outputs))


def text_height(source: str) -> float:
    """The lines that markdown takes, with some space between paragraphs."""
    height = 0.0
    for is_table, group in groupby(_joined(source), key=lambda line: line.startswith("|")):
        lines = list(group)
        height += _table_height(lines) if is_table else sum(map(_line_height, lines))
    return height


def _line_height(line: str) -> float:
    heading = HEADING.match(line)
    if heading:
        return 1.7 if len(heading[1]) <= 2 else 1.3
    return math.ceil(len(line) / TEXT_COLUMNS) or 0.4


def _joined(source: str) -> list[str]:
    """The markdown's lines as they are shown: a paragraph or list item is one, an address is gone."""
    lines: list[str] = []
    fenced = False
    for line in source.splitlines():
        shown = LINK.sub(r"\1", line).replace("**", "").replace("`", "")
        own = fenced or line.startswith(("```", "|", "#", "- ", "* ", ">")) or re.match(r"\d+\. ", line)
        if own or not line.strip() or not lines or not lines[-1] or lines[-1].startswith(("|", "#")):
            lines.append(shown.strip() if not fenced else shown)
        else:
            lines[-1] += " " + shown.strip()
        fenced ^= line.startswith("```")
    return lines


def _table_height(lines: list[str]) -> float:
    """The lines of a table whose columns share the width as their longest cells do."""
    rows = [line.strip("|").split("|") for line in lines if not set(line) <= set("|-: ")]
    columns = list(zip_longest(*rows, fillvalue=""))
    least = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    most = [max(map(len, column)) for column in columns]
    room = max(0, TEXT_COLUMNS - sum(least)) / max(1, sum(most) - sum(least))
    widths = [low + (high - low) * min(1, room) for low, high in zip(least, most, strict=True)]
    return sum(0.15 + max(map(_wraps, row, widths)) for row in rows)


def _wraps(cell: str, width: float) -> int:
    return max(1, math.ceil(len(cell.strip()) / max(1, width)))


def _output_height(output: NotebookNode) -> float:
    data = output.get("data", {})
    if "image/png" in data:
        return _picture_height(data["image/png"])
    if "text/html" in data:
        return 3
    if output.output_type == "error":
        return lines(ANSI.sub("", "\n".join(output.traceback)), CODE_COLUMNS)
    return lines(output.get("text", data.get("text/plain", "")), CODE_COLUMNS) + 0.3


def _picture_height(png: str) -> float:
    head = base64.b64decode(png[:32])
    if not head.startswith(PNG):
        return PICTURE_PIXELS / LINE_PIXELS
    width, height = struct.unpack(">II", head[16:24])
    return min(height, PICTURE_PIXELS, height * 1200 / width) / LINE_PIXELS + 0.5


def lines(text: str, columns: int) -> int:
    """The lines of a text that is wrapped after `columns` characters."""
    return sum(max(1, math.ceil(len(line) / columns)) for line in text.splitlines())
