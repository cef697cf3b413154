"""Running lessons headless: what is written, what is reported, what is left alone."""

import json
import os
import signal
import sys
from pathlib import Path

import nbformat
import pytest
from start import runner
from start.runner import run_lessons

pytestmark = pytest.mark.slow

v4 = nbformat.v4


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of lessons, on a machine where a kernel named python3 belongs to something else."""
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/no/such/python", "{connection_file}"], "display_name": "x", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def lesson(course: Path, name: str, *sources: str, tags: tuple[str, ...] = ()) -> Path:
    """Write a lesson of these code cells, with outputs of an earlier run; the last cell gets `tags`."""
    stale = v4.new_output("stream", name="stdout", text="from an earlier run")
    cells = [v4.new_code_cell(source, outputs=[stale], execution_count=9) for source in sources]
    cells[-1].metadata["tags"] = list(tags)
    notebook = v4.new_notebook(
        cells=[v4.new_markdown_cell("# A lesson"), *cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
    )
    path = course / "notebooks" / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def text_of(path: Path) -> str:
    """Everything an executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_lesson_runs_in_this_python_in_its_own_folder(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COURSE_DEVICE", "virtual")
    source = (
        "import os, sys\nprint(sys.executable, os.getcwd(), os.environ['COURSE_DEVICE'])\n"
        "import course_utils\nprint(course_utils.__version__)"
    )
    path = lesson(
        course, "01_ok", source, "raise ValueError('part of the lesson')", tags=("raises-exception",)
    )
    before = path.read_bytes()

    assert run_lessons([path], course / "out") == 0
    assert f"{sys.executable} {path.parent} virtual" in text_of(course / "out" / "01_ok.ipynb")
    assert "<h1" in (course / "out" / "01_ok.html").read_text(encoding="utf-8")
    assert path.read_bytes() == before
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("01_ok ")
    assert first.endswith(" s  ok")
    assert last.startswith("1 of 1 lessons ran to their end.")


def test_a_failure_is_shown_and_the_next_lesson_still_runs(
    course: Path, capsys: pytest.CaptureFixture
) -> None:
    bad = lesson(course, "02_bad", "x = 1", "y = x\nraise ValueError('not\\nthis')", "print('never')")
    dead = lesson(course, "03_dead", "import os; os._exit(1)")
    good = lesson(course, "04_good", "print('done')")

    assert run_lessons([bad, dead, good], course / "out") == 1
    shown = capsys.readouterr().out
    assert "FAILED\n  cell [2]\n      y = x\n      raise ValueError('not\\nthis')\n" in shown
    assert "\n    ValueError: not\n    this\n" in shown
    assert "  cell [1]\n      import os; os._exit(1)\n    Kernel died" in shown
    assert "1 of 3 lessons ran to their end." in shown
    assert text_of(course / "out" / "04_good.ipynb") == "done\n"
    assert text_of(course / "out" / "02_bad.ipynb") == ""
    assert "ValueError" in (course / "out" / "02_bad.html").read_text(encoding="utf-8")


def test_a_damaged_notebook_and_a_full_disk_stop_no_other_lesson(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    damaged = course / "notebooks" / "01_merged.ipynb"
    damaged.write_text('<<<<<<< HEAD\n{"cells": []}\n=======\n', encoding="utf-8")
    monkeypatch.setattr(runner, "write", lambda *_: os.open(course, os.O_RDWR))
    assert run_lessons([damaged, damaged], course / "out") == 1
    shown = capsys.readouterr().out
    assert shown.count("01_merged.ipynb is not a readable notebook: ") == 2
    assert shown.count("its copy and page cannot be written to ") == 2
    with pytest.raises(OSError, match="01_merged"):
        run_lessons([], damaged / "out")


def test_a_lost_answer_is_not_waited_for_and_the_lesson_is_tried_again(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(runner, "SILENCE", 0.5)
    lose = (  # the kernel's answers, where {}
        "import pathlib\nflag, session = pathlib.Path('tried'), get_ipython().kernel.session\n"
        "send = session.send\nif {}:\n    flag.touch()\n"
        "    session.send = lambda to, what, *rest, **more: "
        "None if what == 'execute_reply' or {} else send(to, what, *rest, **more)"
    )
    idle = "what == 'status' and more['parent']['header']['msg_type'] == 'execute_request'"
    once = lesson(course, "01_once", "1", lose.format("not flag.exists()", "0"), "print('done')")
    always = lesson(course, "02_always", "import time; time.sleep(1)", lose.format("True", idle))
    assert run_lessons([once, always], course / "out") == 1
    shown = capsys.readouterr().out
    lost = "The kernel is idle, and for 0 s nothing has come from this cell"
    assert f"01_once, cell [2]: {lost}. The lesson is tried again.\n01_once " in shown
    assert text_of(course / "out" / "01_once.ipynb") == "done\n"
    assert "FAILED\n  cell [2]\n      import pathlib" in shown
    assert f"    {lost}\n" in shown


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signal from a child; run it on Linux or a Mac")
def test_ctrl_c_while_a_kernel_starts_ends_it(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = []

    async def interrupted(client: runner._Client) -> None:
        kernels.append(client.km.provisioner.pid)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(runner._Client, "async_start_new_kernel_client", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_lessons([lesson(course, "01_stopped", "1")], course / "out")
    with pytest.raises(ProcessLookupError):
        os.kill(kernels[0], 0)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signal from a child; run it on Linux or a Mac")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_ctrl_c_ends_the_kernel(course: Path, number: str) -> None:
    source = (
        "import os, signal, threading\nopen('pid', 'w').write(str(os.getpid()))\n"
        f"os.kill(os.getppid(), signal.{number})\nthreading.Event().wait()"
    )
    path = lesson(course, "01_stopped", source)
    with pytest.raises(KeyboardInterrupt):
        run_lessons([path], course / "out")
    kernel = int((path.parent / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
