"""Answers to the exercises: right ones, and the mistakes that people make. One module per lesson.

Each module has

* CONTEXT: code that makes what the answers need, in the order of the notebook;
* RIGHT: for each exercise other right answers than the worked one;
* WRONG: for each exercise its wrong answers, by the key of the hint that must meet them;
* ACTUAL: for each prediction an expression for what really comes out.

An answer is the code of the cell, as a reader would type it.
"""

from dataclasses import dataclass, field
from importlib import import_module

from course_utils.exercises.engine import Exercise


@dataclass(frozen=True)
class Cases:
    """The answers to one lesson's exercises."""

    context: str
    right: dict[str, list[str]]
    wrong: dict[str, dict[str, str]]
    actual: dict[str, str] = field(default_factory=dict)


def load(lesson: str) -> Cases:
    """Return the answers to the exercises of a lesson, such as "05"."""
    module = import_module(f"{__package__}.lesson_{lesson}")
    return Cases(module.CONTEXT, module.RIGHT, module.WRONG, getattr(module, "ACTUAL", {}))


def exercises_of(lesson: str) -> list[Exercise]:
    """Return a lesson's exercises in order."""
    module = import_module(f"course_utils.exercises.lesson_{lesson}")
    return [value for value in vars(module).values() if isinstance(value, Exercise)]
