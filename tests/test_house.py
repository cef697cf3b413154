"""The house: lines of Python per room (`pytest -s tests/test_house.py` shows them), doors, who imports whom.

They are counted with blank lines, comments and docstrings. A budget is raised on purpose only.
"""

import ast
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from course_utils.lessons import ROOT

BUDGET = {  # room: lines
    "the front door": 295,
    "virtual": 4205,
    "memory": 870,
    "figures": 955,
    "machine": 1540,
    "data": 770,
    "distributed": 1510,
    "errors": 405,
    "exercises": 3345,
    "tools": 2460,
    "tests": 19_200,
}
ROOT_ENTRIES = set(
    ".ci .gitattributes .gitignore LICENSE README.md colab_badges.md conftest.py course_utils docs "
    "environment.yml notebooks pyproject.toml requirements.txt tests tools".split()
)
ENTRIES = 12  # at the root of course_utils
# each imports only from what stands before it
ORDER = "lessons virtual figures memory data machine errors distributed exercises session __main__".split()


def room_of(file: Path) -> str:
    """Return the room that a file belongs to."""
    folder, *inside = file.relative_to(ROOT).parts
    if folder != "course_utils":
        return folder
    return inside[0] if len(inside) > 1 else "the front door"


def test_every_room_keeps_to_its_budget() -> None:
    lines = dict.fromkeys(BUDGET, 0)
    for folder in ("course_utils", "tools", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            lines[room_of(file)] += len(file.read_text(encoding="utf-8").splitlines())
    table = [f"{room:20}{count:7,} of {BUDGET[room]:7,}" for room, count in lines.items()]
    print("\n" + "\n".join(table))
    assert [row for row, room in zip(table, lines, strict=True) if lines[room] > BUDGET[room]] == []


def test_a_newcomer_sees_few_doors() -> None:
    seen = {path.name for path in (ROOT / "course_utils").iterdir()} - {"__pycache__"}
    assert len(seen) <= ENTRIES, sorted(seen)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone, so nothing says what belongs to it")
def test_nothing_lies_at_the_root_by_accident() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} == ROOT_ENTRIES


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of the course that a file imports, such as "course_utils.virtual.tensor"."""
    package = [*file.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("room", ORDER)
def test_imports_run_one_way(room: str) -> None:
    folder = ROOT / "course_utils" / room
    files = folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
    taken = {tuple(name.split(".")[:2]) for file in files for name in imported(file)}
    rooms = {names[1] for names in taken if names[0] == "course_utils" and len(names) > 1}
    later = ORDER[ORDER.index(room) + 1 :]
    assert rooms & set(later) == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {module_of(file): file for file in (ROOT / "course_utils").rglob("*.py")}
    graph = {}
    for module, file in files.items():
        taken = {name if name in files else name.rpartition(".")[0] for name in imported(file)}
        graph[module] = (taken & set(files)) - {module}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_simulator_stands_on_torch_alone() -> None:
    files = (ROOT / "course_utils" / "virtual").rglob("*.py")
    taken = {".".join(name.split(".")[:2]) for file in files for name in imported(file)}
    assert {name for name in taken if name.startswith("course_utils")} == {"course_utils.virtual"}
    assert {name.partition(".")[0] for name in taken} & {
        "numpy",
        "matplotlib",
        "torchvision",
        "IPython",
    } == set()
