"""Slides as an audience sees them: decks opened from a folder without a network, and a lesson shown live.

Pictures of the decks' slides go to build/screenshots/slides, where a person can look at them.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from classroom import slides
from classroom.slide_types import type_of
from playwright.sync_api import Browser, Page, TimeoutError, expect
from start.options import options_of
from start.workspace import FOLDER

from course_utils.lessons import ROOT, executed, lesson_paths

from .lab import TOKEN, Lab

pytestmark = pytest.mark.slow

PROJECTOR = {"width": 1280, "height": 720}
LARGE = {"width": 1920, "height": 1080}
READABLE = 24  # pixels, from the last row; what has to be small for its slide's sake:
SMALL = 19
SMALL_SLIDES = 0.1  # of a lesson's slides
SCREENSHOTS = ROOT / "build" / "screenshots" / "slides"

READY = "() => window.Reveal && Reveal.isReady()"
# Every slide with all its fragments: is anything cut off, and how small is its smallest text?
MEASURE = """() => Reveal.getSlides().map(slide => {
    const {h, v} = Reveal.getIndices(slide)
    Reveal.slide(h, v, 99)
    const texts = [...slide.querySelectorAll('p, li, td, pre')].filter(node => node.innerText.trim())
    const right = Math.max(0, ...[...slide.querySelectorAll('pre, table, img, p')].map(
        node => node.getBoundingClientRect().right))
    return {
        name: slide.querySelector('.jp-Cell').id,
        below: slide.scrollHeight - slide.clientHeight,
        beside: Math.round(right - innerWidth),
        size: Math.min(99, ...texts.map(node => parseFloat(getComputedStyle(node).fontSize))),
    }
})"""

# What stands on the slides, of this page or of the page whose source is given, without blanks and table heads
TEXT = """source => {
    const page = source ? new DOMParser().parseFromString(source, 'text/html') : document
    const text = selector => [...page.querySelectorAll(`.slides ${selector}`)].map(
        node => node.textContent).join('').replace(/\\s/g, '')
    return {prose: text('.jp-RenderedMarkdown :is(p, li)'), code: text('.jp-InputArea-editor pre'),
        print: text('.jp-OutputArea-output pre'), rows: text('tbody'), notes: text('aside.notes')}
}"""


LOADED = re.compile(
    r"<(?:script|link|img|iframe|source)[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*"
    r"|@import[^;]*//[^;]*|url\([\"']?(?:https?:)?//[^)]*",
    re.IGNORECASE,
)


def picture_file(name: str) -> Path:
    """Return where a screenshot goes."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS / name


@pytest.fixture(scope="module")
def decks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the decks of all lessons."""
    folder = tmp_path_factory.mktemp("decks")
    assert slides.main(**options_of("slides", ["--output", str(folder)])) == 0
    return folder


@pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)
def test_a_deck_shows_every_cell_and_names_no_address_to_load(path: Path, decks: Path) -> None:
    page = (decks / f"{path.stem}.html").read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    shown = [cell.id for cell in cells if cell.id != "setup" and f'id="cell-id={cell.id}"' not in page]
    assert shown == []
    assert LOADED.findall(page) == []
    assert page.count("<section>") == page.count("</section>")


def test_what_the_decks_load_lies_beside_them(decks: Path) -> None:
    for page in decks.glob("*.html"):
        html = page.read_text(encoding="utf-8")
        for name in re.findall(r'<(?:script|link)[^>]*(?:src|href)="([^"]+)"', html):
            assert (decks / name).is_file(), name
    for file in [*decks.glob("assets/*.css"), decks / "assets/deck.js"]:
        assert LOADED.findall(file.read_text(encoding="utf-8")) == []
    assert "reveal.js contributors" in (decks / "assets/LICENSE").read_text(encoding="utf-8")


def test_the_index_lists_every_deck(decks: Path) -> None:
    page = (decks / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<li><a href="([^"]+)\.html">', page) == [path.stem for path in lesson_paths()]


class Deck:
    """A deck in a page of its own that has no network."""

    def __init__(self, browser: Browser, file: Path) -> None:
        self.complaints: list[str] = []
        context = browser.new_context(viewport=PROJECTOR, offline=True, reduced_motion="reduce")
        context.route(re.compile("^(?!file:)"), lambda route: (self._asked(route.request.url), route.abort()))
        self.page = context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.wait_for_function(READY)

    def _asked(self, url: str) -> None:
        if not url.startswith(("data:", "blob:", "about:")):
            self.complaints.append(f"wants {url}")


@pytest.fixture(scope="module", params=[path.stem for path in lesson_paths()])
def deck(request: pytest.FixtureRequest, browser: Browser, decks: Path) -> Iterator[tuple[str, Deck]]:
    """A lesson's name and its deck."""
    opened = Deck(browser, decks / f"{request.param}.html")
    yield request.param, opened
    opened.page.context.close()


def test_a_deck_opens_without_a_network_and_loses_nothing(deck: tuple[str, Deck], decks: Path) -> None:
    name, shown = deck
    (path,) = (path for path in lesson_paths() if path.stem == name)
    cells = nbformat.read(executed(path), as_version=4).cells
    slides.prepare(cells)
    kinds = [type_of(cell) for cell in cells]
    assert shown.page.evaluate("Reveal.getHorizontalSlides().length") == kinds.count("slide")
    assert shown.page.evaluate("Reveal.getTotalSlides()") >= kinds.count("slide") + kinds.count("subslide")
    uncut = shown.page.evaluate(TEXT, (decks / f"{name}.html").read_text(encoding="utf-8"))
    for part, texts in shown.page.evaluate(TEXT, None).items():
        assert texts == uncut[part], part
    assert shown.complaints == []


def test_every_slide_of_a_deck_fits_and_can_be_read(deck: tuple[str, Deck]) -> None:
    name, shown = deck
    measured = shown.page.evaluate(MEASURE)
    assert [slide for slide in measured if slide["below"] > 0 or slide["beside"] > 0] == []
    assert [slide for slide in measured if slide["size"] < SMALL] == []
    # tables are 22 pixels high
    small = [slide["name"] for slide in measured if slide["size"] < READABLE - 2]
    assert len(small) <= max(3, SMALL_SLIDES * len(measured)), small  # setup and reports, in a short deck
    assert shown.complaints == []
    for column in range(4):
        shown.page.evaluate("column => Reveal.slide(column, 0, 99)", column)
        shown.page.screenshot(path=picture_file(f"{name}-{column}.png"))


def test_keys_move_through_a_deck(browser: Browser, decks: Path) -> None:
    page = Deck(browser, decks / f"{lesson_paths()[0].stem}.html").page
    page.evaluate("Reveal.slide(1, 0, 99)")
    for key, column in [("ArrowRight", 2), ("ArrowLeft", 1), ("Home", 0)]:
        page.keyboard.press(key)
        page.wait_for_function("column => Reveal.getState().indexh === column", arg=column)
    page.evaluate("Reveal.slide(0, 0, -1)")
    seen = set()
    while len(seen) < 400 and not page.evaluate("Reveal.isLastSlide()"):
        seen.add(page.evaluate("location.hash"))
        page.keyboard.press("Space")
    assert page.evaluate("Reveal.getSlidePastCount()") == page.evaluate("Reveal.getTotalSlides()") - 1
    page.context.close()


def test_the_speaker_sees_the_notes(deck: tuple[str, Deck]) -> None:
    name, shown = deck
    page = shown.page
    page.evaluate("Reveal.slide(0, 0)")
    note = page.evaluate("Reveal.getSlideNotes()")
    assert "Point:" in note
    page.evaluate("Reveal.slide(1, 0)")
    section = page.evaluate("Reveal.getSlideNotes() || document.querySelector('aside.notes').innerText")
    assert section != note
    with page.expect_popup() as opened:
        page.keyboard.press("s")
    speaker = opened.value
    expect(speaker.locator(".speaker-controls-notes .value")).not_to_be_empty()
    speaker.close()
    assert shown.complaints == [], name


def test_a_deck_fills_a_larger_projector(browser: Browser, decks: Path) -> None:
    shown = Deck(browser, decks / f"{lesson_paths()[0].stem}.html")
    shown.page.set_viewport_size(LARGE)
    shown.page.wait_for_function("Reveal.getScale() === 1.5")
    shown.page.context.close()


# --- live ---

PRESENT = ".reveal .slides section.present section.present"
PICTURE = f"{PRESENT} .jp-OutputArea-output img"
# where the first slide with a text is, as RISE writes it
PLACE = """text => [...document.querySelectorAll('.slides > section')].flatMap(
    (column, h) => [...column.querySelectorAll(':scope > section')].map((slide, v) => [slide, `${h}-${v}`])
).find(([slide]) => slide.textContent.includes(text))[1]"""
SIZES = """selector => [...document.querySelectorAll(selector)].map(
    node => parseFloat(getComputedStyle(node).fontSize))"""


@pytest.fixture(scope="module")
def live(browser: Browser, lab: Lab) -> Iterator[tuple[Page, list[str]]]:
    """A copy of lesson 01 as slides inside JupyterLab, its setup cell run, and its cells' slide types."""
    path = next(path for path in lesson_paths(lab.root) if path.name.startswith("01"))
    notebook = nbformat.read(path, as_version=4)
    context = browser.new_context(viewport=PROJECTOR, reduced_motion="reduce")
    context.route(lambda url: not url.startswith(lab.url), lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{lab.url}/rise/{FOLDER}/{path.name}?token={TOKEN}")
    page.locator(f"{PRESENT} h1").wait_for(timeout=60_000)
    move(page, "Space", "0-1")
    run_cell(page, "01_device_basics:")
    yield page, [cell.metadata.get("slideshow", {}).get("slide_type", "") for cell in notebook.cells]
    context.close()
    lab.stop_kernels()


def move(page: Page, key: str, slide: str) -> None:
    """Press a key until a slide is shown; RISE listens a moment after it shows the first one."""
    for _ in range(20):
        if page.evaluate("location.hash") == f"#/slide-{slide}":
            return
        page.keyboard.press(key)
        with suppress(TimeoutError):
            page.wait_for_function("slide => location.hash === `#/slide-${slide}`", arg=slide, timeout=1000)
    raise AssertionError(f"{key} does not lead to slide {slide}, but to {page.evaluate('location.hash')}")


def run_cell(page: Page, printed: str) -> None:
    """Run the code on the slide in front and wait for what it prints; then the keys are the slides' again."""
    page.locator(f"{PRESENT} .jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    expect(page.locator(f"{PRESENT} .jp-OutputArea-output").first).to_contain_text(printed, timeout=60_000)
    page.keyboard.press("Escape")


def test_live_slides_are_those_of_the_metadata(live: tuple[Page, list[str]]) -> None:
    page, kinds = live
    expect(page.locator(".reveal .slides > section")).to_have_count(kinds.count("slide"))
    expect(page.locator(".slides > section > section")).to_have_count(
        kinds.count("slide") + kinds.count("subslide")
    )


def test_a_lesson_runs_inside_its_live_slides(live: tuple[Page, list[str]]) -> None:
    page, _ = live
    move(page, "ArrowRight", "1-0")
    move(page, "Space", "1-1")
    run_cell(page, "x is on cpu")
    page.locator(PICTURE).wait_for()
    page.screenshot(path=picture_file("live.png"))
    box = page.locator(PICTURE).bounding_box()
    assert box["x"] + box["width"] <= PROJECTOR["width"]
    assert box["y"] + box["height"] <= PROJECTOR["height"]


def test_a_guess_is_asked_in_writing_in_live_slides(live: tuple[Page, list[str]]) -> None:
    page, _ = live  # RISE's page draws no widgets
    page.evaluate(
        "slide => { location.hash = `#/slide-${slide}` }", page.evaluate(PLACE, "who_notices.guess(")
    )
    expect(page.locator(PRESENT)).to_contain_text("who_notices.guess(")
    run_cell(page, "Write it between the brackets")


def test_live_slides_can_be_read_from_the_last_row(live: tuple[Page, list[str]]) -> None:
    page, _ = live
    parts = ("p", ".cm-line", ".jp-OutputArea-output pre")
    assert {part: min(page.evaluate(SIZES, f".slides {part}")) for part in parts} == dict.fromkeys(
        parts, READABLE
    )
    page.set_viewport_size(LARGE)
    larger = READABLE * LARGE["width"] / PROJECTOR["width"]
    page.wait_for_function(f"size => ({SIZES})('.slides p').every(own => own === size)", arg=larger)
    page.set_viewport_size(PROJECTOR)


def test_keys_move_through_live_slides(live: tuple[Page, list[str]]) -> None:
    page, _ = live
    page.evaluate("location.hash = '#/slide-1-0'")
    expect(page.locator(f"{PRESENT} h2")).to_contain_text("1. ")
    move(page, "Shift+Space", "0-0")
    for key, slide in [("ArrowRight", "1-0"), ("Space", "1-1"), ("Shift+Space", "1-0"), ("ArrowLeft", "0-0")]:
        move(page, key, slide)
