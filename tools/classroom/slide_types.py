"""Which cells share a slide: one idea each, the question before its answer.

    slide      the first cell, and every section (`##`)
    subslide   every other heading (below a heading alone it stays), a question, and, in a lesson shown live,
               whatever has no room left on the slide before it: JupyterLab cannot cut what is too high
    fragment   what comes after a click: the cell with its result, then what the result means
    (none)     what belongs to the text above it: more text, and an exercise's code

Where this is wrong for a cell, a tag overrides it: `slideshow-slide`, `slideshow-subslide`,
`slideshow-fragment`, `slideshow-continue` (the "none" above), `slideshow-skip` or `slideshow-notes`. A
skipped code cell cannot be run inside the slides, so skip only what no later cell needs.
"""

import re

from nbformat import NotebookNode

TAG = "slideshow-"
TAGS = {TAG + kind for kind in ("slide", "subslide", "fragment", "continue", "skip", "notes")}

HEADING = re.compile(r"(#{1,6}) .+")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
QUESTION = re.compile(r"\*\*(?:Before you|The test)\b")

LINES, TEXT_COLUMNS, CODE_COLUMNS = 22, 100, 84  # of 24 pixels on a slide of 1280 x 720
PICTURE_LINES = 11  # the least that a picture needs


def write_types(cells: list[NotebookNode], room: float = LINES) -> None:
    """Set the slide type of each cell, in place; `room` is how many lines a slide has."""
    used = 0.0
    before = None
    for cell in cells:
        height = lines_of(cell)
        tagged = [tag.removeprefix(TAG) for tag in cell.metadata.get("tags", []) if tag in TAGS]
        kind = tagged[0] if tagged else _kind(cell, before, fits=used + height <= room)
        if kind in ("slide", "subslide"):
            used = 0.0
        if kind not in ("skip", "notes"):
            used += height
            before = cell
        cell.metadata.pop("slideshow", None)
        if kind != "continue":
            cell.metadata["slideshow"] = {"slide_type": kind}


def type_of(cell: NotebookNode) -> str:
    """The slide type that was written; empty for what goes on with the slide above it."""
    return cell.metadata.get("slideshow", {}).get("slide_type", "")


def lines_of(cell: NotebookNode) -> float:
    """About how many lines a cell takes on a slide, with its stored outputs."""
    if cell.cell_type == "markdown":
        blocks = re.split(r"\n\s*\n", LINK.sub(r"\1", cell.source))
        return sum(_lines(block, TEXT_COLUMNS) + 0.4 for block in blocks)
    shown = [cell.source]
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        texts = [output.get("text", ""), data.get("text/plain", ""), *output.get("traceback", [])]
        shown.append("\n" * PICTURE_LINES if "image/png" in data else "\n".join(filter(None, texts)))
    return 1 + sum(_lines(text, CODE_COLUMNS) for text in shown)


def _lines(text: str, columns: int) -> float:
    return sum(max(1, len(line) / columns) for line in text.splitlines())


def _kind(cell: NotebookNode, before: NotebookNode | None, *, fits: bool) -> str:
    text = cell.cell_type == "markdown"
    heading = HEADING.match(cell.source) if text else None
    if before is None or (heading and len(heading[1]) <= 2):
        return "slide"
    below_title = before.cell_type == "markdown" and HEADING.fullmatch(before.source)
    if (heading and not below_title) or not fits or (text and QUESTION.search(cell.source)):
        return "subslide"
    belongs = before.cell_type == "markdown" and (text or "exercise." in cell.source)
    return "continue" if belongs else "fragment"
