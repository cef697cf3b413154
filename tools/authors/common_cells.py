"""The cells that `fix` writes for a lesson's author: badge, setup cell, and the two cells of each exercise.

Badge and setup cell are made of lesson_texts.toml and point to `[tool.course]` of pyproject.toml. For an
exercise of `course_utils/exercises/lesson_NN.toml` an author makes a text cell that begins with
`### Exercise:` and below it, perhaps after more cells, a code cell with `exercise.NAME.check()`, or
`.guess()` for a prediction.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from string import Template
from typing import Any

import nbformat
from nbformat import NotebookNode

from authors import canonical
from course_utils.exercises.lesson import Lesson
from course_utils.lessons import ROOT, executed

TEXTS = tomllib.loads(Path(__file__).with_name("lesson_texts.toml").read_text(encoding="utf-8"))
BADGE_LINE = re.compile(r"\A(# Lesson .*)\n\n(?:\[!\[.*\n\n)?")
HEADING = "### Exercise:"
IMPORT = re.compile(r"^from course_utils\.exercises import (lesson_\d\d) as exercise$", re.M)
CALL = re.compile(r"^exercise\.(\w+)\.(?:check|guess)\(", re.M)


@dataclass(frozen=True)
class Repository:
    """A place on GitHub: `slug` is "OWNER/REPO", `ref` a branch, a tag or a commit."""

    slug: str
    ref: str

    def __post_init__(self) -> None:
        """Raise ValueError for a slug or ref that cannot be a GitHub address."""
        if not re.fullmatch(r"[\w-]+/[\w.-]+", self.slug):
            raise ValueError(f"repository must read OWNER/REPO, not {self.slug!r}")
        if not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)*", self.ref):
            raise ValueError(f"ref must be a branch, a tag or a commit, not {self.ref!r}")

    def text(self, kind: str, lesson: str) -> str:
        """What lesson_texts.toml has of this kind, "badge", "results" or "setup", for one lesson."""
        text = Template(TEXTS[kind].strip("\n"))
        return text.substitute(repository=self.slug, ref=self.ref, lesson=lesson)


def read_repository(root: Path = ROOT) -> Repository:
    """Read the setting; raises KeyError where the section is missing."""
    course = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]
    return Repository(course["repository"], course["ref"])


def files(path: Path, repository: Repository | None = None) -> dict[Path, str]:
    """The texts that the two files of a lesson should have, by their paths."""
    notebook = canonical.read(path)
    stored = canonical.read(executed(path)) if executed(path).is_file() else None
    for each in filter(None, (notebook, stored)):  # in both, or the setup cell's output would be lost
        write_common_cells(each, path.stem, repository)
    return canonical.both_files(path, notebook, stored)


def write_common_cells(notebook: NotebookNode, name: str, repository: Repository | None = None) -> None:
    """Put the badge into the head cell, the setup cell behind it, and write the exercises' cells, in place.

    Outputs stay: pytest compares them. Raises ValueError where the first cell is no lesson head, or an
    exercise has no cells.
    """
    repository = repository or read_repository()
    cells = notebook.cells
    if not cells or cells[0].cell_type != "markdown" or not BADGE_LINE.match(cells[0].source):
        raise ValueError(f"{name}: the first cell must be markdown and begin with '# Lesson NN: title'")
    head, links = cells[0], f"{repository.text('badge', name)} {repository.text('results', name)}"
    head.id = "head"
    head.source = BADGE_LINE.sub(lambda found: f"{found[1]}\n\n{links}\n\n", head.source)
    if len(cells) < 2 or cells[1].cell_type != "code" or "course_utils.start(" not in cells[1].source:
        cells.insert(1, nbformat.v4.new_code_cell())
    cells[1].id = "setup"
    cells[1].source = repository.text("setup", name)
    _write_exercises(cells)


def _write_exercises(cells: list[NotebookNode]) -> None:
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    if not (imported := IMPORT.search(code)):
        return
    lesson = import_module(f"course_utils.exercises.{imported[1]}").lesson
    pairs = dict(_exercise_cells(cells))
    for name, table in lesson.tables.items():
        if name not in pairs:
            raise ValueError(f"the exercise {name!r} has no cells; see tools/authors/common_cells.py")
        heading, check = pairs[name]
        heading.source, check.source = _text(lesson, name, table), _code(name, table)


def _exercise_cells(cells: list[NotebookNode]) -> Iterator[tuple[str, tuple[NotebookNode, NotebookNode]]]:
    """Yield each exercise's name with its text cell and its code cell."""
    heading = None
    for cell in cells:
        if cell.cell_type == "markdown":
            heading = cell if cell.source.startswith(HEADING) else heading
        elif heading and (found := CALL.search(cell.source)):
            yield found[1], (heading, cell)
            heading = None


def _text(lesson: Lesson, name: str, table: dict[str, Any]) -> str:
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
