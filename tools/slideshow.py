"""Cells that fit on slides: each idea in a cell of its own.

`python tools/notebooks.py fix` cuts a text cell before a heading, before a question (`**Before you run it:**`
or `**The test:**`) that follows what the last result meant, and between two paragraphs where it would not fit
on a slide. Cell borders change, never a word. tools/classroom/slide_types.py says what shares a slide.
"""

import math
import re
from copy import deepcopy

from classroom.layout import HEADING, SLIDE_LINES, text_height
from classroom.slide_types import QUESTION
from nbformat import NotebookNode


def cut(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells with every text cut to one idea and one slide; the first piece keeps the cell's id."""
    result = []
    for index, cell in enumerate(cells):
        if cell.cell_type != "markdown" or index == 0:
            result.append(cell)
            continue
        first, *others = _pieces(cell.source)
        result.append(cell)
        cell.source = first
        for source in others:
            piece = deepcopy(cell)
            piece.source, piece.id = source, ""
            result.append(piece)
    return result


def _pieces(source: str) -> list[str]:
    ideas: list[list[str]] = [[]]
    for block in _blocks(source):
        titled = bool(ideas[-1]) and HEADING.match(ideas[-1][0])
        if ideas[-1] and (HEADING.match(block) or (QUESTION.search(block) and not titled)):
            ideas.append([])
        ideas[-1].append(block)
    return [piece for blocks in ideas for piece in _slides_of(blocks)]


def _blocks(source: str) -> list[str]:
    """The paragraphs, lists, tables and fences; a heading and a line ending in a colon keep what follows."""
    blocks: list[str] = []
    fenced = False
    for part in re.split(r"\n\s*\n", source):
        together = fenced or (blocks and _leads_on(blocks[-1]))
        if HEADING.match(part) and not fenced:
            together = False
        if together:
            blocks[-1] += "\n\n" + part
        else:
            blocks.append(part)
        fenced ^= part.count("```") % 2 == 1
    return blocks


def _leads_on(block: str) -> bool:
    last = block.splitlines()[-1]
    return block.endswith(":") or bool(HEADING.match(last))


def _slides_of(blocks: list[str]) -> list[str]:
    """The blocks joined to as few texts as fit on a slide each, of about the same height."""
    heights = [text_height(block) for block in blocks]
    count = max(1, math.ceil(sum(heights) / SLIDE_LINES))
    aim = sum(heights) / count
    texts, used = [blocks[0]], heights[0]
    for block, height in zip(blocks[1:], heights[1:], strict=True):
        if count > 1 and (used + height / 2 > aim or used + height > SLIDE_LINES):
            texts.append(block)
            used = height
        else:
            texts[-1] += "\n\n" + block
            used += height
    return texts
