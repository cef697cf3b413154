"""How exercises speak: a framed box in a notebook, plain lines in a terminal.

The box takes its colours from the page, so it is readable on light and dark; words carry the meaning.
"""

import html
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
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
        parts += [f"<p style='margin:4px 0'>{_marked(text)}</p>" for text in self.paragraphs if text]
        if self.code:
            parts.append(f"<pre style='margin:6px 0;overflow-x:auto'>{html.escape(self.code)}</pre>")
        if self.below:
            parts.append(f"<small>{html.escape(self.below)}</small>")
        return f"<div style='{BOX}'>{''.join(parts)}</div>"


def _marked(text: str) -> str:
    """Return a text as HTML, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _in_notebook() -> bool:
    """Tell whether a kernel runs this, as it does in a notebook."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython() if ipython else None, "kernel")


def show(page: Page) -> None:
    """Display a message in a notebook, print it elsewhere."""
    if not _in_notebook():
        return print(page)
    from IPython.display import display

    display(page)


def ask(
    question: Page,
    written: Page,
    choices: Sequence[Any],
    answer: Callable[[Any], Page],
    several: bool = False,
) -> bool:
    """Show a question with a button for each choice; return False where widgets do not work.

    COURSE_WIDGETS=off switches the buttons off.

    Args:
        question: shown above the buttons.
        written: the same in writing, for where cells run but no widgets are drawn, as in the live slides.
        choices: one for each button.
        answer: gets the choice, or `...` for none, and returns what to show below the buttons.
        several: whether any number may be chosen; `answer` then gets the list of them.
    """
    if not _in_notebook() or os.environ.get("COURSE_WIDGETS") == "off":
        return False
    try:
        from ipywidgets import HTML, VBox
    except ImportError:
        return False
    from IPython.display import display

    class Asked(VBox):
        def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
            return super()._repr_mimebundle_(**options) | {"text/html": written._repr_html_()}

    def in_lines(page: Page) -> str:  # as close as in other outputs
        return f"<div style='line-height:1.5'>{page._repr_html_()}</div>"

    reply = HTML()

    def pressed(value: Any) -> None:
        page = answer(value)
        reply.value = "" if value is ... else in_lines(page)

    buttons = _buttons(question.title, choices, pressed, several)
    display(Asked([HTML(in_lines(question)), buttons, reply]))
    return True


def _buttons(title: str, choices: Sequence[Any], pressed: Callable[[Any], None], several: bool) -> Any:
    """Return a row of buttons, each named by its choice."""
    from ipywidgets import HBox, ToggleButton, ToggleButtons

    labels = [str(choice) for choice in choices]
    tips = [f"{title}: {label}" for label in labels]
    if not several:
        options = list(zip(labels, choices, strict=True))
        row = ToggleButtons(options=options, value=None, tooltips=tips, style={"button_width": "auto"})
        row.observe(lambda change: pressed(change["new"]), names="value")
        return row
    buttons = [
        ToggleButton(description=label, tooltip=tip, layout={"width": "auto"})
        for label, tip in zip(labels, tips, strict=True)
    ]

    def toggled(_: Any) -> None:
        on = [choice for choice, button in zip(choices, buttons, strict=True) if button.value]
        pressed(on or ...)

    for button in buttons:
        button.observe(toggled, names="value")
    return HBox(buttons, layout={"flex_flow": "row wrap"})
