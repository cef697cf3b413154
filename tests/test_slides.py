"""Slides: every lesson's cells and types follow the rule, and a deck needs nothing but its own folder."""

import sys
from copy import deepcopy
from pathlib import Path

import canonical
import nbformat
import pytest
import slideshow
from classroom import slides
from classroom.layout import CODE_COLUMNS, SLIDE_LINES, cell_height, text_height
from classroom.notes import read_notes
from classroom.slide_cells import deck_cells
from classroom.slide_types import write_types
from nbformat import NotebookNode
from project import lesson_paths
from start import cli

from course_utils.lessons import executed

EVERY_LESSON = pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)


def text(source: str, **metadata: object) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata=metadata)


def code(source: str, *outputs: NotebookNode, **metadata: object) -> NotebookNode:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def printed(*lines: str) -> NotebookNode:
    return nbformat.v4.new_output("stream", text="\n".join(lines))


def kinds(cells: list[NotebookNode]) -> list[str]:
    return [cell.metadata.get("slideshow", {}).get("slide_type", "") for cell in cells]


# --- the lessons ---


@EVERY_LESSON
def test_a_lesson_has_the_slide_types_of_the_rule(path: Path) -> None:
    cells = canonical.read(executed(path)).cells  # the rule leaves room for outputs
    expected = deepcopy(cells)
    for cell in expected:
        cell.metadata.pop("slideshow", None)
    write_types(expected)
    assert kinds(cells) == kinds(expected)
    assert kinds(cells)[0] == "slide"


@EVERY_LESSON
def test_every_cell_of_code_can_be_run_in_the_slides(path: Path) -> None:
    cells = canonical.read(path).cells
    hidden = [c.id for c, k in zip(cells, kinds(cells), strict=True) if k in ("skip", "notes")]
    assert [cell.id for cell in cells if cell.id in hidden and cell.cell_type == "code"] == []


@EVERY_LESSON
def test_every_note_of_the_guide_finds_its_section(path: Path) -> None:
    notes = read_notes(path.stem[:2])
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


PARAGRAPHS = [" ".join(["word"] * 100) + f" {n}." for n in range(6)]


@pytest.mark.parametrize(
    ("source", "pieces"),
    [
        ("It means this.\n\n## 2. Next\n\nText.", ["It means this.", "## 2. Next\n\nText."]),
        ("It means.\n\n**Before you run it:** what?", ["It means.", "**Before you run it:** what?"]),
        ("## 2. Next\n\nText.\n\n**Before you run it:** what?", None),
        ("See:\n\n- one\n\n```\n## no heading\n\nx = 1\n```", None),
        ("\n\n".join(PARAGRAPHS), ["\n\n".join(PARAGRAPHS[:3]), "\n\n".join(PARAGRAPHS[3:])]),
    ],
    ids=["heading", "question", "with its heading", "fence", "too high"],
)
def test_a_text_is_cut_to_one_idea(source: str, pieces: list[str] | None) -> None:
    cells = slideshow.cut([text("# Title"), text(source)])
    assert [cell.source for cell in cells[1:]] == (pieces or [source])
    assert "\n\n".join(cell.source for cell in cells[1:]) == source
    assert [c.source for c in slideshow.cut(deepcopy(cells))] == [c.source for c in cells]


def test_a_table_is_as_high_as_its_longest_cells() -> None:
    narrow, wide = ("| a | b |\n|---|---|\n| c | " + "word " * count + "|" for count in (5, 60))
    assert text_height(narrow) < 3 < text_height(wide) < 7


def test_a_line_too_long_counts_as_it_wraps() -> None:
    short, wide = (cell_height(code("x" * count)) for count in (CODE_COLUMNS, CODE_COLUMNS + 1))
    assert wide - short == pytest.approx(1)


# --- the decks ---

TALL = [printed(*["out"] * 15), printed(*["more"] * 15)]


def test_code_and_its_outputs_are_apart_and_none_is_lost() -> None:
    long = "\n\n".join(f"def f{n}():\n" + "    pass\n" * 8 for n in range(4))
    cells = deck_cells([text("# T"), text("**Before you run it:** what?"), code(long, *TALL)])
    assert all(cell_height(cell) <= SLIDE_LINES for cell in cells)
    assert "".join(c.source for c in cells[2:]).replace("\n", "") == long.replace("\n", "")
    assert [c.outputs[0].text[:4] for c in cells if c.get("outputs")] == ["out\n", "more"]
    assert len({cell.id for cell in cells}) == len(cells)


def test_a_function_too_long_for_a_slide_is_cut_in_equal_parts() -> None:
    cells = deck_cells([text("# T"), code("def f():  # noqa: F821\n" + "    pass\n" * 24)])
    assert [len(cell.source.splitlines()) for cell in cells[1:]] == [13, 12]
    assert "noqa" not in cells[1].source


def test_a_decorator_stays_above_its_function() -> None:
    cells = deck_cells([text("# T"), code(LONG + "\n\n\n@cached\ndef f():\n" + "    pass\n" * 9)])
    assert [cell.source.partition("\n")[0] for cell in cells[1:]] == ["row = 0", "@cached"]


@pytest.mark.parametrize(
    ("meaning", "expected"),
    [
        ("It means " + "this " * 80, ["slide", "", "subslide", "fragment"]),
        ("**Before you go on:** " + "why " * 80, ["slide", "", "fragment", "subslide"]),
    ],
    ids=["meaning", "question"],
)
def test_a_result_is_in_sight_while_it_is_explained(meaning: str, expected: list[str]) -> None:
    cells = deck_cells([text("# T"), code(LONG, printed("out", "out")), text(meaning)])
    assert kinds(cells) == expected


def test_the_code_stands_under_its_question_and_the_output_comes_after_it() -> None:
    cells = deck_cells([text("# T"), text("**Before you run it:** what?"), code("print(1)", printed("1"))])
    assert kinds(cells) == ["slide", "subslide", "", "fragment"]


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    rows = [f"row {n}" for n in range(60)]
    error = nbformat.v4.new_output("error", ename="E", evalue="", traceback=rows)
    shown = deck_cells([text("# T"), code("fail()", error)])[-1].outputs[0].traceback
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
    assert deck_cells([text(source)])[0].source == shown


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
    assert read_notes("01", guide) == {"": ["**Point:** one\n  on two lines"], "1": ["say this"]}
    assert read_notes("02", tmp_path / "missing.md") == {}
    assert slides.place_notes(small_lesson.cells, read_notes("02", guide)) == {"9"}
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
    assert "Not a directory" in error or "cannot find the path" in error
    assert error.endswith("Choose another folder with --output\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize("missing", ["nbconvert", "sphinx_revealjs"])
def test_a_missing_package_is_named(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("classroom.slides")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["slides", "1", "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"course_utils: {missing.replace('_', '-')} is not installed here. Run: ")
    assert error.count("\n") == 1
