"""The rehearsal: what it runs, what it tells apart, what it leaves alone."""

import os
from pathlib import Path

import nbformat
import pytest
from authors.canonical import without_outputs
from classroom import demo
from classroom.comparing import BUTTONS, NOTHING, WIDGET, differences
from nbformat import NotebookNode
from start import options

from course_utils import lessons
from course_utils.machine.doctor import Finding

v4 = nbformat.v4
FINE = [Finding("ok", "Python is new enough."), Finding("ok", "This machine can run the course.")]


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return v4.new_output("stream", name=name, text=text)


def shown(text: str, **mimes: object) -> NotebookNode:
    return v4.new_output("display_data", data={"text/plain": text} | mimes)


def error(value: str, *traceback: str) -> NotebookNode:
    return v4.new_output("error", ename="ValueError", evalue=value, traceback=list(traceback))


def notebook(*outputs: NotebookNode, count: int | None = 1, **metadata: object) -> NotebookNode:
    """A notebook of one section and one cell with these outputs."""
    cell = v4.new_code_cell("1", id="one", outputs=list(outputs), execution_count=count, metadata=metadata)
    return v4.new_notebook(cells=[v4.new_markdown_cell("# Title\n\n## 1. Numbers"), cell])


@pytest.mark.parametrize(
    ("stored", "here"),
    [
        ([stream("a\nb\n")], [stream("a\n"), stream("b\n")]),  # a stream comes in pieces of any size
        ([stream("<X at 0x7f0a1b2c3d4e>")], [stream("<X at 0x7fffffffffff>")]),
        ([stream("/home/me/c/course_utils/a.py:3")], [stream("C:\\c\\course_utils\\a.py:3")]),
        ([stream("done")], [stream("10%\r50%\rdone")]),
        ([error("no", "line 3 in cell 7")], [error("no", "line 3 in cell 9")]),
        ([shown("a map", **{"image/png": "AAAA"})], [shown("a map", **{"image/png": "BBBB"})]),
    ],
)
def test_what_belongs_to_the_machine_is_no_difference(
    stored: list[NotebookNode], here: list[NotebookNode]
) -> None:
    assert differences(notebook(*stored), notebook(*here)) == []


@pytest.mark.parametrize(
    ("stored", "here", "lines"),
    [
        ([stream("a\n  b\nc")], [stream("a\n  x\nc")], ("b", "x")),
        ([stream("a")], [], ("a", NOTHING)),
        ([], [stream("careful", name="stderr")], (NOTHING, "careful")),
        ([error("no")], [error("yes")], ("ValueError: no", "ValueError: yes")),
        ([error("no")], [stream("no error")], (NOTHING, "no error")),
        ([shown("loss: 1.0")], [shown("loss: 2.0")], ("loss: 1.0", "loss: 2.0")),
    ],
)
def test_a_difference_is_shown_by_its_first_line(
    stored: list[NotebookNode], here: list[NotebookNode], lines: tuple[str, str]
) -> None:
    (found,) = differences(notebook(*stored), notebook(*here))
    assert (found.section, found.number, found.reason) == ("1. Numbers", 1, "")
    if lines == (NOTHING, "no error"):
        assert found.here == "no error"  # what is printed comes before errors
    else:
        assert (found.stored, found.here) == lines


def test_expected_differences_have_their_reason() -> None:
    why = {"tags": ["nbval-ignore-output"], "reason": "times differ"}
    (timed,) = differences(notebook(stream("1 s"), **why), notebook(stream("2 s"), **why))
    assert timed.reason == "times differ"
    buttons = shown("VBox()", **{WIDGET: {"model_id": "1"}})
    (asked,) = differences(notebook(shown("a question")), notebook(buttons))
    assert asked.reason == BUTTONS


def test_a_cell_that_was_not_reached_is_no_difference() -> None:
    assert differences(notebook(stream("a")), notebook(count=None)) == []


def rehearse(arguments: list[str]) -> int:
    return demo.main(**options.options_of("demo", arguments))


class Class:
    """A course in a temporary folder, and a machine on which it can run."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir()
        self.findings = FINE
        monkeypatch.setattr(options, "choose", lambda names: lessons.choose(names, folder))
        monkeypatch.setattr(demo, "examine", lambda: self.findings)
        monkeypatch.setenv("COURSE_DATA", "standin")
        for name in ("COURSE_PROGRESS", "COURSE_DEVICE", "COURSE_WIDGETS"):
            monkeypatch.delenv(name, raising=False)

    def lesson(self, name: str, **cells: str) -> None:
        """Write a lesson: for each section, code that prints and the line that an earlier run printed."""
        content = []
        for section, line in cells.items():
            source, _, stored = line.partition(" -> ")
            cell = v4.new_code_cell(source, outputs=[stream(f"{stored}\n")], execution_count=1)
            content += [v4.new_markdown_cell(f"## {section}"), cell]
        notebook, path = v4.new_notebook(cells=content), self.notebooks / f"{name}.ipynb"
        lessons.executed(path).parent.mkdir(exist_ok=True)
        nbformat.write(notebook, lessons.executed(path))
        nbformat.write(without_outputs(notebook), path)

    def bytes(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.notebooks.rglob("*.ipynb")}


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Class:
    return Class(tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_rehearsal_tells_what_differs_and_changes_nothing(
    room: Class, capsys: pytest.CaptureFixture
) -> None:
    settings = "import os; print(os.environ['COURSE_DATA'], os.environ['COURSE_PROGRESS'])"
    room.lesson("01_good", Same=f"{settings} -> standin off", Other=f"print({'1' * 200!r}) -> 2")
    room.lesson("02_quiet", Same="print(1) -> 1")
    before = room.bytes()
    assert rehearse([]) == 0
    assert room.bytes() == before
    said = capsys.readouterr().out
    assert "1 cell prints something else" in said
    assert "no cells print something else" in said
    assert "Other, cell [2]\n      stored: 2\n      here:   111" in said
    assert "look at 1 cell first" in said
    assert max(map(len, said.splitlines())) <= demo.WIDTH


@pytest.mark.slow
def test_a_lesson_of_the_instructors_own_is_only_run(room: Class, capsys: pytest.CaptureFixture) -> None:
    room.lesson("01_own", Some="print(1) -> 2")
    lessons.executed(room.notebooks / "01_own.ipynb").unlink()
    assert rehearse([]) == 0
    assert capsys.readouterr().out.endswith("\nReady.\n")


@pytest.mark.slow
def test_a_rehearsal_without_differences_is_ready(room: Class, capsys: pytest.CaptureFixture) -> None:
    room.lesson("01_good", Same="print(1) -> 1")
    room.lesson("02_bad", Bad="1 / 0 -> ")
    assert rehearse(["1"]) == 0
    assert capsys.readouterr().out.endswith("\nReady.\n")


@pytest.mark.slow
@pytest.mark.parametrize(("option", "data"), [((), "standin"), (("--real-data",), "here")])
def test_real_data_only_where_it_is_asked_for(
    room: Class,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    option: tuple[str, ...],
    data: str,
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "here"))
    source = "import os; print(os.path.basename(os.environ['COURSE_DATA']))"
    room.lesson("01_data", Data=f"{source} -> {data}")
    assert rehearse(list(option)) == 0
    assert "no cells print something else" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failed_lesson_is_shown_the_next_one_runs_and_the_class_cannot_begin(
    room: Class, capsys: pytest.CaptureFixture
) -> None:
    room.lesson("01_bad", Bad="1 / 0 -> never", After="print(2) -> never")
    room.lesson("02_good", Same="print(1) -> 1")
    assert rehearse([]) == 1
    said = capsys.readouterr().out
    assert "ZeroDivisionError: division by zero" in said
    assert "cell [2]" not in said
    assert "02_good" in said
    assert "NOT READY: 01_bad did not run to its end." in said


@pytest.mark.parametrize(
    ("findings", "code", "words"),
    [
        ([FINE[0], Finding("problem", "No disk.", "It is full.", "Free 9 GB.")], 1, "NOT READY: the doctor"),
        ([Finding("problem", "The driver is old.", fix="Update it."), FINE[1]], 0, "    To do: Update it."),
        ([Finding("note", "No GPU.", "Virtual ones."), FINE[1]], 0, "note: No GPU.\n    Virtual ones."),
        (FINE, 0, "2 of 2 checks are fine"),
    ],
)
def test_the_doctor_has_a_say(
    room: Class, capsys: pytest.CaptureFixture, findings: list[Finding], code: int, words: str
) -> None:
    room.findings = findings
    assert rehearse([]) == code
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        ("standin", 0, "Stand-in pictures, because"),
        ("empty", 0, "CIFAR-10 is not in"),
        ("missing", 1, "PROBLEM: COURSE_DATA names a folder that does not exist"),
        ("faulty", 1, "PROBLEM: In '"),
    ],
)
def test_the_pictures_have_a_say(
    room: Class,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    data: str,
    code: int,
    words: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "faulty" / "train" / "cats").mkdir(parents=True)
    monkeypatch.setenv("COURSE_DATA", data if data == "standin" else str(tmp_path / data))
    assert rehearse([]) == code
    assert words in capsys.readouterr().out


def test_a_damaged_stored_page_is_one_more_thing_to_look_at(
    room: Class, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    room.lesson("01_good", Same="print(1) -> 1")
    (room.notebooks / "executed" / "01_good.ipynb").write_text("<<<<<<< HEAD", encoding="utf-8")
    monkeypatch.setattr(demo, "attempt", lambda *_: (notebook(), "", 0.0))
    assert rehearse([]) == 0
    said = capsys.readouterr().out
    assert "stored: 01_good.ipynb is not a readable notebook: " in said
    assert "look at 1 cell first" in said


def test_ctrl_c_says_that_nothing_was_changed(
    room: Class, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    room.lesson("01_good", Same="print(1) -> 1")
    monkeypatch.setattr(demo, "attempt", stop)
    before = os.environ.copy(), room.bytes()
    assert rehearse([]) == 130
    assert (os.environ.copy(), room.bytes()) == before
    assert "No notebook and no progress was changed" in capsys.readouterr().out
