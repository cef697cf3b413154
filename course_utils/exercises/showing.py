"""How exercises speak: a framed box in a notebook, plain lines in a terminal.

The box takes its colours from the page, so it is readable on light and dark; words carry the meaning.
"""

import html
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MARKS = {"Right": "✓", "Not right yet": "✗", "Not attempted yet": "…"}
BOX = "border:1px solid currentColor;border-left-width:6px;border-radius:4px;padding:8px 12px;max-width:46em"


@dataclass(frozen=True)
class Page:
    """One message: a title, paragraphs, code, and a small line below."""

    title: str
    paragraphs: list[str]
    below: str = ""
    code: str = ""

    def __repr__(self) -> str:
        """Return the message for a terminal."""
        mark = MARKS.get(self.title)
        lines = [f"[{mark}] {self.title}" if mark else self.title]
        for paragraph in self.paragraphs:
            lines += textwrap.wrap(paragraph, 96, initial_indent="    ", subsequent_indent="    ")
        if self.code:
            lines += ["", textwrap.indent(self.code, "    "), ""]
        return "\n".join([*lines, *([f"    ({self.below})"] if self.below else [])])

    def _repr_html_(self) -> str:
        """Return the message for a notebook."""
        mark = MARKS.get(self.title)
        parts = [f"<strong>{mark + ' ' if mark else ''}{html.escape(self.title)}</strong>"]
        parts += [f"<p style='margin:4px 0'>{html.escape(text)}</p>" for text in self.paragraphs if text]
        if self.code:
            parts.append(f"<pre style='margin:6px 0;overflow-x:auto'>{html.escape(self.code)}</pre>")
        if self.below:
            parts.append(f"<small>{html.escape(self.below)}</small>")
        return f"<div style='{BOX}'>{''.join(parts)}</div>"


def show(page: Page) -> None:
    """Display a message in a notebook, print it elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and type(shell).__name__ != "TerminalInteractiveShell":
        from IPython.display import display

        display(page)
    else:
        print(page)


def ask(page: Page, choices: tuple[Any, ...], choose: Callable[[Any], None]) -> bool:
    """Show a button for each choice, which calls `choose` with it; return False where widgets do not work.

    `page` asks the same in writing, the question first. It is shown where cells run but no widgets are drawn,
    as in the live slides. COURSE_WIDGETS=off switches the buttons off.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel") or os.environ.get("COURSE_WIDGETS") == "off":
        return False
    try:
        from ipywidgets import HTML, ToggleButtons, VBox
    except ImportError:
        return False
    from IPython.display import display

    class Asked(VBox):
        def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
            return super()._repr_mimebundle_(**options) | {"text/html": page._repr_html_()}

    options = [(str(choice), choice) for choice in choices]
    buttons = ToggleButtons(options=options, value=None, style={"button_width": "auto"})
    buttons.observe(lambda change: choose(change["new"]), names="value")
    question = html.escape(page.paragraphs[0])
    display(Asked([HTML(f"<strong>{page.title}</strong><br>{question}"), buttons]))
    return True
