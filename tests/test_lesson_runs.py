"""What makes a lesson pass or fail under pytest, and what the setup cell does without the package."""

import importlib.util
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import lesson_cells
import nbformat
import pytest
from authors import canonical, common_cells, notebooks
from authors.common_cells import Repository
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from start.runner import execute, repeatable_environment

from course_utils.lessons import ROOT

CELLS = {
    "steady": "print(1 + 1)",
    "address": "print(object())",
    "child": "import subprocess, sys\n_ = subprocess.call([sys.executable, '-c', 'print(7)'])",
    "captured": "print(subprocess.check_output([sys.executable, '-c', 'print(7)'], text=True))",
    "settings": "import os\nprint(os.environ['COURSE_DATA'], os.environ['OMP_NUM_THREADS'])",
    "unsteady": "calls = globals().get('calls', 0) + 1\nprint(calls)",
    "deliberate": "raise ValueError('no')",
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """A notebook of the cells above, run once; it skips the setup cell, which would import torch."""
    notebook = nbformat.v4.new_notebook()
    for name, source in CELLS.items():
        notebook.cells.append(nbformat.v4.new_code_cell(source, id=name))
    notebook.cells[-1].metadata.tags = ["raises-exception"]
    execute(notebook, tmp_path_factory.mktemp("lesson"), repeatable_environment())
    assert all(notebooks.seconds(cell) > 0 for cell in notebook.cells)
    return canonical.canonical(notebook)


@pytest.mark.slow
def test_run_records_what_cells_print_and_not_their_children(recorded: NotebookNode) -> None:
    texts = {cell.id: "".join(output.get("text", "") for output in cell.outputs) for cell in recorded.cells}
    assert texts == {
        "steady": "2\n",
        "address": "<object object at 0x...>\n",
        "child": "",
        "captured": "7\n\n",
        "settings": "standin 1\n",
        "unsteady": "1\n",
        "deliberate": "",
    }
    assert recorded.cells[-1].outputs[0].evalue == "no"


@pytest.mark.slow
@pytest.mark.parametrize("named", ["notebooks", "notebooks/01_first.ipynb", "notebooks/executed"])
def test_pytest_compares_strictly_and_runs_twice(recorded: NotebookNode, tmp_path: Path, named: str) -> None:
    (tmp_path / "course_utils").mkdir()
    shutil.copy(canonical.SANITIZE_FILE, tmp_path / "course_utils")
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "tests").mkdir()
    for name in ("pyproject.toml", "conftest.py", "tests/garbage.py", "tests/lesson_cells.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    recorded.cells[0].outputs[0].text = "3\n"
    path = tmp_path / "notebooks" / "01_first.ipynb"
    canonical.write(canonical.both_files(path, recorded, recorded))
    assert _failed_cells(tmp_path, named) == {"Cell 0", "Cell 0 solved", "Cell 5 solved"}


def _failed_cells(root: Path, named: str) -> set[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-rf", "--color=no", named]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return {line.split("::")[1].split(" - ")[0] for line in lines}


def test_a_failing_lesson_is_left_as_it_was(
    small_lesson: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common_cells, "write_common_cells", lambda *_: None)
    small_lesson.cells[1].source = "1 / 0"
    path = tmp_path / "01_first.ipynb"
    canonical.write(canonical.both_files(path, small_lesson))
    before = path.read_bytes()
    (found,) = notebooks.run(path)
    assert found.startswith("01_first.ipynb: left as it was, a cell failed")
    assert "ZeroDivisionError" in found
    assert path.read_bytes() == before


def test_a_dead_kernel_leaves_the_lesson_as_it_was(
    small_lesson: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr(notebooks, "execute", die)
    path = tmp_path / "01_first.ipynb"
    canonical.write(canonical.both_files(path, small_lesson))
    before = path.read_bytes()
    assert notebooks.run(path) == [f"{path.name}: left as it was, a cell failed\nKernel died"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("printed", "good"),
    [
        ("2 epochs: 36.7%, loss 1.3179, then 1.3179001, again 1.3179001\n", True),
        ("2 epochs: 37.5%, loss 1.3184, then 1.3184002, again 1.3184002\n", True),
        ("2 epochs: 42.0%, loss 1.3184, then 1.3184002, again 1.3184002\n", False),
        ("2 epochs: 37.5%, loss 1.3184, then 1.3184002, again 1.3184001\n", False),
        ("3 epochs: 37.5%, loss 1.3184, then 1.3184002, again 1.3184002\n", False),
        ("2 epochs: 37.5%, loss 1.3184, then 1.3184002\n", False),
    ],
)
def test_close_numbers_are_as_good_as_the_stored_ones(printed: str, good: bool) -> None:
    reference = "2 epochs: 36.7%, loss 1.3179, then 1.3179001, again 1.3179001\n"
    stored, here = (
        [
            nbformat.v4.new_output("stream", text=text),
            nbformat.v4.new_output("display_data", {"text/html": f"<p>{text}</p>", "image/png": "iVBO"}),
        ]
        for text in (reference, printed)
    )
    assert (lesson_cells.with_close_numbers(here, stored) == stored) == good
    assert (lesson_cells.with_close_numbers(here[1:], stored[1:]) == stored[1:]) == good


# --- the setup cell ---


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.SimpleNamespace:
    """Run the setup cell in an empty folder; `pip` and `started` record what it calls."""
    state = types.SimpleNamespace(
        missing=True, exit_code=0, pip=[], started=[], folder=tmp_path / "notebooks"
    )
    state.folder.mkdir()
    monkeypatch.chdir(state.folder)
    package = types.SimpleNamespace(start=state.started.append)
    monkeypatch.setitem(sys.modules, "course_utils", package)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if state.missing else object())
    monkeypatch.setattr(subprocess, "call", lambda command: state.pip.append(command) or state.exit_code)
    source = Repository("owner/course", "v1").text("setup", "01_first")
    state.run = lambda: exec(compile(source, "setup", "exec"), {})
    return state


INSTALL = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]


def test_setup_installs_nothing_where_the_package_is(setup: types.SimpleNamespace) -> None:
    setup.missing = False
    setup.run()
    assert (setup.pip, setup.started) == ([], ["01_first"])


def test_setup_installs_the_package_alone_from_its_repository(setup: types.SimpleNamespace) -> None:
    setup.run()
    assert setup.pip == [[*INSTALL, "git+https://github.com/owner/course@v1"]]
    assert setup.started == ["01_first"]


def test_setup_prefers_the_course_folder_it_lies_in(setup: types.SimpleNamespace) -> None:
    (setup.folder.parent / "course_utils").mkdir()
    setup.run()
    assert setup.pip == [[*INSTALL, ".."]]


def test_setup_says_what_to_do_when_pip_fails(setup: types.SimpleNamespace) -> None:
    setup.exit_code = 1
    with pytest.raises(
        ImportError, match=r"^No course_utils yet\. .* Is github\.com/owner/course public\? .* lab$"
    ):
        setup.run()
    assert setup.started == []
