"""Lessons run in JupyterLab by Run All Cells: everything is drawn, and answers are given by keys alone.

By default one that asks in every way; with --everything all of them.
"""

import ast
import re
from collections.abc import Callable

import pytest
from exercise_cases import exercises_of
from nbformat import NotebookNode
from playwright.sync_api import expect
from test_exercises import LESSONS, guessed

import course_utils
from course_utils.exercises.exercise import NOT_YET, RIGHT, Exercise
from course_utils.lessons import lesson_paths

from . import measures
from .notebook_page import NotebookPage
from .test_pages import unreadable

pytestmark = pytest.mark.slow

NAMES = [path.stem for path in lesson_paths()]
BY_DEFAULT = "03"
WIDGET = "application/vnd.jupyter.widget-view+json"
NO_WIDGET = re.compile("(Error|Loading|could not be) (displaying|creating|displayed|widget)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the lessons."""
    everything = metafunc.config.option.everything
    names = [name for name in NAMES if everything or name.startswith(BY_DEFAULT)]
    metafunc.parametrize("lesson", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def lesson(request: pytest.FixtureRequest, open_lesson: Callable[[str, str], NotebookPage]) -> NotebookPage:
    """A reader's copy of a lesson after Run All Cells."""
    opened = open_lesson(request.param, "work")
    opened.run_all()
    return opened


def code_cells(lesson: NotebookPage) -> list[NotebookNode]:
    return [cell for cell in lesson.notebook.cells if cell.cell_type == "code"]


def cell_with(lesson: NotebookPage, text: str) -> str:
    """Return the id of the code cell with this text in it."""
    return next(cell.id for cell in code_cells(lesson) if text in cell.source)


def test_every_cell_runs(lesson: NotebookPage) -> None:
    cells = code_cells(lesson)
    failed = {
        name: f"{output['ename']}: {output['evalue']}"
        for name, outputs in lesson.measure(measures.OUTPUTS).items()
        for output in outputs
        if output["output_type"] == "error"
    }
    deliberate = {cell.id for cell in cells if "raises-exception" in cell.metadata.get("tags", [])}
    assert {name: text for name, text in failed.items() if name not in deliberate} == {}
    assert deliberate == set(failed)
    counts = lesson.measure(measures.COUNTS)
    assert [counts[cell.id] for cell in cells] == list(range(1, len(cells) + 1))


def test_its_pictures_are_drawn(lesson: NotebookPage) -> None:
    stored = {
        cell.id: sum(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {}))
        for cell in code_cells(lesson)
    }
    shown = lesson.measure(measures.SHOWN)
    missing = {name: shown[name] for name, count in stored.items() if shown[name]["pictures"] < count}
    assert missing == {}


def test_its_widgets_are_drawn(lesson: NotebookPage) -> None:
    outputs = lesson.measure(measures.OUTPUTS)
    expected = {name for name, found in outputs.items() if any(WIDGET in o.get("data", {}) for o in found)}
    for name in expected:
        expect(lesson.cell(name).locator(".jp-OutputArea-output .jupyter-widgets").first).to_be_visible()
    shown = lesson.measure(measures.SHOWN)
    assert {name: one["text"] for name, one in shown.items() if NO_WIDGET.search(one["text"])} == {}


def exercises_in(lesson: NotebookPage) -> list[Exercise]:
    """Return the exercises of a lesson; the start page has none."""
    return exercises_of(lesson.number) if lesson.number in LESSONS else []


def test_guesses_have_their_buttons(lesson: NotebookPage) -> None:
    shown = lesson.measure(measures.SHOWN)
    asking = {"predict": "guess", "myth": "check"}
    asked = [one for one in exercises_in(lesson) if one.kind in asking]
    with course_utils.virtual_gpus(count=8):  # as many as the page's kernel has
        expected = {one.name: list(map(str, one.offered)) for one in asked}
    found = {
        one.name: shown[cell_with(lesson, f"exercise.{one.name}.{asking[one.kind]}(")]["buttons"]
        for one in asked
    }
    assert found == expected


def right_labels(exercise: Exercise) -> list[str]:
    """Return the labels of the buttons to press for the worked answer."""
    guess = guessed(exercise.worked)
    return list(map(str, guess)) if exercise.several else [str(guess)]


def test_a_guess_is_taken_and_settled_by_keyboard(lesson: NotebookPage) -> None:
    """The cell that settles it is run again at the lesson's end, as by a reader who comes back."""
    first = {one.several: one for one in reversed(exercises_in(lesson)) if one.kind == "predict"}
    for exercise in first.values():
        guess_and_settle(lesson, exercise)


def guess_and_settle(lesson: NotebookPage, exercise: Exercise) -> None:
    lesson.select(cell_with(lesson, f"exercise.{exercise.name}.guess("))
    for label in right_labels(exercise):
        lesson.press_button(label)
    settled = cell_with(lesson, f"exercise.{exercise.name}.compare(")
    lesson.select(settled)
    lesson.run_selected(settled)
    expect(lesson.cell(settled).locator(".jp-OutputArea")).to_contain_text(RIGHT)


def test_a_myth_card_is_answered_by_keyboard(lesson: NotebookPage) -> None:
    for exercise in [one for one in exercises_in(lesson) if one.kind == "myth"][:1]:
        answer_twice(lesson, exercise)


def answer_twice(lesson: NotebookPage, exercise: Exercise) -> None:
    """By its buttons first, in writing afterwards; each verdict takes the place of the one before."""
    name = cell_with(lesson, f"exercise.{exercise.name}.check(")
    right = ast.literal_eval(ast.parse(exercise.worked).body[0].value)
    wrong_first = sorted(exercise.offered, key=right.__eq__)
    output = lesson.cell(name).locator(".jp-OutputArea")
    for answer in (
        lesson.press_button,
        lambda word: lesson.retype_first_line(name, f'{exercise.name} = "{word}"'),
    ):
        for word in wrong_first:
            lesson.select(name)
            answer(word)
            expect(output).to_contain_text(RIGHT if word == right else NOT_YET)
        expect(output).not_to_contain_text(NOT_YET)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_was_drawn_can_be_read(lesson: NotebookPage, dark: bool) -> None:
    lesson.theme(dark)
    assert unreadable(lesson) == ({}, {})


def test_the_page_complains_of_nothing(lesson: NotebookPage) -> None:
    """Last of all, after everything above was done with the lesson."""
    assert lesson.complaints == []
