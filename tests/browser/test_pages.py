"""Each lesson as a page in JupyterLab, with the outputs that are stored: it fits the screen, and leads on.

With --everything the pictures of all pages go to build/screenshots, light and dark.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from course_utils.lessons import ROOT, lesson_paths

from . import measures
from .conftest import LAPTOP
from .notebook_page import NotebookPage

pytestmark = pytest.mark.slow

NAMES = [path.stem for path in lesson_paths()]
# A projector shows 1920x1080; enlarged to 150% for the last row, a page has this much room.
SIZES = {"laptop": LAPTOP, "projector": {"width": 1280, "height": 720}}
SHEET = 6000  # height in pixels of one picture of a whole lesson
READABLE = 4.5  # contrast of text, level AA of WCAG 2.2
SCREENSHOTS = ROOT / "build" / "screenshots"


@pytest.fixture(scope="module", params=NAMES)
def lesson(request: pytest.FixtureRequest, open_lesson: Callable[[str, str], NotebookPage]) -> NotebookPage:
    """A lesson as it is stored, in the light theme and at a laptop's size."""
    return open_lesson(request.param, "notebooks/executed")


def test_what_is_read_fits_on_a_laptop(lesson: NotebookPage) -> None:
    """No text and no code of one cell is higher than the area that scrolls; outputs may be."""
    heights = lesson.measure(measures.HEIGHTS)
    assert {name: (height, room) for name, (height, room) in heights.items() if height > room} == {}


@pytest.mark.parametrize(("size", "dark"), [("projector", False), ("laptop", False), ("laptop", True)])
def test_it_can_be_read(lesson: NotebookPage, size: str, dark: bool, request: pytest.FixtureRequest) -> None:
    lesson.resize(**SIZES[size])
    lesson.theme(dark)
    found = unreadable(lesson)
    if request.config.option.everything:
        take_pictures(lesson, SCREENSHOTS, f"{lesson.path.stem}-{size}-{'dark' if dark else 'light'}")
    lesson.resize(**LAPTOP)
    assert found == ({}, {})


def unreadable(lesson: NotebookPage) -> tuple[dict, dict]:
    """Return the cells with something cut off at the side, and those with a text that hardly stands out."""
    cut_off = {name: texts for name, texts in lesson.measure(measures.CUT_OFF).items() if texts}
    faint = {name: low for name, low in lesson.measure(measures.CONTRAST).items() if low[0] < READABLE}
    return cut_off, faint


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
    assert len(expected) > 4
    expect(entries).to_have_text(expected)
    lesson.command("filebrowser:activate")  # in its place: it would be made anew for every cell of the next


def relative_links(lesson: NotebookPage) -> list[str]:
    texts = [cell.source for cell in lesson.notebook.cells if cell.cell_type == "markdown"]
    return re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", "\n".join(texts))


def test_its_links_lead_to_files_beside_it(lesson: NotebookPage) -> None:
    expected = [posixpath.normpath(f"notebooks/executed/{target}") for target in relative_links(lesson)]
    assert lesson.links() == expected
    assert expected or lesson.path.stem == NAMES[-1]


def test_the_page_complains_of_nothing(lesson: NotebookPage) -> None:
    """Last of all, after everything above was done with the lesson."""
    assert lesson.complaints == []


def test_a_link_opens_another_lesson(open_lesson: Callable[[str, str], NotebookPage]) -> None:
    """One for all: JupyterLab opens them, as long as they lead to the right files."""
    opened = open_lesson(NAMES[0], "notebooks/executed")
    opened.follow_link(f"{NAMES[1]}.ipynb")
    opened.wait_until_quiet()
    assert opened.current_path() == f"notebooks/executed/{NAMES[1]}.ipynb"
