"""A lesson in a JupyterLab page: what a reader does with it, in words."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from playwright.sync_api import ConsoleMessage, Error, Locator, Page, expect

from .lab import Lab

PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
OPEN_SECONDS, RUN_SECONDS = 120, 600
TABS = 40  # more than there are from a cell to the last of its buttons
# The kernel is connected and says that it is idle, and no cell waits or runs. (The page alone says "idle"
# before there is a kernel, and Run All then does nothing.)
_QUIET = """panel => {
    const prompts = [...document.querySelectorAll(`${panel} .jp-CodeCell .jp-InputPrompt`)]
    const context = window.jupyterapp?.shell.currentWidget?.sessionContext
    return context?.isReady && context.session?.kernel?.status === 'idle'
        && !prompts.some(node => node.innerText.includes('*'))
}"""
# ... and the last code cell has its number, or one without the tag for it has failed. (At a deliberate error
# the cells that wait lose their stars, and run all the same.)
_ALL_RAN = f"""panel => {{
    const all = window.jupyterapp.shell.currentWidget.content.widgets
    const cells = all.filter(cell => cell.model.type === 'code')
    const failed = cell => cell.outputArea.model.toJSON().some(output => output.output_type === 'error')
        && !(cell.model.getMetadata('tags') || []).includes('raises-exception')
    return (cells.at(-1).model.executionCount || cells.some(failed)) && ({_QUIET})(panel)
}}"""
# the file in the tab in front
_PATH = "() => jupyterapp.shell.currentWidget?.context?.path"
# nothing was changed, so that JupyterLab does not ask whether to save it
_FORGET = """() => {
    for (const tab of jupyterapp.shell.widgets('main'))
        if (tab.context) tab.context.model.dirty = false
}"""

# JupyterLab has laid itself out anew for the window's size
_FILLS = """panel => {
    const {right, bottom} = document.querySelector(`${panel} .jp-WindowedPanel-outer`).getBoundingClientRect()
    const near = (edge, window) => edge <= window && edge > window - 60
    return near(right, innerWidth) && near(bottom, innerHeight)
}"""


class NotebookPage:
    """One notebook in one page.

    Attributes:
        page: Playwright's page.
        notebook: the notebook as it is on disk, with its stored outputs.
        address: its path as the server has it.
        complaints: what the page wrote to the browser's console as an error, so far.
    """

    def __init__(self, page: Page, path: Path, address: str) -> None:
        self.page, self.path, self.address = page, path, address
        self.notebook: NotebookNode = nbformat.read(path, as_version=4)
        self.complaints: list[str] = []
        page.on("console", self._listen)
        page.on("pageerror", self._note)

    def _note(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _listen(self, message: ConsoleMessage) -> None:
        url = message.location.get("url", "")
        elsewhere = url.startswith("http") and not url.startswith("http://localhost:")  # a badge, say
        if message.type == "error" and not elsewhere:
            self.complaints.append(f"{message.text} ({url})")

    @property
    def number(self) -> str:
        """Return the lesson's number, such as "03"."""
        return self.path.name[:2]

    # ---- what a reader does -------------------------------------------------------------------------
    def open(self, lab: Lab) -> None:
        """Open the notebook, and JupyterLab first where there is none; wait for its cells and its kernel."""
        if self.page.url.startswith(lab.url):
            self.command("docmanager:open", path=self.address)
        else:
            self.page.goto(lab.link(self.address))
        self.cell(len(self.notebook.cells) - 1).wait_for(timeout=OPEN_SECONDS * 1000)
        self.wait_until_quiet(OPEN_SECONDS)

    def close(self) -> None:
        """Close all tabs without saving; the page goes on with another lesson, in the light theme."""
        self.page.evaluate(_FORGET)
        self.command("application:close-all")
        self.theme(dark=False)
        self.page.remove_listener("console", self._listen)
        self.page.remove_listener("pageerror", self._note)

    def run_all(self) -> None:
        """Run every cell by the menu and wait until the last has run, or one has failed."""
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function(_ALL_RAN, arg=PANEL, timeout=RUN_SECONDS * 1000)

    def wait_until_quiet(self, seconds: float = RUN_SECONDS) -> None:
        """Wait until no cell is running and the kernel is idle."""
        self.page.wait_for_function(_QUIET, arg=PANEL, timeout=seconds * 1000)

    def menu(self, *names: str) -> None:
        """Choose from the menu bar."""
        for name in names:
            self.page.get_by_role("menuitem", name=name, exact=True).click()

    def command(self, name: str, **arguments: object) -> None:
        """Run one of JupyterLab's commands by its name, as the command palette does."""
        # what it returns, such as a whole tab, stays there
        script = "async ([name, args]) => { await jupyterapp.commands.execute(name, args) }"
        self.page.evaluate(script, [name, arguments])

    def theme(self, dark: bool) -> None:
        """Choose the light or the dark theme and wait until it is there."""
        name = f"JupyterLab {'Dark' if dark else 'Light'}"
        self.command("apputils:change-theme", theme=name)
        self.page.locator(f"body[data-jp-theme-name='{name}']").wait_for(state="attached")

    def follow_link(self, target: str) -> None:
        """Click the first link to a file, written as in the lesson, and wait for the tab that it opens."""
        link = self.cells.locator(f".jp-RenderedMarkdown a[href*='/{target}']")
        here = self.current_path()
        link.first.click()
        self.page.wait_for_function(f"here => ({_PATH})() !== here", arg=here)

    def links(self) -> list[str]:
        """Return the files that the lesson's links lead to, as the server has them."""
        addresses = self.cells.locator(".jp-RenderedMarkdown a[href*='/files/']").evaluate_all(
            "links => links.map(link => decodeURIComponent(new URL(link.href).pathname))"
        )
        return [address.partition("/files/")[2] for address in addresses]

    def current_path(self) -> str:
        """Return the path of the file in the tab in front."""
        return self.page.evaluate(_PATH)

    def scroll_through(self, *, whole: bool) -> Iterator[None]:
        """Scroll the lesson by a screen at a time, or to its middle only, and stop at each place."""
        area = self.page.locator(f"{PANEL} .jp-WindowedPanel-outer")
        height, screen = area.evaluate("node => [node.scrollHeight, node.clientHeight]")
        for top in range(0, height, screen) if whole else [height // 2]:
            area.evaluate("(node, top) => node.scrollTo(0, top)", top)
            yield

    def resize(self, width: int, height: int) -> None:
        """Give the window another size in pixels and wait until the notebook fills it."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_function(_FILLS, arg=PANEL)

    # ---- what it shows ------------------------------------------------------------------------------
    @property
    def cells(self) -> Locator:
        """Return all cells, in order."""
        return self.page.locator(f"{PANEL} .jp-Notebook .jp-Cell")

    def cell(self, which: int | str) -> Locator:
        """Return a cell by its place in the notebook or by its id."""
        if isinstance(which, str):
            which = [cell.id for cell in self.notebook.cells].index(which)
        return self.cells.nth(which)

    def prompt(self, which: int | str) -> str:
        """Return what stands left of a code cell, such as "[3]:"."""
        return self.cell(which).locator(".jp-InputPrompt").inner_text()

    def measure(self, script: str) -> dict[str, Any]:
        """Run one of the scripts of `measures`; what it returns for each cell goes by the cell's id."""
        values = self.page.evaluate(script, PANEL)
        return dict(zip((cell.id for cell in self.notebook.cells), values, strict=True))

    # ---- keyboard only ------------------------------------------------------------------------------
    def select(self, which: int | str) -> Locator:
        """Make a cell the active one, in command mode, as the arrow keys do; return it."""
        index = which if isinstance(which, int) else [cell.id for cell in self.notebook.cells].index(which)
        script = """index => {
            const {content} = jupyterapp.shell.currentWidget
            document.activeElement?.blur()  // a button in an output would take Enter for itself
            content.deselectAll()
            content.activeCellIndex = index
            content.mode = 'command'
            content.activate()
        }"""
        self.page.evaluate(script, index)
        cell = self.cell(index)
        self.page.locator(f"{PANEL} .jp-Notebook .jp-mod-active").and_(cell).wait_for()
        cell.scroll_into_view_if_needed()
        return cell

    def press_button(self, label: str) -> None:
        """Go with Tab from the active cell to one of its output's buttons, and press it with Space."""
        for _ in range(TABS):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement.innerText").strip() == label:
                break
        else:
            raise AssertionError(f"no button {label!r} within {TABS} tabs")
        self.page.keyboard.press("Space")
        expect(self.page.locator(":focus")).to_have_class(re.compile("mod-active"))

    def retype_first_line(self, which: int | str, line: str) -> None:
        """Put another first line into a code cell and run it, all by keyboard."""
        self.select(which)
        self.page.keyboard.press("Enter")
        expect(self.page.locator(f"{PANEL} .jp-Notebook")).to_have_class(re.compile("jp-mod-editMode"))
        for key in ("Control+Home", "Shift+End"):
            self.page.keyboard.press(key)
        self.page.keyboard.type(line)
        self.run_selected(which)

    def run_selected(self, which: int | str) -> None:
        """Run the code cell that is selected with Ctrl+Enter, and wait for its end."""
        before = self.prompt(which)
        self.page.keyboard.press("Control+Enter")
        expect(self.cell(which).locator(".jp-InputPrompt")).not_to_have_text(before)
        self.wait_until_quiet()
