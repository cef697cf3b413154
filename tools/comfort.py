"""What makes a lesson comfortable to read: headings for a table of contents, cells no higher than a screen,
pictures that also speak to those who do not see them.

- One `#` (the lesson's title), then sections `## 1. Title`, `## 2. Title` and so on, `###` below them. No
  level is left out, no title comes twice. The sections of CLOSING come last and have no number.
- A cell's source takes at most SCREEN pixels, so that text or code can be read without scrolling in it: that
  is JupyterLab's room for a notebook at 1366 x 768. Outputs are not counted.
- A line of code within a text has at most CODE_ACROSS characters; there a longer one is broken.
- A picture in an output has an alternative text, and words go with it: printed there or in the next cell, or
  a markdown cell that follows.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from nbformat import NotebookNode

CLOSING = ("Your turn", "What you can do now")
SCREEN = 640
FENCED = re.compile(r"^```.*?^```", re.M | re.S)
HEADING = re.compile(r"^(#{1,6}) +(.+?) *$", re.M)
LINK = re.compile(r"\]\([^)\s]*\)")

# JupyterLab's own pixels, at the width that a window of 1366 leaves beside the file browser (measured)
LINE, CODE_LINE, ROW, GAP = 23, 17, 28, 14
ACROSS, IN_A_ROW = 145, 100  # characters in a line of text, and in a table's row before it takes another line
CODE_ACROSS = 99


def problems(notebook: NotebookNode) -> list[str]:
    """Everything in a notebook that breaks one of these rules, one line each."""
    found = [*_heading_problems(notebook), *_wordless_pictures(notebook)]
    for cell in notebook.cells:
        pixels = height(cell.source) if cell.cell_type == "markdown" else code_height(cell.source)
        if pixels > SCREEN:
            found.append(f"cell {cell.id!r}: about {pixels} pixels high, at most {SCREEN}; split it")
        found += _wide_code(cell)
    return found


def headings(notebook: NotebookNode) -> list[tuple[int, str]]:
    """Level and text of each heading, in order."""
    texts = (FENCED.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    return [(len(marks), title) for text in texts for marks, title in HEADING.findall(text)]


def _heading_problems(notebook: NotebookNode) -> Iterator[str]:
    found = headings(notebook)
    if [level for level, _ in found].count(1) != 1:
        yield "needs exactly one heading with a single #, the title"
    for (above, _), (level, title) in pairwise(found):
        if level > above + 1:
            yield f"heading {title!r}: {'#' * level} comes right after {'#' * above}"
    titles = [title for _, title in found]
    yield from (
        f"heading {title!r} comes twice" for title in dict.fromkeys(titles) if titles.count(title) > 1
    )
    sections = [title for level, title in found if level == 2]
    numbered = [title for title in sections if title not in CLOSING]
    for number, title in enumerate(numbered, start=1):
        if not title.startswith(f"{number}. "):
            yield f"section {title!r} must begin with its number, {number}."
    if sections != numbered + [title for title in CLOSING if title in sections]:
        yield f"the sections {' and '.join(map(repr, CLOSING))} come last, in this order"


def _wordless_pictures(notebook: NotebookNode) -> Iterator[str]:
    for cell, after in pairwise([*notebook.cells, None]):
        outputs = cell.get("outputs", [])
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        if any(not picture.metadata.get("image/png", {}).get("alt") for picture in pictures):
            yield f"cell {cell.id!r}: a picture has no alternative text; run: python tools/notebooks.py run"
        texts = [output.get("text") for output in [*outputs, *(after or {}).get("outputs", [])]]
        in_words = any(texts) or (after and after.cell_type == "markdown")
        if pictures and not in_words:
            yield f"cell {cell.id!r}: no words go with the picture; say in markdown what it shows"


def _wide_code(cell: NotebookNode) -> Iterator[str]:
    blocks = FENCED.findall(cell.source) if cell.cell_type == "markdown" else []
    for line in "\n".join(blocks).splitlines():
        if len(line) > CODE_ACROSS:
            yield f"cell {cell.id!r}: {len(line)} characters in {line[:30]!r}, at most {CODE_ACROSS}"


def height(markdown: str) -> int:
    """About how many pixels a markdown text takes in JupyterLab."""
    pixels = GAP
    for block in re.split(r"\n\s*\n", markdown.strip()):
        lines = LINK.sub("]", block).splitlines()
        if lines[0].startswith("|"):
            rows = [line for line in lines if not set(line) <= set("|-: ")]
            pixels += sum(ROW + 16 * (len(row) // IN_A_ROW) for row in rows)
        elif lines[0].startswith("#"):
            pixels += 2 * LINE
        else:
            items = re.split(r"\n(?=\s*(?:[-*]|\d+\.) )", "\n".join(lines))
            pixels += sum(LINE * -(-len(item) // ACROSS) for item in items)
        pixels += GAP
    return pixels


def code_height(source: str) -> int:
    """How many pixels a code cell's source takes in JupyterLab."""
    return CODE_LINE * len(source.splitlines()) + 50
