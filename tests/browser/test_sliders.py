"""Sliders: every one that a lesson has draws its picture anew when it is moved, by keys alone."""

import re
from collections.abc import Callable

import pytest
from authors import canonical
from playwright.sync_api import expect

from course_utils.lessons import lesson_paths

from .notebook_page import NotebookPage

pytestmark = pytest.mark.slow

WITH_SLIDERS = [
    (path.name[:2], cell.id)
    for path in lesson_paths()
    for cell in canonical.read(path).cells
    if "interactive(" in cell.source
]


@pytest.mark.parametrize(("number", "cell"), WITH_SLIDERS)
def test_a_moved_slider_draws_anew(
    number: str, cell: str, open_lesson: Callable[[str, str], NotebookPage]
) -> None:
    lesson = open_lesson(number, "work")
    lesson.select(cell)
    lesson.command("notebook:run-all-above")
    lesson.select(cell)
    lesson.run_selected(cell)
    output = lesson.cell(cell).locator(".jp-OutputArea-output")
    picture, handles = output.locator("img"), output.locator(".noUi-handle")
    expect(handles).not_to_have_count(0)
    for handle in handles.all():
        before = picture.get_attribute("src")
        handle.press("ArrowRight")
        expect(picture).not_to_have_attribute("src", re.compile(re.escape(before)))


def test_there_are_sliders() -> None:
    assert WITH_SLIDERS
