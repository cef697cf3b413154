"""What a lesson prints here, set beside what its notebook holds: which cells differ, where, and how."""

import re
from itertools import zip_longest
from typing import NamedTuple

from authors.canonical import scrub
from nbformat import NotebookNode

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
        if after.execution_count is None or after.id not in stored_cells:
            continue
        for one, other in zip_longest(_lines(stored_cells[after.id]), _lines(after), fillvalue=("", "")):
            if one != other:
                lines = (line.strip() or NOTHING for _, line in (one, other))
                found.append(Difference(section, number, _reason(after), *lines))
                break
    return found


def _reason(cell: NotebookNode) -> str:
    """Why a cell's output may differ from one machine to the next; empty where it may not."""
    if any(WIDGET in output.get("data", {}) for output in cell.outputs):
        return BUTTONS
    if {"nbval-ignore-output", "close-numbers"} & set(cell.metadata.get("tags", [])):
        return cell.metadata.get("reason", "it depends on the machine")
    return ""


def _lines(cell: NotebookNode) -> list[tuple[str, str]]:
    """What a cell shows as text: each line with its kind, and without what belongs to one machine."""
    texts = {"stdout": "", "stderr": "", "shown": "", "error": ""}
    for output in cell.outputs:
        if output.output_type == "stream":
            texts[output.name] += output.text
        elif output.output_type == "error":
            texts["error"] += f"{output.ename}: {output.evalue}\n"
        else:
            texts["shown"] += output.data.get("text/plain", "") + "\n"
    kinds = ((kind, scrub(text).strip("\n").split("\n")) for kind, text in texts.items() if text.strip())
    return [(kind, line.rpartition("\r")[2].rstrip()) for kind, lines in kinds for line in lines]
