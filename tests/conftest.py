"""What several test files share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from authors import canonical, common_cells
from nbformat import NotebookNode

import course_utils

TRAIN, TEST = 96, 51  # the test pictures do not divide by two: a sampler would pad them
PYPROJECT = '[tool.course]\nrepository = "owner/course"\nref = "main"\n'


@pytest.fixture
def two_gpus() -> Iterator[None]:
    """Two virtual GPUs."""
    with course_utils.virtual_gpus(count=2):
        yield


@pytest.fixture
def small_lesson() -> NotebookNode:
    """A lesson that keeps every rule: head, setup, a section and one cell that prints."""
    head = (
        "# Lesson 01: First\n\n**After this lesson you can** say in one sentence what the reader can do.\n\n"
        "**Time:** about 20 minutes. **Needs:** nothing but this notebook."
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(head)])
    common_cells.write_common_cells(notebook, "01_first")
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
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        canonical.write(canonical.both_files(path, small_lesson, small_lesson))
    markers = "<!-- lessons:begin -->\n<!-- lessons:end -->\n"
    readme = f"# Course\n\ngit clone https://github.com/owner/course\n\n{markers}"
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def two_trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with tiny pictures, and the checkpoint of two processes after three epochs of three steps."""
    folder = tmp_path_factory.mktemp("trained")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (TRAIN + TEST, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (TRAIN + TEST,), generator=generator)
    halves = {"pictures": noise[:TRAIN], "labels": labels[:TRAIN]}
    tests = {"test_pictures": noise[TRAIN:], "test_labels": labels[TRAIN:]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.save(halves | tests, "pictures.pt")
        course_utils.take_home("train_ddp.py")
        command = "--standalone --nproc-per-node 2 train_ddp.py --epochs 3 --batch-size 32"
        run = course_utils.torchrun(f"{command} --checkpoint two.pt")
    assert run.ok, run.error
    return folder, torch.load(folder / "two.pt")
