"""Exercises as their reader meets them: outcomes, help, guesses, progress, and how it all looks."""

import html
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from course_utils.exercises import progress, showing
from course_utils.exercises.exercise import NOT_ATTEMPTED, NOT_YET, RIGHT, Exercise
from course_utils.exercises.lesson import Lesson
from course_utils.exercises.trying import Score
from course_utils.lessons import ROOT

STUB = """
def double(x):
    ...
"""
TOML = """
[double]
title = "twice as much"
kind = "write"
minutes = 3
text = "Double it."
stub = '''
def double(x):
    ...
'''
worked = '''
def double(x):
    return 2 * x
'''
reasoning = "Because."
hints = ["One.", "Two."]
why = "Good."
mistakes.square = { say = "That is the square.", change = [["2 * x", "x * x"]] }
mistakes.other = "It does not double."

[sizes]
title = "how many?"
kind = "predict"
text = "Guess."
question = "How many rows?"
right = [4, 2]
choices = [[3, 3], [4, 2], [1]]
reasoning = "Because."
hints = ["One.", "Two."]
why = "Good."
mistakes.even = { guesses = [[3, 3]], say = "That would be even." }

[card]
title = "all true?"
kind = "myth"
claim = "All is true."
text = ""
right = "false"
why = "It is false."
mistakes.true = "No."
mistakes.outdated = "Never was."
"""


@pytest.fixture
def exercise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A lesson of one exercise to write, one prediction and one myth; progress goes to a file in tmp_path."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "lesson_99.toml").write_text(TOML)
    made = Lesson("99", tmp_path / "texts")

    @made.trial([(3,), (5,)])
    def double(answer: Any, x: int) -> int:
        return answer(x)

    monkeypatch.setattr(progress, "_session", {})
    monkeypatch.setattr(progress, "_told", False)
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    return SimpleNamespace(**made.exercises, summary=made.summary)


def made(source: str) -> object:
    space: dict[str, object] = {}
    exec(source, space)
    return space["double"]


def test_three_outcomes(exercise):
    double: Exercise = exercise.double
    assert double.verdict(made(STUB)).outcome == NOT_ATTEMPTED
    assert double.verdict(None).outcome == double.verdict(...).outcome == NOT_ATTEMPTED
    verdict = double.verdict(lambda x: x * x)
    assert (verdict.outcome, verdict.key, verdict.text) == (NOT_YET, "square", "That is the square.")
    assert double.verdict(lambda x: x + x).outcome == RIGHT


def test_a_stub_is_recognised_by_what_it_does_not_by_its_name(exercise):
    changed = "def double(x):\n    '''Mine.'''\n    return None"
    assert exercise.double.verdict(made(changed)).outcome == NOT_YET
    assert exercise.double.verdict(made("# a comment\ndef double(x):\n\n    ...")).outcome == NOT_ATTEMPTED


def test_an_error_in_the_readers_code_is_told_and_not_raised(exercise):
    verdict = exercise.double.verdict(lambda x: x["a"])
    assert (verdict.outcome, verdict.key) == (NOT_YET, "raises")
    assert "TypeError" in verdict.text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit(0), "Your code raised SystemExit"),
        (KeyboardInterrupt(), "It was stopped while your code was tried: KeyboardInterrupt"),
    ],
)
def test_an_answer_that_leaves_or_is_stopped_stops_no_run(exercise, error, said):
    def double(x):
        raise error

    verdict = exercise.double.verdict(double)
    assert verdict.outcome == NOT_YET
    assert verdict.text.startswith(f'{said} in the line "raise error"')


def test_the_line_that_raised_is_the_readers_own(exercise):
    import torch

    @torch.no_grad()
    def double(x):
        return x.missing

    assert 'in the line "return x.missing"' in exercise.double.verdict(double).text


def test_check_shows_outcome_and_progress(exercise, capsys):
    exercise.double.check(made(STUB))
    exercise.double.check(lambda x: 0)
    exercise.double.check(lambda x: 2 * x)
    text = capsys.readouterr().out
    for part in ("[…] Not attempted yet", "[✗] Not right yet", "It does not double.", "[✓] Right"):
        assert part in text
    assert "Lesson 99: 1 of 3 done." in text
    assert "exercise.double.hint()" in text


def test_hints_grow_and_the_solution_has_reasons(exercise, capsys):
    for _ in range(3):
        exercise.double.hint()
    exercise.double.solution()
    text = capsys.readouterr().out
    assert text.index("One.") < text.index("Two.") < text.index("Because.")
    assert "return 2 * x" in text


def test_predict_then_run(exercise, capsys):
    exercise.sizes.guess(...)
    exercise.sizes.compare([4, 2])
    assert "It came out as [4, 2]" in capsys.readouterr().out
    exercise.sizes.guess([3, 3])
    exercise.sizes.compare([4, 2])
    assert "That would be even." in capsys.readouterr().out
    exercise.sizes.guess([4, 2])
    exercise.sizes.compare([4, 2])
    assert "Right" in capsys.readouterr().out


def test_myth_cards(exercise):
    assert exercise.card.verdict("False").outcome == RIGHT
    assert exercise.card.verdict("true").key == "true"
    assert exercise.card.verdict(False).key == "form"
    assert exercise.card.verdict(...).outcome == NOT_ATTEMPTED


def test_progress_is_kept_in_a_file(exercise, tmp_path, monkeypatch, capsys):
    exercise.double.check(lambda x: 2 * x)
    assert json.loads((tmp_path / "progress.json").read_text()) == {"99": ["double"]}
    monkeypatch.setattr(progress, "_session", {})  # another kernel
    exercise.card.check("false")
    assert "Lesson 99: 2 of 3 done." in capsys.readouterr().out
    exercise.sizes.guess([1])
    exercise.sizes.compare([1])
    assert "Lesson 99: 3 of 3 done, all." in capsys.readouterr().out
    exercise.summary()
    assert capsys.readouterr().out.count("[x]") == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"99": 3}', '{"99": "abc"}'])
def test_a_damaged_file_is_told_once_and_left_alone(exercise, tmp_path, capsys, content):
    path = tmp_path / "progress.json"
    path.write_text(content)
    exercise.double.check(lambda x: 2 * x)
    exercise.card.check("false")
    text = capsys.readouterr().out
    assert text.count("is damaged") == 1
    assert "Lesson 99: 2 of 3 done." in text
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_told_once(exercise, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "no folder" / "progress.json"))
    exercise.double.check(lambda x: 2 * x)
    exercise.card.check("false")
    text = capsys.readouterr().out
    assert text.count("cannot be written") == 1
    assert "Lesson 99: 2 of 3 done." in text


def test_in_colab_progress_lives_for_the_session(exercise, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.chdir(tmp_path)
    exercise.double.check(lambda x: 2 * x)
    assert "this session only" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


def test_a_score_stands_beside_par():
    assert str(Score(10.0, "MiB", 12.0)) == "Score: 10 MiB; par is 12, reached."
    assert str(Score(1.5, "times as fast", 2.0, lower=False)) == "Score: 1.5 times as fast; par is 2."
    assert str(Score(6401.0, "launches", 999.9)) == "Score: 6,401 launches; par is 1,000."


def test_the_box_takes_the_pages_colours_and_escapes_code():
    page = showing.Page("Right", ["a < b with `c`"], "below", code="x = '<b>'")._repr_html_()
    assert "currentColor" in page
    assert "a &lt; b with <code>c</code>" in page
    assert "&lt;b&gt;" in page
    assert "#" not in page.replace("&#x27;", "")


class Kernel:
    """An IPython shell inside a notebook's kernel."""

    kernel = object()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed in a notebook where widgets work."""
    found: list[Any] = []
    monkeypatch.setattr("IPython.get_ipython", Kernel)
    monkeypatch.setattr("IPython.display.display", found.append)
    monkeypatch.delenv("COURSE_WIDGETS", raising=False)
    return found


def without_widgets(box: Any) -> str:
    """Return the words of a box where it is shown without widgets."""
    return html.unescape(box._repr_mimebundle_()["text/html"])


def test_choices_are_buttons_where_widgets_work(exercise, shown):
    exercise.sizes.choices = ("added", "averaged")
    exercise.sizes.guess(...)
    (box,) = shown
    question, buttons, reply = box.children
    assert "How many rows?" in question.value
    assert [label for label, _ in buttons.options] == ["added", "averaged"]
    assert buttons.tooltips == ("Your guess: added", "Your guess: averaged")
    assert "'added' or 'averaged'" in without_widgets(box)
    assert reply.value == ""
    for choice in ("added", "averaged"):
        buttons.value = choice
        assert f"Noted: '{choice}'" in html.unescape(reply.value)
    exercise.sizes.compare("averaged")
    assert shown[-1].title == RIGHT


def test_several_may_be_chosen(exercise, shown):
    sizes = exercise.sizes
    sizes.choices, sizes.several = (4, 3, 2), True
    exercise.sizes.guess(...)
    (box,) = shown
    question, row, reply = box.children
    assert "Choose all that apply." in question.value
    assert "Write a list of them" in without_widgets(box)
    assert [(one.description, one.value) for one in row.children] == [
        ("4", False),
        ("3", False),
        ("2", False),
    ]
    four, three, two = row.children
    for button in (two, three, four):
        button.value = True
    assert "Noted: [4, 3, 2]" in reply.value
    three.value = False
    exercise.sizes.compare([4, 2])
    assert shown[-1].title == RIGHT
    four.value = two.value = False
    assert reply.value == ""
    exercise.sizes.compare([4, 2])
    assert shown[-1].title == NOT_ATTEMPTED


def test_choices_may_depend_on_the_machine(exercise, shown):
    found = []
    exercise.sizes.choices = lambda: tuple(found)
    found.append([30])
    exercise.sizes.guess(...)
    assert shown[-1].children[1].options == (("[30]", [30]),)


def test_a_myth_card_is_answered_by_its_buttons(exercise, shown, tmp_path):
    exercise.card.check(...)
    (box,) = shown
    question, buttons, reply = box.children
    assert "All is true." in question.value
    assert [label for label, _ in buttons.options] == ["true", "outdated", "false"]
    assert NOT_ATTEMPTED in without_widgets(box)
    assert "Fill the gap" in without_widgets(box)
    buttons.value = "outdated"
    for part in (NOT_YET, "Never was.", "Lesson 99: 0 of 3 done.", "exercise.card.hint()"):
        assert part in reply.value
    buttons.value = "false"
    assert NOT_YET not in reply.value
    for part in (RIGHT, "It is false.", "Lesson 99: 1 of 3 done."):
        assert part in reply.value
    assert json.loads((tmp_path / "progress.json").read_text()) == {"99": ["card"]}
    exercise.card.check("false")
    assert shown[-1].title == RIGHT
    exercise.double.check(made(STUB))
    assert shown[-1].title == NOT_ATTEMPTED


def test_what_a_button_has_to_tell_of_progress_is_in_its_own_box(exercise, shown, monkeypatch, tmp_path):
    """What is displayed while a callback runs reaches nobody."""
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "no folder" / "progress.json"))
    exercise.card.check(...)
    (box,) = shown
    box.children[1].value = "false"
    assert "cannot be written" in box.children[2].value
    assert shown == [box]


@pytest.mark.parametrize("why", ["off", "not installed", "no notebook"])
def test_choices_are_text_where_they_do_not(exercise, monkeypatch, capsys, why):
    if why != "no notebook":
        monkeypatch.setattr("IPython.get_ipython", Kernel)
    monkeypatch.setattr("IPython.display.display", lambda page: print(page))
    monkeypatch.setenv("COURSE_WIDGETS", "off" if why == "off" else "")
    if why == "not installed":
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    exercise.sizes.choices = ("added", "averaged")
    exercise.sizes.guess(...)
    assert "'added' or 'averaged'" in capsys.readouterr().out
    exercise.card.check(...)
    assert capsys.readouterr().out == (
        "[…] Not attempted yet\n    Fill the gap and run this cell again.\n"
        "    (Lesson 99: 0 of 3 done. Help: exercise.card.hint())\n"
    )


def test_the_exercise_that_authors_are_shown_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "adding_an_exercise.md").read_text(encoding="utf-8")
    text, trial = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL)[1] for kind in ("toml", "python"))
    (tmp_path / "lesson_99.toml").write_text(text, encoding="utf-8")
    lesson = Lesson("99", tmp_path)
    exec(trial, {"lesson": lesson})
    exercise = lesson.exercises["per_gpu"]
    assert exercise.verdict(lambda rows, gpus: (rows + gpus - 1) // gpus).outcome == RIGHT
    for key in ("floor", "one_more"):
        verdict = exercise.verdict(*lesson.answers("per_gpu", lesson.code("per_gpu", key)))
        assert (verdict.outcome, verdict.key) == (NOT_YET, key)
    other = exercise.verdict(lambda rows, gpus: rows)
    assert other.text == "10 rows on 4 GPUs: you say 10, and it is 3."
