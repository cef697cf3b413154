"""The reader's copies of the lessons: made, renewed, kept; a whole term of learning and updating."""

import json
from pathlib import Path

import pytest
from start import workspace
from start.workspace import refresh

from course_utils.data.files import RECORD
from course_utils.lessons import CourseError

NAME = "01_first.ipynb"


def notebook(*sources: str, **extra: object) -> str:
    """The text of a notebook with these code cells."""
    cells = [{"cell_type": "code", "source": [source], "outputs": [], **extra} for source in sources]
    return json.dumps({"cells": cells, "metadata": {}})


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of two lessons that nobody has opened yet."""
    (tmp_path / "notebooks").mkdir()
    for name in (NAME, "02_second.ipynb"):
        (tmp_path / "notebooks" / name).write_text(notebook("print(1)"), encoding="utf-8")
    (tmp_path / "notebooks" / "rise.css").write_text("p {}", encoding="utf-8")
    return tmp_path


def files(course: Path) -> dict[str, str]:
    """What lies in work/ for a reader to see."""
    folder = course / "work"
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name[0] != "."}


def update(course: Path, *sources: str) -> list[str]:
    """Publish a new version of the first lesson, then do what `lab` does."""
    (course / "notebooks" / NAME).write_text(notebook(*sources), encoding="utf-8")
    return refresh(course)


def answer(course: Path, text: str, name: str = NAME) -> None:
    """Write into a copy, as a reader does."""
    (course / "work" / name).write_text(text, encoding="utf-8")


def test_copies_are_made_once_and_told_once(course: Path) -> None:
    (told,) = refresh(course)
    assert told.endswith("copies that are yours to change.")
    assert set(files(course)) == {NAME, "02_second.ipynb", "rise.css"}
    assert refresh(course) == []


def test_a_deleted_copy_is_made_again(course: Path) -> None:
    refresh(course)
    (course / "work" / NAME).unlink()
    assert refresh(course) == []
    assert files(course)[NAME] == notebook("print(1)")


def test_a_lesson_that_was_only_run_is_renewed(course: Path) -> None:
    refresh(course)
    answer(course, notebook("print(1)", outputs=[{"text": "1"}], execution_count=3))
    assert update(course, "print(2)") == []
    assert files(course)[NAME] == notebook("print(2)")
    assert set(files(course)) == {NAME, "02_second.ipynb", "rise.css"}


@pytest.mark.parametrize("mine", [notebook("print(1) #"), notebook("print(1)", "x"), "<<<<<<< HEAD", "[]"])
def test_an_edited_lesson_is_kept_and_the_newer_one_lies_beside_it(course: Path, mine: str) -> None:
    refresh(course)
    answer(course, mine)
    assert refresh(course) == []  # nothing newer
    told = update(course, "print(2)")
    assert told == [f"work/{NAME} has changes of yours and stays. Newer: 01_first-new.ipynb"]
    assert files(course)[NAME] == mine
    assert files(course)["01_first-new.ipynb"] == notebook("print(2)")
    assert refresh(course) == []


def test_a_term_of_answers_and_updates_loses_nothing(course: Path) -> None:
    refresh(course)
    answer(course, notebook("first answer"))
    update(course, "print(2)")
    assert len(update(course, "print(3)")) == 1  # the one beside it was not edited: it is renewed
    assert files(course)["01_first-new.ipynb"] == notebook("print(3)")
    answer(course, notebook("second answer"), "01_first-new.ipynb")
    assert refresh(course) == []
    assert update(course, "print(4)") == [
        f"work/{NAME} has changes of yours and stays. Newer: 01_first-new-2.ipynb"
    ]
    kept = files(course)
    assert kept[NAME] == notebook("first answer")
    assert kept["01_first-new.ipynb"] == notebook("second answer")
    assert kept["01_first-new-2.ipynb"] == notebook("print(4)")


@pytest.mark.parametrize("record", [None, "{", "[1]"])
def test_without_a_record_nothing_is_overwritten(course: Path, record: str | None) -> None:
    refresh(course)
    answer(course, notebook("answer"))
    (course / "work" / RECORD).unlink()
    if record:
        answer(course, record, RECORD)
    refresh(course)
    assert files(course)[NAME] == notebook("answer")
    assert files(course)["01_first-new.ipynb"] == notebook("print(1)")
    assert "02_second-new.ipynb" not in files(course)


def test_what_was_solved_before_stays_known(course: Path) -> None:
    solved = course / "notebooks" / workspace.PROGRESS
    solved.write_text('{"01": ["a"]}', encoding="utf-8")
    refresh(course)
    assert files(course)[workspace.PROGRESS] == '{"01": ["a"]}'
    answer(course, '{"01": ["a", "b"]}', workspace.PROGRESS)
    refresh(course)
    assert files(course)[workspace.PROGRESS] == '{"01": ["a", "b"]}'


def test_a_folder_that_cannot_be_used_is_one_clear_line(course: Path) -> None:
    (course / "work").write_text("a file of the reader's", encoding="utf-8")
    with pytest.raises(CourseError, match=r"work cannot be used \(.+\)\. Lessons are learned in copies in"):
        refresh(course)
    assert (course / "work").read_text(encoding="utf-8") == "a file of the reader's"
