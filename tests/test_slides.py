"""Slides: which cells share one, what a deck leaves out, where the speaker's notes go."""

import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest
from authors import canonical
from classroom import slides
from classroom.slide_types import CODE_COLUMNS, PICTURE_LINES, lines_of, type_of, write_types
from nbformat import NotebookNode
from start import cli

from course_utils.lessons import CourseError, lesson_paths

EVERY_LESSON = pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)


def text(source: str, **metadata: object) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata=metadata)


def code(source: str, *outputs: NotebookNode, **metadata: object) -> NotebookNode:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def printed(*lines: str) -> NotebookNode:
    return nbformat.v4.new_output("stream", text="\n".join(lines))


def kinds(cells: Sequence[NotebookNode]) -> list[str]:
    return [type_of(cell) for cell in cells]


# --- the lessons ---


@EVERY_LESSON
def test_every_cell_of_code_can_be_run_in_the_slides(path: Path) -> None:
    cells = canonical.read(path).cells
    hidden = [c.id for c, k in zip(cells, kinds(cells), strict=True) if k in ("skip", "notes")]
    assert [cell.id for cell in cells if cell.id in hidden and cell.cell_type == "code"] == []


@EVERY_LESSON
def test_every_note_of_the_guide_finds_its_section(path: Path) -> None:
    notes = slides.read_notes(path.stem[:2])
    assert notes
    assert slides.place_notes(canonical.read(path).cells, notes) == set()


# --- the rule ---

LONG = "\n".join(f"row = {n}" for n in range(15))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([text("# Title"), code("setup()")], ["slide", "fragment"]),
        ([text("# T"), text("## 1. One\n\nIt is."), text("### Exercise")], ["slide", "slide", "subslide"]),
        ([text("# T"), text("## 1. One"), text("### Exercise")], ["slide", "slide", ""]),
        ([text("# T"), code("1"), text("It means..."), code("2")], ["slide", *["fragment"] * 3]),
        ([text("# T"), code("1"), text("**Before you run it:** what?")], ["slide", "fragment", "subslide"]),
        ([text("# T"), text("More."), code("exercise.x.check(...)")], ["slide", "", ""]),
        ([text("# T"), code(LONG), code(LONG)], ["slide", "fragment", "subslide"]),
        ([text("# T"), code("1", tags=["slideshow-subslide"])], ["slide", "subslide"]),
        ([text("# T"), text("Aside.", tags=["slideshow-notes"]), code("1")], ["slide", "notes", "fragment"]),
        ([text("# T"), code("1", tags=["slideshow-continue"])], ["slide", ""]),
    ],
    ids=["setup", "headings", "alone", "steps", "question", "belongs", "no room", "tag", "notes", "continue"],
)
def test_rule(cells: list[NotebookNode], expected: list[str]) -> None:
    write_types(cells)
    assert kinds(cells) == expected


def test_a_cell_is_as_high_as_what_it_wraps_and_shows() -> None:
    short, wide = (lines_of(code("x" * count)) for count in (CODE_COLUMNS, 3 * CODE_COLUMNS))
    assert wide - short == pytest.approx(2)
    picture = nbformat.v4.new_output("display_data", data={"image/png": "aGk=", "text/plain": "<Figure>"})
    assert lines_of(code("x", printed("a", "b"), picture)) == lines_of(code("x")) + 2 + PICTURE_LINES


# --- the decks ---


def deck_cells(*cells: NotebookNode) -> list[NotebookNode]:
    slides.prepare(cells)
    return cells


def test_a_deck_leaves_it_to_the_page_where_a_slide_is_full() -> None:
    cells = deck_cells(text("# T"), code(LONG), code(f"{LONG}  # noqa: F821"), text("It means..."))
    assert kinds(cells) == ["slide", "", "fragment", "fragment"]
    assert "noqa" not in cells[2].source


def test_what_no_audience_needs_is_left_out() -> None:
    setup = code("start()", printed("ready"))
    setup.id = "setup"
    verdict = nbformat.v4.new_output("display_data", data={"text/html": "<p>Not yet.</p>"})
    cells = deck_cells(text("# T"), setup, code("exercise.x.check(...)", verdict, printed("1")))
    assert (kinds(cells)[1], cells[1].metadata["tags"]) == ("", [slides.HIDDEN])
    assert [output.output_type for output in cells[2].outputs] == ["stream"]


def test_the_code_stands_under_its_question_and_the_output_comes_after_it() -> None:
    cells = deck_cells(text("# T"), text("**Before you run it:** what?"), code("print(1)", printed("1")))
    assert kinds(cells) == ["slide", "subslide", ""]  # the output is a fragment by the template


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    rows = [f"row {n}" for n in range(60)]
    error = nbformat.v4.new_output("error", ename="E", evalue="", traceback=rows)
    shown = deck_cells(text("# T"), code("fail()", error))[-1].outputs[0].traceback
    assert (shown[0], shown[-1]) == ("row 0", "row 59")
    assert f"{60 - len(shown) + 1} lines that this slide leaves out" in "\n".join(shown)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("[![Open in Colab](https://a.b/c.svg)](https://a.b)\n\nText", "Text"),
        ("![a map](https://a.b/map.png)", "a map"),
        ("[lesson 05](05_data_parallel.ipynb#x)", "[lesson 05](05_data_parallel.html)"),
        ("[page](../README.md) and [above](#Here)", "page and above"),
        ("[docs](https://docs.pytorch.org)", "[docs](https://docs.pytorch.org)"),
    ],
)
def test_a_deck_leads_to_decks_and_loads_nothing(source: str, shown: str) -> None:
    assert deck_cells(text(source))[0].source == shown


# --- the notes ---

GUIDE = """# Guide

### Lesson 01: First

- **Point:** one
  on two lines
- **Section 1:** say this

### Lesson 02: Second

- **Section "Adding numbers":** say that
- **Section 9:** a section that is not there

## Other things

- **Point:** no lesson's
"""


def test_notes_come_from_the_guide_and_none_is_lost(small_lesson: NotebookNode, tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(GUIDE, encoding="utf-8")
    assert slides.read_notes("01", guide) == {"": ["**Point:** one\n  on two lines"], "1": ["say this"]}
    assert slides.read_notes("02", tmp_path / "missing.md") == {}
    guide.write_bytes(guide.read_bytes() + b"\xe4")  # an editor's other encoding
    assert slides.place_notes(small_lesson.cells, slides.read_notes("02", guide)) == {"9"}
    head, _, section, _ = small_lesson.cells
    assert section.metadata["speaker_notes"] == "<p>say that</p>\n"
    assert "a section that is not there" in head.metadata["speaker_notes"]


# --- what can go wrong ---


def test_an_unknown_lesson_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["slides", "99"]) == 1
    assert capsys.readouterr().err.startswith("course_utils: no lesson '99'. The lessons: 0")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert cli.main(["slides", "1", "--output", str(file / "slides")]) == 1
    error = capsys.readouterr().err
    assert f"cannot write {file / 'slides'}: " in error
    assert "Not a directory" in error or "cannot find the path" in error
    assert error.endswith("Choose another folder with --output\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["<<<<<<< HEAD", "[1]", '{"cells": [], "metadata": {}, "nbformat": 4}'])
def test_a_damaged_lesson_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "01_first.ipynb").write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match=r"^01_first\.ipynb is not a readable notebook: .+$"):
        slides.build([tmp_path / "01_first.ipynb"], tmp_path / "slides")


def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("classroom.slides")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    assert cli.main(["slides", "1", "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("course_utils: nbconvert is not installed here. Run: ")
    assert error.count("\n") == 1
