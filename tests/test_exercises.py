"""Every exercise of every lesson: right answers pass, and each usual mistake meets its own hint."""

import ast
import builtins
import dataclasses
import json
import symtable
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import exercise_cases
import pytest
import torch
from exercise_cases import exercises_of, lesson_of, right_answers, wrong_answers

import course_utils
from course_utils.exercises.exercise import NOT_ATTEMPTED, NOT_YET, RIGHT, Exercise, Verdict
from course_utils.exercises.lesson import USUAL
from course_utils.lessons import ROOT

FOLDER = ROOT / "course_utils" / "exercises"
LESSONS = sorted(path.stem.partition("_")[2] for path in FOLDER.glob("lesson_*.py"))


EVERY = [exercise for lesson in LESSONS for exercise in exercises_of(lesson)]
# trainings and processes take seconds for each answer
SLOW = set(
    "faster_epoch accumulate smallest_step careful_step ValidationLog fewest_operations "
    "small_talk accumulate_ddp exact_accuracy save_once".split()
)
each_exercise = pytest.mark.parametrize("exercise", EVERY, ids=lambda e: f"{e.lesson}-{e.name}")
each_judge = pytest.mark.parametrize(
    "exercise",
    [pytest.param(one, marks=[pytest.mark.slow] * (one.name in SLOW)) for one in EVERY],
    ids=lambda e: f"{e.lesson}-{e.name}",
)


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    monkeypatch.setenv("COURSE_DATA", "standin")
    monkeypatch.chdir(tmp_path)
    with course_utils.virtual_gpus(count=8, memory="2 GiB"):
        yield


def cells(lesson: str) -> list[dict[str, Any]]:
    """Return the cells of a lesson's notebook, their sources joined."""
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in found]


def namespace(lesson: str) -> dict[str, Any]:
    """Run what the answers of a lesson need."""
    made: dict[str, Any] = {"course_utils": course_utils, "exercise": None}
    exec(compile(exercise_cases.context(lesson), "context", "exec"), made)
    return made


def judge(exercise: Exercise, answer: str) -> Verdict:
    """Run an answer as the notebook's cell would, and return the verdict."""
    table = lesson_of(exercise.lesson).tables[exercise.name]
    if exercise.kind == "predict":
        return exercise.verdict(guessed(answer), table["right"])
    made = namespace(exercise.lesson)
    exec(compile(answer, f"answer to {exercise.name}", "exec"), made)
    found = eval(table.get("check", exercise.name), made)
    return exercise.verdict(*found if isinstance(found, tuple) else (found,))


def guessed(answer: str) -> Any:
    """Return what stands between the brackets of a guess."""
    value = ast.unparse(ast.parse(answer).body[-1].value.args[0])
    return ... if value == "..." else ast.literal_eval(value)


PREDICTIONS = [exercise for exercise in EVERY if exercise.kind == "predict"]
# how a hint begins that says what can be an answer at all, or that the judge raised
NO_ANSWER = ("Choose one of", "Answer with", "Give a number", "Guess a number", "Write a list", "Your code")


@pytest.mark.parametrize("exercise", PREDICTIONS, ids=lambda e: f"{e.lesson}-{e.name}")
def test_each_choice_of_a_prediction_can_be_meant(exercise: Exercise) -> None:
    actual = lesson_of(exercise.lesson).tables[exercise.name]["right"]
    choices = exercise.offered
    assert len(set(map(str, choices))) == len(choices) >= (5 if exercise.several else 3)
    right = guessed(exercise.worked)
    assert all(one in choices for one in right) if exercise.several else right in choices
    guesses = [[one] for one in choices] + [list(choices)] if exercise.several else choices
    verdicts = [exercise.verdict(guess, actual) for guess in guesses]
    assert not [verdict for verdict in verdicts if verdict.text.startswith(NO_ANSWER)]
    assert exercise.several or [verdict.outcome for verdict in verdicts].count(RIGHT) == 1


@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 8])
def test_the_right_split_is_among_the_choices_on_any_machine(gpus: int) -> None:
    first, last = (one for one in exercises_of("05") if one.name in ("first_split", "last_batch"))
    with course_utils.virtual_gpus(count=gpus):
        for exercise, batch in ((first, 30), (last, 10)):
            actual = [len(part) for part in torch.arange(batch).chunk(gpus)]
            choices = exercise.offered
            assert 3 <= len(choices) == len(set(map(str, choices)))
            verdicts = [exercise.verdict(choice, actual) for choice in choices]
            assert [verdict.outcome for verdict in verdicts].count(RIGHT) == 1
            assert not [verdict for verdict in verdicts if verdict.text.startswith(NO_ANSWER)]


def bound(table: symtable.SymbolTable) -> set[str]:
    """Return the names that code makes at its top level."""
    symbols = table.get_symbols()
    return {one.get_name() for one in symbols if one.is_assigned() or one.is_imported() or one.is_namespace()}


def wanted(table: symtable.SymbolTable) -> set[str]:
    """Return the names that code takes from outside."""
    own = {one.get_name() for one in table.get_symbols() if one.is_global() and one.is_referenced()}
    return own.union(*map(wanted, table.get_children())) - bound(table)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_worked_answer_needs_nothing_that_stands_below_it(lesson: str) -> None:
    known, missing = set(dir(builtins)), {}
    code = [cell for cell in cells(lesson) if cell["cell_type"] == "code"]
    for cell in [cell for cell in code if not cell["source"].startswith("%%writefile")]:
        for exercise in exercises_of(lesson):
            if f"exercise.{exercise.name}." in cell["source"]:
                missing[exercise.name] = wanted(symtable.symtable(exercise.worked, "answer", "exec")) - known
        known |= bound(symtable.symtable(cell["source"], "cell", "exec"))
    assert {name: names for name, names in missing.items() if names} == {}


def problems(exercise: Exercise) -> Iterator[str]:
    """Yield what is wrong with an exercise: nothing for a sound one."""
    for key, answer in wrong_answers(exercise):
        verdict = judge(exercise, answer)
        if (verdict.outcome, verdict.key) != (NOT_YET, key) or not verdict.text:
            yield f"the mistake {key!r} got {verdict}:\n{answer}"
    for answer in right_answers(exercise):
        verdict = judge(exercise, answer)
        if verdict.outcome != RIGHT or not verdict.text:
            yield f"a right answer got {verdict}:\n{answer}"
    verdict = judge(exercise, exercise.stub)
    if verdict.outcome != NOT_ATTEMPTED:
        yield f"the stub got {verdict}"


@each_judge
def test_answers_get_the_verdict_they_deserve(exercise: Exercise) -> None:
    assert list(problems(exercise)) == []
    known = {key for key, _ in wrong_answers(exercise)}
    table = lesson_of(exercise.lesson).tables[exercise.name]
    elsewhere = {
        key for key, one in table["mistakes"].items() if table.get("right") in one.get("guesses", ())
    }
    untried = set(table["mistakes"]) - known - set(USUAL["every"]["mistakes"]) - elsewhere
    assert not untried or "like" in table, "an answer for each thing that can be said"
    assert len(known - {"raises"}) >= 3, "three mistakes that people make, each with its own hint"
    another = len(right_answers(exercise)) > 1
    assert another or exercise.kind in ("predict", "myth"), "a right answer written differently"


@each_judge
def test_a_judge_that_accepts_everything_or_nothing_is_found(exercise: Exercise) -> None:
    for verdict in (Verdict(RIGHT, "Good."), Verdict(NOT_YET, "No.", "no")):
        assert next(problems(dataclasses.replace(exercise, judge=lambda *_, always=verdict: always)))


@pytest.mark.parametrize("exercise", PREDICTIONS, ids=lambda e: f"{e.lesson}-{e.name}")
def test_a_prediction_is_compared_once(exercise: Exercise) -> None:
    call = f"exercise.{exercise.name}.compare("
    assert sum(call in cell["source"] for cell in cells(exercise.lesson)) == 1


@each_exercise
def test_help_is_there(exercise: Exercise) -> None:
    assert exercise.question.endswith((".", "?")) or exercise.kind not in ("predict", "myth")
    assert exercise.reasoning
    assert exercise.why.endswith(".")
    assert len(exercise.hints) >= (1 if exercise.kind == "myth" else 2)
    assert 1 <= exercise.minutes <= 30


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_has_all_kinds_of_exercises(lesson: str) -> None:
    kinds = [exercise.kind for exercise in exercises_of(lesson)]
    assert len(kinds) >= 5
    assert "predict" in kinds
    assert {"write", "repair"} & set(kinds)
    assert kinds.count("challenge") == 1
    assert any("exercise.summary()" in cell["source"] for cell in cells(lesson))


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lessons_exercises_are_offered_by_tab(lesson: str) -> None:
    module = import_module(f"course_utils.exercises.lesson_{lesson}")
    assert set(lesson_of(lesson).exercises) <= set(dir(module))
