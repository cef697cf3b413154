"""How high a cell is on a slide, estimated in lines of text from its source and its stored outputs.

A slide is 1280 x 720 pixels, its text and code 24 pixels high (deck/deck.css), so that the last row of a room
can read it. The estimate decides what shares a slide; the browser test measures the slides themselves.
"""

import base64
import math
import re
import struct

from nbformat import NotebookNode

SLIDE_LINES = 21
TEXT_COLUMNS, CODE_COLUMNS = 98, 84
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
    code = lines(cell.source, CODE_COLUMNS) + 0.7 if cell.source else 0
    return code + sum(map(_output_height, outputs))


def text_height(source: str) -> float:
    """The lines that markdown takes, with half a line between paragraphs."""
    height = 0.0
    for line in _joined(source):
        heading = HEADING.match(line)
        if heading:
            height += 2.2 if len(heading[1]) <= 2 else 1.8
        elif line.startswith("|"):
            height += _row_height(line)
        elif line:
            height += math.ceil(len(line) / TEXT_COLUMNS)
        else:
            height += 0.5
    return height


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


def _row_height(row: str) -> float:
    """The lines of a table's row; its cells are taken to be equally wide."""
    if set(row) <= set("|-: "):
        return 0
    cells = row.strip("|").split("|")
    return 0.3 + max(math.ceil(len(cell) * len(cells) / TEXT_COLUMNS) for cell in cells)


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
