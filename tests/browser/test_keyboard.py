"""A lesson without a mouse: from its first cell to a guess and its answer, by keys alone."""

import re
from collections.abc import Callable

import pytest
from exercise_cases import exercises_of
from playwright.sync_api import expect

from course_utils.exercises.exercise import RIGHT

from .notebook_page import NotebookPage
from .test_running import cell_with, right_labels

pytestmark = pytest.mark.slow

LESSON = "03"  # its first guess comes early


def go(lesson: NotebookPage, key: str, place: int) -> None:
    """Press a key and see that it makes the cell at `place` the active one."""
    lesson.page.keyboard.press(key)
    expect(lesson.cell(place)).to_have_class(re.compile(r"\bjp-mod-active\b"))


def test_a_reader_without_a_mouse_comes_to_a_guess_and_makes_it(
    open_lesson: Callable[[str, str], NotebookPage],
) -> None:
    lesson = open_lesson(LESSON, "work")
    exercise = next(one for one in exercises_of(LESSON) if one.kind == "predict")
    names = [cell.id for cell in lesson.notebook.cells]
    guess, settled = (
        names.index(cell_with(lesson, f"exercise.{exercise.name}.{call}(")) for call in ("guess", "compare")
    )
    for place in range(guess + 1):
        go(lesson, "Shift+Enter", place + 1)
    lesson.wait_until_quiet()
    go(lesson, "ArrowUp", guess)
    for label in right_labels(exercise):
        lesson.press_button(label)
    go(lesson, "ArrowDown", guess + 1)
    for place in range(guess + 1, settled + 1):
        go(lesson, "Shift+Enter", place + 1)
    expect(lesson.cell(settled).locator(".jp-OutputArea")).to_contain_text(RIGHT)
