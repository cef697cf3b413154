"""A lesson's cells as a deck shows them: no more on a slide than fits, and nothing that needs a network.

Only what is shown changes; the notebook itself stays as it is.
"""

import math
import re
from copy import deepcopy
from itertools import pairwise

from nbformat import NotebookNode

from classroom.layout import CODE_COLUMNS, HEADING, SLIDE_LINES, cell_height, lines
from classroom.slide_types import QUESTION, TAG, TAGS, write_types

HIDDEN = "remove-input"  # nbconvert leaves out the code of a cell with this tag

HEAD_ROWS, TAIL_ROWS = 7, 8  # of a traceback too long for a slide

FOR_LINTERS = re.compile(r" *# noqa\b.*")
BADGE = re.compile(r"^\[!\[.*\n+", re.M)
IMAGE = re.compile(r"!\[([^\]]*)\]\(https?:[^)]*\)")
LESSON_LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb(?:#[^)]*)?\)")
OTHER_LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?!https?:|\d\d_\w+\.html\))[^\s()]*\)")


def deck_cells(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells of a deck with their slide types: cleaned, and code cut from its outputs."""
    result: list[NotebookNode] = []
    for cell in deepcopy(cells):
        if cell.cell_type == "markdown":
            cell.source = _text(cell.source)
            result.append(cell)
        elif cell.cell_type == "code":
            result += _code_pieces(_clean(cell))
    write_types(result)
    _explain_in_sight(result)
    for text, code in pairwise(result):  # a guess needs the code before the eyes; its output comes apart
        if text.cell_type == "markdown" and code.cell_type == "code" and code.source:
            _join(code)
    return result


def _explain_in_sight(cells: list[NotebookNode]) -> None:
    """Move an output to the next slide where its meaning would stand there alone."""
    for output, text in pairwise(cells):
        result = output.cell_type == "code" and not output.source and _type(output) == "fragment"
        meaning = text.cell_type == "markdown" and not HEADING.match(text.source)
        alone = _type(text) == "subslide" and not QUESTION.search(text.source)
        if result and meaning and alone and cell_height(output) + cell_height(text) <= SLIDE_LINES:
            output.metadata["tags"] = [*output.metadata.get("tags", []), TAG + "subslide"]
            write_types(cells)


def _type(cell: NotebookNode) -> str:
    return cell.metadata.get("slideshow", {}).get("slide_type", "")


def _join(cell: NotebookNode) -> None:
    if _type(cell) == "fragment":
        del cell.metadata["slideshow"]


def _text(source: str) -> str:
    """Markdown without pictures from the net; links to lessons lead to their decks, others stay a name."""
    source = IMAGE.sub(r"\1", BADGE.sub("", source))
    return OTHER_LINK.sub(r"\1", LESSON_LINK.sub(r"](\1.html)", source))


def _clean(cell: NotebookNode) -> NotebookNode:
    """A code cell without what no audience needs: the setup's code, and feedback on an open exercise."""
    cell.source = FOR_LINTERS.sub("", cell.source)
    if cell.id == "setup":
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), HIDDEN]
    if "exercise." in cell.source:
        cell.outputs = [output for output in cell.outputs if "text/html" not in output.get("data", {})]
    for output in cell.outputs:
        if output.output_type == "error":
            output.traceback = _shorten(output.traceback)
    return cell


def _shorten(traceback: list[str]) -> list[str]:
    """A traceback that fits on a slide: its beginning and its end."""
    rows = "\n".join(traceback).splitlines()
    if _code_lines("\n".join(rows)) < SLIDE_LINES:
        return traceback
    left_out = len(rows) - HEAD_ROWS - TAIL_ROWS
    return [*rows[:HEAD_ROWS], f"  ... {left_out} lines that this slide leaves out ...", *rows[-TAIL_ROWS:]]


def _code_pieces(cell: NotebookNode) -> list[NotebookNode]:
    """The code on as many slides as it needs, then its outputs: they come after the guess."""
    tags = cell.metadata.get("tags", [])
    pieces = [] if HIDDEN in tags else [_piece(cell, part, [], tags) for part in _cut_code(cell.source)]
    own = [tag for tag in tags if tag not in TAGS]
    shown = own if HIDDEN in own else [*own, HIDDEN]
    pieces += [_piece(cell, "", outputs, shown) for outputs in _cut_outputs(cell.outputs)]
    for number, piece in enumerate(pieces[1:], start=2):
        piece.id = f"{cell.id[:54]}-piece-{number}"
    return pieces


def _piece(cell: NotebookNode, source: str, outputs: list[NotebookNode], tags: list[str]) -> NotebookNode:
    piece = deepcopy(cell)
    piece.source, piece.outputs = source, outputs
    piece.metadata["tags"] = tags
    return piece


def _cut_code(source: str) -> list[str]:
    """Code in as few slides as hold it, cut between statements at the left margin where there are any."""
    blocks: list[str] = []
    for block in _statements(source):
        if blocks and _code_lines(f"{blocks[-1]}\n{block}") < SLIDE_LINES:
            blocks[-1] += "\n" + block
        else:
            rows = block.strip("\n").splitlines()
            slides = math.ceil((_code_lines(block) + 2) / SLIDE_LINES)
            step = max(1, math.ceil(len(rows) / slides))  # an empty line that fits on no slide has no rows
            blocks += ["\n".join(rows[start : start + step]) for start in range(0, len(rows), step)]
    return [block.strip("\n") for block in blocks]


def _statements(source: str) -> list[str]:
    """Code cut before each line at the left margin, but for the one below a decorator."""
    statements: list[str] = []
    for part in re.split(r"\n(?=\n*[^\s)\]}])", source):
        if statements and statements[-1].rpartition("\n")[2].startswith("@"):
            statements[-1] += "\n" + part
        else:
            statements.append(part)
    return statements


def _code_lines(source: str) -> int:
    return lines(source, CODE_COLUMNS)


def _cut_outputs(outputs: list[NotebookNode]) -> list[list[NotebookNode]]:
    """The outputs grouped by slide; a picture too large for the rest of a slide begins another."""
    groups: list[list[NotebookNode]] = []
    room = 0.0
    for output in outputs:
        height = cell_height(NotebookNode(cell_type="code", source="", outputs=[output]))
        if height > room:
            groups.append([])
            room = float(SLIDE_LINES)
        groups[-1].append(output)
        room -= height
    return groups
