"""The doctor as a whole: the command, its exit code, and what it does not do."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.machine import doctor as diagnosis
from course_utils.machine.doctor import inspection
from course_utils.machine.doctor.facts import Facts, Interpreter

from .machines import T4, machine, with_gpus

ROOT = Path(diagnosis.__file__).parents[3]


def python(code: str, *flags: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *flags, "-c", code], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("facts", "code", "last"),
    [
        (with_gpus(T4), 0, "This machine can run the course: with the real GPU Tesla T4"),
        (machine(), 0, "This machine can run the course: with virtual GPUs."),
        (
            machine(interpreter=vars(Interpreter())),
            1,
            "The course cannot run here yet. Nothing is installed here.",
        ),
        (machine(interpreter={"vision": False}), 1, "The course cannot run here yet."),
        (machine(interpreter={"computes": False}), 1, "The course cannot run here yet."),
    ],
)
def test_the_exit_code_says_whether_the_course_can_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], facts: Facts, code: int, last: str
) -> None:
    monkeypatch.setattr(diagnosis, "collect", lambda: facts)
    assert diagnosis.main([]) == code
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].startswith(last)
    assert printed.err == ""


def test_it_looks_at_the_kernels_own_python_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(inspection, "ask_interpreter", asked.append)
    for notebook, exists in ((True, False), (False, True), (False, False)):
        facts = machine(caller={"notebook": notebook})
        monkeypatch.setattr(inspection, "look_at_caller", lambda facts=facts: facts.caller)
        monkeypatch.setattr(inspection, "look_at_place", lambda facts=facts: facts.place)
        monkeypatch.setattr(Path, "exists", lambda path, exists=exists: exists)
        inspection.collect()
    assert asked == [sys.executable, str(machine().place.environment.python)]


def test_in_a_cell_it_says_first_that_it_takes_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before: list[str] = []
    monkeypatch.setattr(diagnosis, "collect", lambda: before.append(capsys.readouterr().out) or machine())
    assert diagnosis.doctor() is None
    assert before == ["Trying this machine, and its PyTorch in a process of its own: a few seconds ...\n"]
    assert capsys.readouterr().out.splitlines()[-1] == "This machine can run the course: with virtual GPUs."


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["-h"], 0), (["--install"], 1)])
def test_help(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> None:
    assert diagnosis.main(arguments) == code
    assert capsys.readouterr().out == diagnosis.HELP


def test_a_name_that_a_files_encoding_lacks_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where the output is redirected."""
    page = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", page)
    monkeypatch.setattr(
        diagnosis, "collect", lambda: machine(place={"data_folder": "/資料", "data": "official"})
    )
    assert diagnosis.main([]) == 0
    page.seek(0)
    assert "\\u8cc7\\u6599" in page.read()


def test_this_machine_for_real() -> None:
    """It has PyTorch, or these tests would not run. The asking process loads nothing, keeps its variables."""
    done = python(
        "import json, os, sys; variables, modules = dict(os.environ), set(sys.modules)\n"
        "sys.argv = ['course_utils', 'doctor']\n"
        "from course_utils.__main__ import main; code = main(); assert dict(os.environ) == variables\n"
        "files = [getattr(sys.modules[name], '__file__', '') or '' for name in {*sys.modules} - modules]\n"
        "print(json.dumps([code, files]))"
    )
    *report, last = done.stdout.splitlines()
    code, files = json.loads(last)
    assert done.stderr == ""
    assert report[-1].startswith("This machine can run the course: "), done.stdout
    assert code == 0
    assert any("doctor" in file for file in files)
    assert not [file for file in files if "site-packages" in file]


def test_a_python_without_any_package(tmp_path: Path) -> None:
    """As in a fresh clone: a bare interpreter, and no .venv yet; without the clone's tools, too.

    A file named random.py, which `tempfile` would load, is no hindrance, either, but is named.
    """
    (tmp_path / "random.py").write_text("raise SystemExit('the reader's own')")
    shutil.copytree(
        ROOT / "course_utils", tmp_path / "course_utils", ignore=shutil.ignore_patterns("__pycache__")
    )
    command = [sys.executable, "-S", "-m", "course_utils", "doctor"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 1
    assert "PyTorch" not in done.stdout
    assert done.stdout.splitlines()[0] == "problem   A file of yours is named as a module: random"
    assert "\nproblem   Nothing is installed here\n" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("To do: give that file another name")
