"""Every lesson in an imitation of Google Colab: its versions, an empty folder, only the .ipynb, no network.

The setup cell installs the course by itself. git is told to fetch github.com from a folder, where a
repository made of this checkout lies under the very name and branch that the cell asks for.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from authors import canonical, colab_environment
from authors.common_cells import read_repository
from nbformat import NotebookNode
from start.runner import execute

from course_utils.lessons import ROOT, executed, lesson_paths

PYTHON = os.environ.get("COURSE_COLAB_PYTHON", "")
PYTHON = PYTHON and os.path.abspath(PYTHON)  # kernels run elsewhere
MAKE = "python tools/authors colab-environment build/colab-env"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON,
        reason=f"make Colab's environment: {MAKE}; then set COURSE_COLAB_PYTHON to the path it prints",
    ),
]

COURSE = "pytorch-gpu-course"
CLICK = "For a real GPU: menu Runtime, Change runtime type, T4 GPU; then run this cell again."
# What trains here trains as in the lesson, but on less: elsewhere it is the lesson's own numbers that count.
LESS = {
    "04_cifar_training_loop": {"4_000, 1_000": "640, 200", "= 5 ": "= 2 ", "= 15 ": "= 3 ", "768 ": "256 "},
    "08_full_speed": {"2_048, 1_000": "512, 200"},
}
BY_DAY = ("00", "03", "04")  # of all, what they stand on: virtual GPUs and exercises
STANDS_ON = "test_fidelity test_virtual_gpus test_virtual_allocator test_data_parallel test_exercises".split()
CALLERS = ("COURSE_", "PYTEST_", "PIP_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "KAGGLE_", "GIT_", "OMP_", "MPL")


def python(code: str) -> str:
    """What `code` prints in Colab's environment."""
    command = [PYTHON, "-c", code]
    return subprocess.check_output(command, env=dict(without_callers()), cwd="/", text=True).strip()


def without_callers() -> Iterator[tuple[str, str]]:
    """The variables of this process but for those that would let this checkout or its settings in."""
    return ((name, value) for name, value in os.environ.items() if not name.startswith(CALLERS))


def versions() -> dict[str, str]:
    """Everything that is installed in Colab's environment."""
    code = "print(json.dumps({d.name: d.version for d in metadata.distributions()}))"
    return json.loads(python(f"import json; from importlib import metadata; {code}"))


@pytest.fixture(scope="session")
def github(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for github.com; in it the course, with the branch that the setup cell names."""
    folder, repository = tmp_path_factory.mktemp("github"), read_repository()
    course = folder / repository.slug
    generated = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "course_utils", course / "course_utils", ignore=generated)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, course)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["checkout", "-q", "-b", repository.ref], ["add", "."]):
        subprocess.run(["git", *command], cwd=course, check=True)
    subprocess.run(["git", *author, "commit", "-q", "-m", "course"], cwd=course, check=True)
    return folder


@pytest.fixture(scope="session")
def colab(github: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a kernel in Colab's environment, in which the course is not installed yet."""
    uninstall()
    programs = Path(PYTHON).parent
    wheels = programs.parent / "wheels"  # to build the course with, as pip would fetch it
    yield dict(without_callers()) | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "COLAB_RELEASE_TAG": "release-colab-external-images",
        "CUDA_VISIBLE_DEVICES": "",  # a runtime without a GPU, also where this machine has one
        "COURSE_DATA": "standin",
        "OMP_NUM_THREADS": "1",  # more of them wait for each other where cores are busy
        "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{github.as_uri()}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels.as_uri(),
        "PIP_LOG": str(github / "pip.log"),
    }
    uninstall()


def uninstall() -> None:
    """Take the course out of Colab's environment, where it is in there."""
    command = [PYTHON, "-m", "pip", "uninstall", "-q", "-y", COURSE]
    subprocess.run(command, check=True, capture_output=True)


def run(
    path: Path, folder: Path, env: dict[str, str], cells: list[int] | None = None, **options: bool
) -> NotebookNode:
    """Run a copy of a lesson, alone in `folder`; a cell that fails without being meant to raises.

    `cells` are the numbers of the code cells to run, in this order; all by default. `options` are nbclient's.
    """
    shutil.copy(path, folder)
    notebook = canonical.read(folder / path.name)
    if cells is not None:
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        notebook.cells = [deepcopy(code[number]) for number in cells]
    execute(notebook, folder, env, PYTHON, timeout=600, **options)
    return notebook


def printed(cell: NotebookNode, stream: str = "stdout") -> str:
    """What a cell wrote to one stream."""
    return "".join(output.text for output in cell.outputs if output.get("name") == stream)


def error_types(notebook: NotebookNode) -> dict[str, list[str]]:
    """The types of the errors that cells raised, by the cells' ids."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    raised = {cell.id: [out.ename for out in cell.outputs if out.output_type == "error"] for cell in code}
    return {cell_id: names for cell_id, names in raised.items() if names}


def cells_that_warn(notebook: NotebookNode) -> set[str]:
    """The ids of the cells that print a warning: of an old name, a missing widget, a different version."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {cell.id for cell in code if "Warning" in printed(cell, "stderr")}


def test_the_environment_is_colabs() -> None:
    here = {name.lower(): version for name, version in versions().items()}
    listed = colab_environment.packages(kaggle=here["torch"].startswith("2.10."))
    colabs = {name.lower(): version for name, version in listed.items()}
    names = [name for name in colab_environment.WANTED.split() if name != "setuptools"]
    assert {name: here[name].partition("+")[0] for name in names} == {
        name: colabs[name].partition("+")[0] for name in names
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"PATH": ""},
        {"GIT_CONFIG_COUNT": "0", "https_proxy": "http://localhost:9"},
        {"GIT_CONFIG_KEY_0": "url.file:///nowhere/.insteadOf"},
    ],
    ids=["no git", "no network", "no such repository"],
)
def test_a_failed_installation_ends_in_one_clear_line(
    changed: dict[str, str], colab: dict[str, str], tmp_path: Path
) -> None:
    uninstall()
    (setup,) = run(lesson_paths()[1], tmp_path, colab | changed, [0], allow_errors=True).cells
    assert setup.outputs[-1].ename == "ImportError"
    public = f"Is there a network? Is git there? Is github.com/{read_repository().slug} public?"
    assert setup.outputs[-1].evalue.startswith(f"No course_utils yet. {public} Try again")


def test_the_setup_cell_installs_the_course_alone_and_once(
    colab: dict[str, str], github: Path, tmp_path: Path
) -> None:
    uninstall()
    before, log = versions(), github / "pip.log"
    log.unlink(missing_ok=True)
    first, second = run(lesson_paths()[1], tmp_path, colab, [0, 0]).cells
    assert "8 VIRTUAL GPUs" in printed(first)
    assert printed(first).splitlines()[-1].startswith(CLICK)
    assert printed(first) == printed(second)
    assert log.read_text(encoding="utf-8").count(f"Successfully installed {COURSE}") == 1

    assert versions() == before | {COURSE: versions()[COURSE]}
    found = f"metadata.distribution('{COURSE}').read_text('direct_url.json')"
    source = json.loads(python(f"from importlib import metadata; print({found})"))
    repository = read_repository()
    assert source["url"] == f"https://github.com/{repository.slug}"
    assert source["vcs_info"]["requested_revision"] == repository.ref


def with_less_data(path: Path, folder: Path) -> Path:
    """A copy of a lesson whose settings ask for less."""
    notebook, copy = canonical.read(path), folder / "less" / path.name
    for old, new in LESS.get(path.stem, {}).items():
        (cell,) = [cell for cell in notebook.cells if "TEST_SIZE = " in cell.source and old in cell.source]
        cell.source = cell.source.replace(old, new)
    copy.parent.mkdir()
    copy.write_text(canonical.to_text(notebook), encoding="utf-8")
    return copy


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the lessons; all have their turn at night, with --everything."""
    if "path" in metafunc.fixturenames:
        everything = metafunc.config.option.everything
        paths = [path for path in lesson_paths() if everything or path.stem.startswith(BY_DAY)]
        metafunc.parametrize("path", paths, ids=lambda path: path.stem)


def test_the_lesson_runs(path: Path, colab: dict[str, str], tmp_path: Path) -> None:
    done = run(with_less_data(path, tmp_path), tmp_path, colab)
    stored = canonical.read(executed(path))
    assert error_types(done) == error_types(stored)
    assert cells_that_warn(done) <= cells_that_warn(stored)


def test_virtual_gpus_and_exercises_work_on_colabs_pytorch() -> None:
    files = [f"tests/{name}.py" for name in STANDS_ON]
    alone = ["--noconftest", "-o", "addopts=", "-o", "required_plugins=", "-p", "no:cacheprovider"]
    command = [PYTHON, "-m", "pytest", "-q", "-m", "not slow", *alone, "-p", "garbage", *files]
    env = dict(without_callers()) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
