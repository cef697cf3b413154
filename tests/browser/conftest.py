"""One JupyterLab server and one Chromium for all tests in this folder."""

import re
from collections.abc import Callable, Generator, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from course_utils.lessons import ROOT, lesson_paths

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


@pytest.fixture(scope="package")
def page(browser: Browser) -> Iterator[Page]:
    """A page of a laptop's size, in which one lesson is opened after the other: JupyterLab is loaded once."""
    with browser.new_context(viewport=LAPTOP, reduced_motion="reduce") as context:
        context.set_default_timeout(PATIENCE)
        yield context.new_page()


@pytest.fixture(scope="module")
def open_lesson(page: Page, lab: Lab) -> Iterator[Callable[[str, str], NotebookPage]]:
    """Open a lesson in a folder, not run, with its kernel ready, in place of another.

    For example `open_lesson("01", "work")`.
    """
    opened = []

    def close_all() -> None:
        while opened:
            opened.pop().close()
        lab.stop_kernels()

    def open_one(name: str, folder: str) -> NotebookPage:
        close_all()
        (path,) = (p for p in lesson_paths(lab.root) if p.name.startswith(name))
        opened.append(NotebookPage(page, lab.root / folder / path.name, f"{folder}/{path.name}"))
        opened[0].open(lab)
        return opened[0]

    yield open_one
    close_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a picture of the page on which a test failed."""
    report = yield
    lesson = getattr(item, "funcargs", {}).get("lesson")
    if report.when == "call" and report.failed and isinstance(lesson, NotebookPage):
        FAILURES.mkdir(parents=True, exist_ok=True)
        lesson.page.screenshot(path=FAILURES / f"failed-{re.sub(r'[^0-9A-Za-z]+', '-', item.name)}.png")
    return report
