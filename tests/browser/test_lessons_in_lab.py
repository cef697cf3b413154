"""Each lesson in JupyterLab."""

from collections.abc import Callable

from .notebook_page import NotebookPage


def test_a_lesson_opens(open_lesson: Callable[[str], NotebookPage]) -> None:
    lesson = open_lesson("01")
    assert lesson.complaints == []
