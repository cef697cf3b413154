"""Which cells share a slide: one idea each, the question before its answer, and nothing to scroll.

    slide      the first cell, and every section (`##`)
    subslide   every other heading (below a heading alone it stays), a question, and whatever has no room
               left on the slide before it
    fragment   what still fits there: the cell with its result, then what the result means
    (none)     what belongs to the text above it: more text, and an exercise's code

Where this is wrong for a cell, a tag overrides it: `slideshow-slide`, `slideshow-subslide`,
`slideshow-fragment`, `slideshow-continue` (the "none" above), `slideshow-skip` or `slideshow-notes`. A
skipped code cell cannot be run inside the slides, so skip only what no later cell needs.
"""

import re

from nbformat import NotebookNode

from classroom.layout import HEADING, SLIDE_LINES, cell_height

TAG = "slideshow-"
TAGS = {TAG + kind for kind in ("slide", "subslide", "fragment", "continue", "skip", "notes")}

QUESTION = re.compile(r"\*\*(?:Before you|The test)\b")


def write_types(cells: list[NotebookNode]) -> None:
    """Set the slide type of each cell, in place."""
    used = 0.0
    before = None
    for cell in cells:
        height = cell_height(cell)
        kind = _tagged(cell) or _kind(cell, before, fits=used + height <= SLIDE_LINES)
        if kind in ("slide", "subslide"):
            used = 0.0
        if kind not in ("skip", "notes"):
            used += height
            before = cell
        cell.metadata.pop("slideshow", None)
        if kind != "continue":
            cell.metadata["slideshow"] = {"slide_type": kind}


def _tagged(cell: NotebookNode) -> str:
    tags = cell.metadata.get("tags", [])
    return next((tag.removeprefix(TAG) for tag in tags if tag in TAGS), "")


def _kind(cell: NotebookNode, before: NotebookNode | None, *, fits: bool) -> str:
    text = cell.cell_type == "markdown"
    heading = HEADING.match(cell.source) if text else None
    if before is None or (heading and len(heading[1]) <= 2):
        return "slide"
    if (heading and not _is_heading_alone(before)) or not fits or (text and QUESTION.search(cell.source)):
        return "subslide"
    belongs = before.cell_type == "markdown" and (text or "exercise." in cell.source)
    return "continue" if belongs else "fragment"


def _is_heading_alone(cell: NotebookNode) -> bool:
    return (
        cell.cell_type == "markdown" and bool(HEADING.match(cell.source)) and "\n" not in cell.source.strip()
    )
