"""What a lesson prints here, set beside what its notebook holds: which cells differ, where, and how."""

import re
from itertools import zip_longest
from typing import NamedTuple

from nbformat import NotebookNode
from scrubbing import scrub

WIDGET = "application/vnd.jupyter.widget-view+json"
BUTTONS = "buttons or sliders here, text in the stored page"
NOTHING = "(nothing)"
SECTION = re.compile(r"^## +(.+)$", re.M)


class Difference(NamedTuple):
    """A cell whose output is not the stored one; `number` is the one Jupyter shows after Run All.

    `reason` says why the output was expected to differ; it is empty where it should have been the same.
    `stored` and `here` are the first two lines that are not the same.
    """

    section: str
    number: int
    reason: str
    stored: str
    here: str


def differences(stored: NotebookNode, run: NotebookNode) -> list[Difference]:
    """Compare a run with stored outputs; a cell that was not reached, or is not stored, is left out.

    Pictures are not compared, nor the traceback of an error that belongs to the lesson.
    """
    found, section, number = [], "at the top", 0
    stored_cells = {cell.id: cell for cell in stored.cells}
    for after in run.cells:
        if after.cell_type == "markdown":
            section = (SECTION.findall(after.source) or [section])[-1]
        if after.cell_type != "code":
            continue
        number += 1
        before = stored_cells.get(after.id)
        pair = _first_difference(_lines(before), _lines(after)) if before else None
        if pair and after.execution_count is not None:
            found.append(Difference(section, number, _reason(after), *pair))
    return found


def _reason(cell: NotebookNode) -> str:
    """Why a cell's output may differ from one machine to the next; empty where it may not."""
    if any(WIDGET in output.get("data", {}) for output in cell.outputs):
        return BUTTONS
    if {"nbval-ignore-output", "close-numbers"} & set(cell.metadata.get("tags", [])):
        return cell.metadata.get("reason", "it depends on the machine")
    return ""


def _lines(cell: NotebookNode) -> list[str]:
    """What a cell shows as text, line by line, each with its kind; without what belongs to one machine."""
    texts = {"stdout": "", "stderr": "", "shown": "", "error": ""}
    for output in cell.outputs:
        if output.output_type == "stream":
            texts[output.name] += output.text
        elif output.output_type == "error":
            texts["error"] += f"{output.ename}: {output.evalue}\n"
        else:
            texts["shown"] += output.data.get("text/plain", "") + "\n"
    kinds = ((kind, scrub(text).strip("\n").split("\n")) for kind, text in texts.items() if text.strip())
    return [f"{kind}: {line.rpartition(chr(13))[2].rstrip()}" for kind, lines in kinds for line in lines]


def _first_difference(before: list[str], after: list[str]) -> tuple[str, str] | None:
    """The first two lines that differ, without their kinds; None where all are the same."""
    for one, other in zip_longest(before, after):
        if one != other:
            return _text(one), _text(other)
    return None


def _text(line: str | None) -> str:
    return (line or "").partition(": ")[2].strip() or NOTHING
