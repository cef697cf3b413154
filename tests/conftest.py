"""What several test files share."""

from pathlib import Path

import canonical
import lesson
import nbformat
import pytest
from nbformat import NotebookNode

import notebooks

PYPROJECT = '[tool.course]\nrepository = "owner/course"\nref = "main"\n'


@pytest.fixture
def small_lesson() -> NotebookNode:
    """A lesson that keeps every rule: head, setup, a section and one cell that prints."""
    notebook = lesson.new_lesson("01_first", "First")
    notebook.cells += [
        nbformat.v4.new_markdown_cell("## 1. Adding numbers"),
        nbformat.v4.new_code_cell("print(1 + 1)", outputs=[nbformat.v4.new_output("stream", text="2\n")]),
    ]
    for count, cell in enumerate([notebook.cells[1], notebook.cells[3]], start=1):
        cell.execution_count = count
    return canonical.canonical(notebook)


@pytest.fixture
def small_course(tmp_path: Path, small_lesson: NotebookNode) -> Path:
    """The root of a course with two lessons and a README.md, pointing to owner/course at main."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    for name in ("01_first", "02_second"):
        small_lesson.cells[0].source = small_lesson.cells[0].source.replace("Lesson 01", f"Lesson {name[:2]}")
        notebooks.write(tmp_path / "notebooks" / f"{name}.ipynb", small_lesson, small_lesson)
    markers = "<!-- lessons:begin -->\n<!-- lessons:end -->\n"
    readme = f"# Course\n\ngit clone https://github.com/owner/course\n\n{markers}"
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    return tmp_path
