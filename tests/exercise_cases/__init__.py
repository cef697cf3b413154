"""Answers to the exercises: right ones, and the mistakes that people make.

The known mistakes stand in `course_utils/exercises/lesson_NN.toml`. One module per lesson has

* RIGHT: for each exercise other right answers than the worked one;
* CONTEXT: where needed, more code that makes what the answers need;
* WRONG: wrong ones that are not known, by the key of what is said to them: "other", "raises".

An answer is the code of the cell, as a reader would type it.
"""

from dataclasses import dataclass, field
from importlib import import_module

from course_utils.exercises.authored import Lesson
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
    if not (authored := _authored(lesson)):
        return Cases(module.CONTEXT, module.RIGHT, module.WRONG, getattr(module, "ACTUAL", {}))
    wrong = {name: _known(authored, name) for name in authored.tables}
    for name, answers in module.WRONG.items():
        wrong[name] |= answers
    actual = {name: repr(table.get("right")) for name, table in authored.tables.items()}
    return Cases(authored.context + getattr(module, "CONTEXT", ""), module.RIGHT, wrong, actual)


def exercises_of(lesson: str) -> list[Exercise]:
    """Return a lesson's exercises in order."""
    if authored := _authored(lesson):
        return list(authored.exercises.values())
    module = import_module(f"course_utils.exercises.lesson_{lesson}")
    return [value for value in vars(module).values() if isinstance(value, Exercise)]


def _authored(lesson: str) -> Lesson | None:
    return getattr(import_module(f"course_utils.exercises.lesson_{lesson}"), "lesson", None)


def _known(lesson: Lesson, name: str) -> dict[str, str]:
    """Return the code of an exercise's known mistakes, by their keys."""
    table = lesson.tables[name]
    codes = {key: lesson.code(name, key) for key in table["mistakes"]}
    if table["kind"] == "myth":
        codes |= {key: f"{name} = {key!r}" for key in ("true", "outdated", "false") if key in codes}
        codes["form"] = f"{name} = 'no'"
    if table["kind"] == "predict":
        codes["form"] = f"exercise.{name}.guess('none of them')"
        for key, mistake in table["mistakes"].items():
            guesses = [*mistake.get("guesses", ()), *([mistake["example"]] if "example" in mistake else ())]
            if guesses and guesses[0] != table["right"]:
                codes[key] = f"exercise.{name}.guess({guesses[0]!r})"
        for item in table.get("items", ()):  # the right selection but for this one
            right = {str(choice) for choice in table["right"]}
            codes[item] = f"exercise.{name}.guess({sorted(right ^ {item})})"
    return {key: code for key, code in codes.items() if code}
