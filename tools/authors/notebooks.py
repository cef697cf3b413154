"""Checking, mending and running a lesson: what authors do with its two files."""

import re
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from start.runner import execute, repeatable_environment

from authors import canonical, common_cells, rules
from course_utils.lessons import executed

CELL_TIMEOUT = 120
LONG = 2.0  # seconds without a sign of life, after which a reader wonders
SAYS_SO = re.compile(r"\btqdm\b|\bprint\(.*\bseconds?\b")


def check(path: Path) -> list[str]:
    """What is wrong with the two files of one lesson, one line each.

    Raises ValueError where the lesson cannot be brought into form.
    """
    texts = common_cells.files(path)
    wrong = {
        path: f"{path.name}: not as `fix` writes it (form, badge, setup cell, exercises), or with outputs",
        executed(path): f"executed/{path.name}: not the cells of the lesson, as `fix` writes them",
    }
    found = [f"{wrong[file]}; run: python tools/authors fix" for file in canonical.stale(texts)]
    return found + rules.problems(nbformat.reads(texts[executed(path)], as_version=4), path)


def fix(path: Path) -> list[str]:
    """Bring one lesson into form; returns what only its author can mend.

    Raises ValueError where that is not possible.
    """
    canonical.write(common_cells.files(path))
    return check(path)


def run(path: Path) -> list[str]:
    """Run one lesson, store its outputs and print each cell's seconds; one that fails is left as it was."""
    notebook = canonical.read(path)
    common_cells.write_common_cells(notebook, path.stem)
    notebook = canonical.canonical(notebook)
    try:
        execute(notebook, path.parent, repeatable_environment(), timeout=CELL_TIMEOUT)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return [f"{path.name}: left as it was, a cell failed\n{error}"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        silent = seconds(cell) > LONG and not SAYS_SO.search(cell.source)
        first, *_ = cell.source.split("\n")
        mark = "  <- over two seconds without a bar" if silent else ""
        print(f"{seconds(cell):8.2f} s  {first[:60]}{mark}")
    print(f"{sum(map(seconds, code)):8.2f} s  {path.name}")
    canonical.write(canonical.both_files(path, notebook, notebook))
    return check(path)


def seconds(cell: NotebookNode) -> float:
    """How long a cell took, by the times that nbclient has noted in its metadata."""
    times = cell.metadata.get("execution")
    if not times:  # an empty cell is left out
        return 0.0
    keys = ("iopub.status.busy", "shell.execute_reply")
    begun, ended = (datetime.fromisoformat(times[key]) for key in keys)
    return (ended - begun).total_seconds()
