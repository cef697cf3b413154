"""The real thing in small: a real .venv, the real pip, two made-up packages, no network."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from start.workspace import FOLDER

from course_utils.lessons import ROOT

pytestmark = pytest.mark.slow

BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)
CALLER = ("VIRTUAL_ENV", "CONDA_PREFIX", "COLAB_RELEASE_TAG", "PYTHONPATH", "PYTHONHOME")


def make_wheel(folder: Path, name: str, main: str) -> None:
    """Write a wheel of one package that can be run with `python -m`."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "")
        wheel.writestr(f"{name}/__main__.py", main)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone in small; its requirements are a pytest and a jupyterlab that print their arguments."""
    root = tmp_path / "a clone"
    root.mkdir()
    for name in ("course_utils", "tools"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "notebooks").mkdir()
    (root / "notebooks" / "01_first.ipynb").touch()
    (root / "requirements.txt").write_text("pytest==1.0  # tests\njupyterlab==1.0\n")
    (root / "pyproject.toml").write_text("[build-system]\nrequires = []\n[project]\nname = 'x'\n")
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "pytest", "import sys; print('TESTS', sys.argv[1:]); sys.exit(3)")
    return root


def begin(clone: Path, *arguments: str, links: str = "") -> subprocess.Popen:
    """Start the command line with the Python below this environment; pip logs to pip.log."""
    env = {name: value for name, value in os.environ.items() if name not in CALLER and "PIP" not in name}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_RETRIES": "0", "NO_PROXY": "*"}
    env["PIP_FIND_LINKS"] = links or (clone.parent / "wheels").as_uri()
    env["PIP_LOG"] = str(clone / "pip.log")
    command = [BASE_PYTHON, "-m", "course_utils", *arguments]
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, cwd=clone, env=env, text=True, start_new_session=True, **streams)


def call(clone: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Call the command line and wait for its end."""
    process = begin(clone, *arguments)
    out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


needs_venv = pytest.mark.skipif(
    not importlib.util.find_spec("ensurepip"), reason="this Python has no ensurepip (Debian: python3-venv)"
)


@needs_venv
def test_cut_off_then_completed_then_quick(clone: Path) -> None:
    # a call cut off while the environment was being made: a Python, but no pip yet
    subprocess.run([BASE_PYTHON, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    (clone / ".venv" / "tmp").mkdir()

    # then one cut off while packages were being installed: the second of the two cannot be had
    failed = call(clone, "test")
    assert failed.returncode == 1
    assert failed.stderr.startswith(
        "course_utils: pip failed: ERROR: No matching distribution found for jupyterlab"
    )
    assert failed.stderr.count("\n") == 1

    make_wheel(
        clone.parent / "wheels", "jupyterlab", "import os, sys; print('LAB', os.getcwd(), sys.argv[1:])"
    )
    completed = call(clone, "test", "-k", "some thing")
    assert completed.stdout.splitlines()[-1] == "TESTS ['-k', 'some thing']"
    assert completed.returncode == 3
    assert not (clone / ".venv" / "tmp").exists()

    (clone / "pip.log").unlink()
    shutil.rmtree(clone.parent / "wheels")
    quick = call(clone, "lab", "--no-browser")
    first = f"--LabApp.default_url=/lab/tree/{FOLDER}/01_first.ipynb"
    assert quick.stdout.splitlines()[-1] == f"LAB {clone} ['{first}', '--no-browser']"
    assert (clone / "work" / "01_first.ipynb").is_file()
    assert quick.returncode == 0
    assert not (clone / "pip.log").exists()


@needs_venv
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL; run it on Linux or a Mac")
@pytest.mark.parametrize("pip_lives_on", [True, False])
def test_killed_in_pip_then_called_again(clone: Path, pip_lives_on: bool) -> None:
    make_wheel(clone.parent / "wheels", "jupyterlab", "print('LAB')")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        killed = begin(clone, "lab", links="http://{}:{}/".format(*silent.getsockname()))
        with silent.accept()[0]:  # pip waits for an answer
            (os.kill if pip_lives_on else os.killpg)(killed.pid, signal.SIGKILL)
            if pip_lives_on:
                assert "another command is installing the course" in call(clone, "lab").stderr
    killed.communicate()  # until pip has ended
    again = call(clone, "lab")
    assert (again.returncode, again.stderr, again.stdout.splitlines()[-1]) == (0, "", "LAB")
    assert not list((clone / ".venv").glob("tmp*"))
