"""Each lesson in JupyterLab: it runs, answers, fits the screen, leads on; see also build/screenshots."""

import ast
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nbformat import NotebookNode
from playwright.sync_api import expect
from project import ROOT
from test_exercises import LESSONS as WITH_EXERCISES
from test_exercises import exercises_of, right_guess

import course_utils
from course_utils.exercises.engine import NOT_YET, RIGHT, Exercise
from course_utils.lessons import lesson_paths

from . import measures
from .conftest import LAPTOP
from .lab import Lab
from .notebook_page import NotebookPage

NAMES = [path.stem for path in lesson_paths()]
PREDICTING = [name for name in NAMES if name[:2] in WITH_EXERCISES]
# A projector shows 1920x1080; enlarged to 150% for the last row, a page has this much room.
SIZES = {"laptop": LAPTOP, "projector": {"width": 1280, "height": 720}}
SHEET = 6000  # height in pixels of one picture of a whole lesson
READABLE = 4.5  # contrast of text, level AA of WCAG 2.2
SCREENSHOTS = ROOT / "build" / "screenshots"
WIDGET = "application/vnd.jupyter.widget-view+json"
NO_WIDGET = re.compile("(Error|Loading|could not be) (displaying|creating|displayed|widget)")


@pytest.fixture(scope="module", params=NAMES)
def lesson(
    request: pytest.FixtureRequest, open_lesson: Callable[[str], NotebookPage], lab: Lab
) -> Iterator[NotebookPage]:
    """A lesson after Run All Cells, in the light theme and at a laptop's size; one run for all its tests."""
    notebook = open_lesson(request.param)
    notebook.theme(dark=False)
    notebook.run_all()
    yield notebook
    notebook.page.context.close()
    lab.stop_kernels()


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
    sliders = [cell.id for cell in code_cells(lesson) if "interactive(" in cell.source]
    assert [name for name in sliders if not (shown[name]["sliders"] and shown[name]["pictures"])] == []


@pytest.mark.parametrize("lesson", PREDICTING, indirect=True)
def test_guesses_have_their_buttons(lesson: NotebookPage) -> None:
    shown = lesson.measure(measures.SHOWN)
    asking = {"predict": "guess", "myth": "check"}
    asked = [one for one in exercises_of(lesson.number) if one.kind in asking]
    with course_utils.virtual_gpus(count=8):  # as many as the page's kernel has
        expected = {one.name: list(map(str, one.offered)) for one in asked}
    found = {
        one.name: shown[cell_with(lesson, f"exercise.{one.name}.{asking[one.kind]}(")]["buttons"]
        for one in asked
    }
    assert found == expected


def right_labels(exercise: Exercise) -> list[str]:
    """Return the labels of the buttons to press for the worked answer."""
    guess = right_guess(exercise)
    return list(map(str, guess)) if exercise.several else [str(guess)]


@pytest.mark.parametrize("lesson", PREDICTING, indirect=True)
def test_a_guess_is_taken_and_settled_by_keyboard(lesson: NotebookPage) -> None:
    """The cell that settles it is run again at the lesson's end, as by a reader who comes back."""
    first = {one.several: one for one in reversed(exercises_of(lesson.number)) if one.kind == "predict"}
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


@pytest.mark.parametrize("lesson", PREDICTING, indirect=True)
def test_a_myth_card_is_answered_by_keyboard(lesson: NotebookPage) -> None:
    """By its buttons first, in writing afterwards; each verdict takes the place of the one before."""
    exercise = next(one for one in exercises_of(lesson.number) if one.kind == "myth")
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


def test_what_is_read_fits_on_a_laptop(lesson: NotebookPage) -> None:
    """No text and no code of one cell is higher than the area that scrolls; outputs may be."""
    heights = lesson.measure(measures.HEIGHTS)
    assert {name: (height, room) for name, (height, room) in heights.items() if height > room} == {}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_can_be_read(lesson: NotebookPage, size: str, dark: bool) -> None:
    """Nothing is cut off at the side and all text of ours stands out; then pictures are taken."""
    lesson.resize(**SIZES[size])
    lesson.theme(dark)
    try:
        cut_off = {name: texts for name, texts in lesson.measure(measures.CUT_OFF).items() if texts}
        faint = {name: low for name, low in lesson.measure(measures.CONTRAST).items() if low[0] < READABLE}
        take_pictures(lesson, SCREENSHOTS, f"{lesson.path.stem}-{size}-{'dark' if dark else 'light'}")
    finally:
        lesson.theme(dark=False)
        lesson.resize(**LAPTOP)
    assert (cut_off, faint) == ({}, {})


def take_pictures(lesson: NotebookPage, folder: Path, name: str) -> None:
    """On a projector one screen from the middle, on a laptop the whole lesson in tall sheets."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}-*.jpg"):
        old.unlink()
    size = lesson.page.viewport_size
    if "laptop" in name:
        lesson.resize(size["width"], SHEET)
    for number, _ in enumerate(lesson.scroll_through(whole="laptop" in name), start=1):
        lesson.page.screenshot(path=folder / f"{name}-{number}.jpg", type="jpeg", quality=85)
    lesson.resize(**size)


def headings(lesson: NotebookPage) -> list[str]:
    """Return the headings of the text cells as they read on the page."""
    script = "nodes => nodes.map(node => node.textContent.replace('¶', '').trim())"
    cells = lesson.cells.locator(".jp-RenderedMarkdown :is(h1, h2, h3, h4)")
    return cells.evaluate_all(script)


def test_its_headings_are_in_the_table_of_contents(lesson: NotebookPage) -> None:
    lesson.command("toc:show-panel")
    entries = lesson.page.locator(".jp-TableOfContents .jp-tocItem-content")
    expect(entries.first).to_be_visible()
    expected = headings(lesson)
    assert len(expected) > 5
    expect(entries).to_have_text(expected)


def relative_links(lesson: NotebookPage) -> list[str]:
    texts = [cell.source for cell in lesson.notebook.cells if cell.cell_type == "markdown"]
    found = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", "\n".join(texts))
    return list(dict.fromkeys(found))


def test_its_links_open_other_lessons(lesson: NotebookPage) -> None:
    opened = {}
    for target in relative_links(lesson):
        lesson.follow_link(target)
        opened[target] = lesson.current_path()
        lesson.come_back()
    assert opened == {target: posixpath.normpath(f"notebooks/{target}") for target in opened}
    assert opened or lesson.path.stem == NAMES[-1]


def test_the_page_complains_of_nothing(lesson: NotebookPage) -> None:
    """Last of all, after everything above was done with the lesson."""
    assert lesson.complaints == []
