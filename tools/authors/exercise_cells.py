"""An exercise's two cells in its notebook, written from `course_utils/exercises/lesson_NN.toml`.

An author makes a text cell that begins with `### Exercise:` and below it, perhaps after more cells, a code
cell with `exercise.NAME.check()`, or `.guess()` for a prediction; `fix` writes both.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from nbformat import NotebookNode

from course_utils.exercises.lesson import Lesson

HEADING = "### Exercise:"
IMPORT = re.compile(r"^from course_utils\.exercises import (lesson_\d\d) as exercise$", re.M)
CALL = re.compile(r"^exercise\.(\w+)\.(?:check|guess)\(", re.M)


def write_exercises(notebook: NotebookNode) -> None:
    """Write the cells of the exercises that a notebook imports, in place.

    Raises ValueError where one of them has no cells.
    """
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    if not (imported := IMPORT.search(code)):
        return
    lesson = import_module(f"course_utils.exercises.{imported[1]}").lesson
    cells = dict(_cells(notebook))
    for name, table in lesson.tables.items():
        if name not in cells:
            raise ValueError(f"the exercise {name!r} has no cells; see tools/authors/exercise_cells.py")
        heading, check = cells[name]
        heading.source, check.source = _heading(lesson, name, table), _code(name, table)


def _cells(notebook: NotebookNode) -> Iterator[tuple[str, tuple[NotebookNode, NotebookNode]]]:
    """Yield each exercise's name with its text cell and its code cell."""
    heading = None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = cell if cell.source.startswith(HEADING) else heading
        elif heading and (found := CALL.search(cell.source)):
            yield found[1], (heading, cell)
            heading = None


def _heading(lesson: Lesson, name: str, table: dict[str, Any]) -> str:
    """The text cell; a myth's claim stands first, or where the text has {claim}."""
    text = table["text"].strip()
    if claim := table.get("claim"):
        text = text if "{claim}" in text else f"{{claim}}\n\n{text}"
        text = text.replace("{claim}", f"> {claim}").strip()
    return f"{HEADING} {table['title']}\n\n{lesson.exercises[name].heading}\n\n{text}"


def _code(name: str, table: dict[str, Any]) -> str:
    stub = table["stub"].strip()
    if table["kind"] == "predict":
        return stub
    apart = "\n\n\n" if re.search(r"^(?:def|class) ", stub, re.M) else "\n\n"
    return f"{stub}{apart}exercise.{name}.check({table.get('check', name)})"
