"""Answers to the exercises: right ones, and the mistakes that people make.

The known mistakes stand with the exercises. In `lesson_NN.toml` here each exercise has

* right: other right answers than the worked one;
* wrong: pairs of a key and a wrong answer: of no known kind ("other", "raises"), or written in another way;

and the lesson, where needed, a context: more code that makes what the answers need. An answer is the code of
the cell, as a reader would type it.
"""

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from course_utils.exercises.exercise import Exercise
from course_utils.exercises.lesson import Lesson


def lesson_of(number: str) -> Lesson:
    """Return the exercises of a lesson, such as "05"."""
    return import_module(f"course_utils.exercises.lesson_{number}").lesson


def exercises_of(number: str) -> list[Exercise]:
    """Return a lesson's exercises in order."""
    return list(lesson_of(number).exercises.values())


def right_answers(exercise: Exercise) -> list[str]:
    """Return the worked answer and others."""
    return [exercise.worked, *_cases(exercise.lesson).get(exercise.name, {}).get("right", ())]


def wrong_answers(exercise: Exercise) -> list[tuple[str, str]]:
    """Return wrong answers, each with the key of what has to be said to it."""
    more = _cases(exercise.lesson).get(exercise.name, {}).get("wrong", ())
    return [*_known(exercise), *map(tuple, more)]


def context(number: str) -> str:
    """Return code that makes what the answers of a lesson need."""
    return lesson_of(number).context + _cases(number).get("context", "")


@cache
def _cases(number: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(f"lesson_{number}.toml").read_text(encoding="utf-8"))


def _known(exercise: Exercise) -> Iterator[tuple[str, str]]:
    """Yield the known mistakes as one would make them."""
    lesson, name = lesson_of(exercise.lesson), exercise.name
    table = lesson.tables[name]
    for key, mistake in table["mistakes"].items():
        guesses = [*mistake.get("guesses", ()), *([mistake["example"]] if "example" in mistake else ())]
        if table["kind"] == "myth" and guesses:
            yield key, f"{name} = {key!r}"
        elif guesses and guesses[0] != table["right"]:
            yield key, f"exercise.{name}.guess({guesses[0]!r})"
        elif code := lesson.code(name, key):
            yield key, code
    if table["kind"] == "myth":
        yield "form", f"{name} = 'no'"
    if table["kind"] == "predict":
        yield "form", f"exercise.{name}.guess('none of them')"
    for item in table.get("items", ()):  # the right selection but for this one
        selection = {str(choice) for choice in table["right"]} ^ {item}
        yield item, f"exercise.{name}.guess({sorted(selection)})"
