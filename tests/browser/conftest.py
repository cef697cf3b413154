"""One JupyterLab server and one Chromium for all tests in this folder."""

import re
from collections.abc import Callable, Generator, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from project import ROOT

from course_utils.lessons import lesson_paths

from .lab import CHROMIUM_FLAGS, NO_CHROMIUM, Lab, find_chromium, running_lab
from .notebook_page import NotebookPage

FAILURES = ROOT / "build" / "screenshots"
PATIENCE = 60_000  # milliseconds; a machine may have other work
LAPTOP = {"width": 1366, "height": 768}


# "package", not "session": while Playwright is in use, other tests cannot start asyncio's loop
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start a Chromium without a window."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = find_chromium(playwright.chromium.executable_path)
        if chromium is None:
            pytest.skip(NO_CHROMIUM)
        with playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS) as browser:
            yield browser


@pytest.fixture(scope="package")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start JupyterLab on a copy of the lessons; after `browser`, so that it starts only where one is."""
    with running_lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def new_page(browser: Browser, lab: Lab) -> Iterator[Callable[[], Page]]:
    """Make pages of a laptop's size, each with an empty profile; all are closed and all kernels ended."""
    contexts = []

    def make() -> Page:
        contexts.append(browser.new_context(viewport=LAPTOP, reduced_motion="reduce"))
        contexts[-1].set_default_timeout(PATIENCE)
        contexts[-1].route(lambda url: not url.startswith(lab.url), lambda route: route.abort())
        return contexts[-1].new_page()

    yield make
    for context in contexts:
        context.close()
    lab.stop_kernels()


@pytest.fixture(scope="module")
def open_lesson(new_page: Callable[[], Page], lab: Lab) -> Callable[[str, str], NotebookPage]:
    """Open a lesson in a folder, not run, with its kernel ready: `open_lesson("01", "work")`.

    All lessons of a module come one after the other in the same page.
    """
    page = new_page()

    def open_one(name: str, folder: str) -> NotebookPage:
        (path,) = (p for p in lesson_paths(lab.root) if p.name.startswith(name))
        lesson = NotebookPage(page, lab.root / folder / path.name, f"{folder}/{path.name}")
        lesson.open(lab)
        return lesson

    return open_one


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a picture of the page on which a test failed."""
    report = yield
    lesson = getattr(item, "funcargs", {}).get("lesson")
    if report.when == "call" and report.failed and isinstance(lesson, NotebookPage):
        FAILURES.mkdir(parents=True, exist_ok=True)
        lesson.page.screenshot(path=FAILURES / f"failed-{re.sub(r'[^0-9A-Za-z]+', '-', item.name)}.png")
    return report
