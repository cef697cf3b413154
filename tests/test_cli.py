"""The command line: what each command starts, what it says, and that it needs nothing but Python."""

import ast
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from start import cli, options, workspace

from course_utils import __main__ as entry
from course_utils import __version__, lessons
from course_utils.lessons import ROOT, CourseError
from course_utils.machine import environment


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of four empty lessons, in place of this one."""
    (tmp_path / "notebooks").mkdir()
    for name in ("00_start", "04_cifar_loop", "05_parallel", "05_parallel_more"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    (tmp_path / "notebooks" / "scratch.ipynb").touch()
    for module in (cli, options):
        monkeypatch.setattr(module, "choose", lambda names: lessons.choose(names, tmp_path))
    monkeypatch.setattr(workspace, "refresh", lambda refresh=workspace.refresh: refresh(tmp_path))
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands a call would have become; the environment counts as installed."""
    commands: list[list[str]] = []
    monkeypatch.setattr(cli.bootstrap, "prepare", lambda: "/env/python")
    monkeypatch.setattr(cli, "hand_over", lambda command: commands.append([str(c) for c in command]) or 7)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "")
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    return commands


def named(names: list[str], root: Path) -> list[str]:
    return [path.stem for path in lessons.choose(names, root)]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], ["00_start", "04_cifar_loop", "05_parallel", "05_parallel_more"]),
        (["4"], ["04_cifar_loop"]),
        (["04"], ["04_cifar_loop"]),
        (["0"], ["00_start"]),
        (["04_ci"], ["04_cifar_loop"]),
        (["05_parallel"], ["05_parallel"]),
        (["05_par"], ["05_parallel", "05_parallel_more"]),
        (["notebooks/00_start.ipynb"], ["00_start"]),
        (["5", "0", "05_parallel"], ["00_start", "05_parallel", "05_parallel_more"]),
    ],
)
def test_lessons_are_found_in_course_order(course: Path, names: list[str], found: list[str]) -> None:
    assert named(names, course) == found


@pytest.mark.parametrize("name", ["7", "cifar", "scratch", ""])
def test_unknown_lesson_lists_the_known_ones(course: Path, name: str) -> None:
    with pytest.raises(
        CourseError, match=r"no lesson .*00_start, 04_cifar_loop, 05_parallel, 05_parallel_more"
    ):
        lessons.choose([name], course)


def test_lab_opens_a_copy_of_the_first_lesson_and_passes_arguments_on(
    course: Path, started: list, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["lab", "--no-browser", "--port", "8890"]) == 7
    assert capsys.readouterr().out.endswith(" copies that are yours to change.\n")
    assert (course / "work" / "00_start.ipynb").is_file()
    first = f"--LabApp.default_url=/lab/tree/{workspace.FOLDER}/00_start.ipynb"
    assert started == [["/env/python", "-m", "jupyterlab", first, "--no-browser", "--port", "8890"]]
    assert os.environ["JUPYTER_PREFER_ENV_PATH"] == "1"


def test_lab_opens_a_named_lesson(course: Path, started: list) -> None:
    cli.main(["lab", "4", "--no-browser"])
    named = f"--LabApp.default_url=/lab/tree/{workspace.FOLDER}/04_cifar_loop.ipynb"
    assert started[0][3:] == [named, "--no-browser"]


def test_lab_in_colab_points_to_the_badges(
    course: Path, started: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert cli.main(["lab"]) == 1
    assert "badge" in capsys.readouterr().err
    assert not started


def test_test_passes_arguments_and_exit_code_on(started: list) -> None:
    assert cli.main(["test", "-k", "virtual", "-x"]) == 7
    assert started == [["/env/python", "-m", "pytest", "-k", "virtual", "-x"]]


def test_quick_tests_leave_the_slow_ones_out(started: list) -> None:
    assert cli.main(["test", "quick", "-x"]) == 7
    assert started == [["/env/python", "-m", "pytest", "tests", "-m", "not slow", "-x"]]


@pytest.mark.parametrize(("command", "argument"), [("run", "04"), ("bench", "--rounds=2")])
def test_run_and_bench_move_into_the_environment(
    course: Path, started: list, monkeypatch: pytest.MonkeyPatch, command: str, argument: str
) -> None:
    monkeypatch.setattr(environment, "find", lambda: environment.Environment("own", course / ".venv"))
    assert cli.main([command, argument]) == 7
    assert started == [["/env/python", "-m", "course_utils", command, argument]]


@pytest.mark.parametrize(
    ("command", "module", "function"),
    [("run", "start.runner", "run_lessons"), ("bench", "authors.benchmark", "main")],
)
def test_run_and_bench_stay_in_an_active_environment(
    course: Path, started: list, monkeypatch: pytest.MonkeyPatch, command: str, module: str, function: str
) -> None:
    fake = type(sys)(module)
    setattr(fake, function, lambda **given: 1)
    monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setattr(environment, "find", lambda: environment.Environment("active", course))
    assert cli.main([command]) == 1
    assert not started


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(environment, "find", lambda: environment.Environment("active", Path("/env")))
    monkeypatch.setitem(sys.modules, "start.runner", None)
    ways = {
        "/env/python": "/env/python",
        "/my env/python": '"/my env/python"',
        "C:/my env/python": '& "C:/my env/python"',
    }
    for path, way in ways.items():
        monkeypatch.setattr(sys, "executable", path)
        monkeypatch.setattr(cli, "os", SimpleNamespace(name="nt" if path[0] == "C" else "posix"))
        assert cli.main(["run"]) == 1
        assert f"is not installed here. Run: {way} -m pip install" in capsys.readouterr().err


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["lap"]) == 1
    assert capsys.readouterr().err == (
        "course_utils: no command 'lap'. "
        "The commands: lab, test, run, try, doctor, demo, slides, bench; try --help\n"
    )


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"], ["lab", "--help"], ["test", "-h"]])
def test_help_is_one_screen_and_installs_nothing(
    arguments: list[str], started: list, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in options.COMMANDS)
    assert len(shown.splitlines()) < 24
    assert not started


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["demo", "--help"], 0, "--stick FOLDER"),
        (["slides", "--help"], 0, "--output"),
        (["bench", "--help"], 0, "--rounds"),
        (["demo", "--stik", "x"], 2, "--stik"),
        (["demo", "--packages"], 2, "--packages needs --stick FOLDER"),
        (["slides", "9"], 1, "no lesson '9'"),
        (["lab", "4", "5"], 1, "one lesson; '5' is one word too many"),
    ],
)
def test_options_and_slips_are_answered_before_anything_is_installed(
    arguments: list[str],
    code: int,
    shown: str,
    course: Path,
    started: list,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(environment, "find", lambda: environment.Environment("own", course / ".venv"))
    try:
        ended = cli.main(arguments)
    except SystemExit as end:
        ended = end.code
    assert ended == code
    assert shown in "".join(capsys.readouterr())
    assert not started


def test_help_says_what_one_types_on_windows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(cli, "PYTHON", "py")
    cli.main(["--help"])
    assert capsys.readouterr().out.startswith("Usage: py -m course_utils COMMAND")


def test_a_letter_that_a_files_encoding_lacks_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where the output is redirected."""
    page = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", page)
    monkeypatch.setattr(sys, "argv", ["course_utils", "run"])
    monkeypatch.setattr(cli, "do", lambda *_: print("\N{BALLOT X}"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert entry.main() == 0
    page.seek(0)
    assert page.read() == "\\u2717\n"


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"course_utils {__version__}\n"


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.bootstrap, "prepare", interrupted)
    assert cli.main(["test"]) == 130
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_on_windows_the_command_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(os, "name", "nt")
    try:
        assert cli.hand_over([sys.executable, "-c", "raise SystemExit(5)"]) == 5
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no exec; the test above is its way")
def test_elsewhere_the_process_becomes_the_command() -> None:
    end = [sys.executable, "-c", "raise SystemExit(5)"]
    code = f"import sys; sys.path.insert(0, 'tools'); from start import cli; cli.hand_over({end})"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 5


def test_the_command_line_needs_nothing_but_python() -> None:
    code = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('course_utils', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "third = {'torch', 'numpy', 'matplotlib', 'tqdm', 'nbformat', 'nbclient', 'PIL'}\n"
        "assert not third & set(sys.modules), third & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 13), (2, 7, 18)])
def test_an_old_python_is_told_so_in_one_line(version: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry.shutil, "which", lambda name: name == "python3.12" or None)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(
        SystemExit, match=r"Python \d\.\d+, the course needs 3\.11 to 3\.14\. Use python3\.12 in"
    ) as end:
        entry.main()
    assert "\n" not in end.value.code


def test_an_old_python_without_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry.shutil, "which", lambda name: None)
    assert "Install a newer one from python.org." in entry.complaint((3, 9))
    assert not entry.complaint((3, 11, 0))


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py"])
def test_an_old_python_gets_as_far_as_the_message(name: str) -> None:
    tree = ast.parse((ROOT / "course_utils" / name).read_text(encoding="utf-8"), feature_version=(3, 6))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    annotations = [n for f in functions for n in (f.returns, *(a.annotation for a in f.args.args)) if n]
    # list[str] and int | None are evaluated when the file is imported, and fail before Python 3.9 and 3.10
    assert all(isinstance(node, (ast.Name, ast.Constant)) for node in annotations)
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
