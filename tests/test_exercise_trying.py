"""Trials, known mistakes as oracles, and how guesses are read."""

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from course_utils.exercises.guessing import judge_guess, read_guess
from course_utils.exercises.trying import Mistake, Seen, Trial, same

WRONG = {
    "double": lambda x: 2 * x,  # right for 2
    "late": lambda x: x + 2 if x == 2 else 0,
    "fails": lambda x: print(warnings.warn("aloud", stacklevel=1)) or [][x],
}


def judge(answer: Any, observe: Callable[..., Any] = lambda answer, x: answer(x)) -> tuple[Seen, Seen]:
    """Judge a function that should add 2, tried with 2 and 3."""
    wrong = {key: lambda one=one: (one,) for key, one in WRONG.items()}
    return Trial(observe, [(2,), (3,)]).judge((answer,), lambda: (lambda x: x + 2,), wrong)


@pytest.mark.parametrize(
    ("answer", "key", "text"),
    [
        (lambda x: x + x, "double", "3 gives 6, not 5"),
        (lambda x: (4, 0)[x - 2], "late", "3 gives 0, not 5"),
        (lambda x: 0, "other", "2 gives 0, not 4"),  # not late: it is wrong for 2 already
        (lambda x: (4, 7)[x - 2], "other", "3 gives 7, not 5"),
        (lambda x: [][1], "fails", "2 gives list index out of range, not 4"),
    ],
)
def test_a_mistake_is_known_by_where_and_how_it_first_goes_wrong(answer: Any, key: str, text: str) -> None:
    with pytest.raises(Mistake, match=key) as found:
        judge(answer)
    assert "{x} gives {seen}, not {best}".format_map(found.value.facts) == text


def test_of_known_mistakes_nothing_is_heard(
    capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(Mistake, match="other"):
        judge(lambda x: print("mine") or 0)
    assert capsys.readouterr().out == "mine\n"
    assert not recwarn


def test_an_error_of_no_known_mistake_is_the_readers() -> None:
    with pytest.raises(ZeroDivisionError):
        judge(lambda x: 1 / 0)


def test_a_trial_can_name_a_mistake_and_tell_about_it() -> None:
    def observe(answer: Any, x: int) -> int:
        raise Mistake("double", seen="this")

    with pytest.raises(Mistake, match="double") as found:
        judge(lambda x: 9, lambda answer, x: answer(x) if answer(x) < 9 else observe(answer, x))
    assert found.value.facts.items() >= {"x": 2, "best": 4, "seen": "this"}.items()


def test_what_was_seen_last_is_returned_beside_what_the_worked_answer_gives() -> None:
    scores = iter([5.0, 6.0, 7.0, 8.0])
    seen, best = judge(lambda x: x + 2, lambda answer, x: Seen(answer(x), score=next(scores)))
    assert (seen.value, seen.score, best.score) == (5, 8.0, 7.0)


def test_each_answer_meets_the_same_random_numbers_and_leaves_torchs_own() -> None:
    seen, before = [], torch.get_rng_state()
    judge(None, lambda answer, x: seen.append(torch.rand(1).item()))
    assert seen == [seen[0]] * 4  # two cases, two answers
    assert torch.equal(torch.get_rng_state(), before)


def test_what_an_answer_changes_is_put_back_also_between_cases() -> None:
    def change(x: int) -> int:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(torch.get_num_threads() + 1)
        random.seed(x)
        np.random.seed(x)
        return x + 2

    def settings() -> tuple[Any, ...]:
        numbers = random.getstate(), np.random.get_state()[1].tolist()
        return *numbers, torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()

    before, met = settings(), []
    judge(change, lambda answer, x: [met.append(settings()), answer(x)][1])
    assert settings() == before
    assert met == [before] * 4


def test_of_an_answer_that_prints_much_the_beginning_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    judge(lambda x: print("much " * 10**5) or x + 2)
    shown = capsys.readouterr().out
    assert shown.startswith("much much ")
    assert shown.endswith("... and more, which is left out: your answer prints much while it is tried.\n")
    assert len(shown) < 10_000


@pytest.mark.parametrize(
    ("one", "two", "alike"),
    [
        (1.0, 1 + 1e-9, True),
        (1.0, 1, True),
        (True, 1, False),
        (float("nan"), float("nan"), True),
        ([1, (2.0,)], (1, [2.0]), True),
        ({"a": torch.ones(2)}, {"a": torch.ones(2) + 1e-6}, True),
        (torch.ones(2), torch.ones(2, 1), False),
        (torch.tensor([10**6]), torch.tensor([10**6 + 1]), False),
        ("a", "b", False),
    ],
)
def test_what_is_the_same(one: Any, two: Any, alike: bool) -> None:
    assert same(one, two) is alike


@pytest.mark.parametrize(
    ("guess", "choices", "several", "read"),
    [
        ("Added  up", ["added up", "averaged"], False, "added up"),
        (16, [5, 16], False, 16.0),
        (17.5, [5, 16], False, 17.5),
        ((3, 4), [[3, 4], [5]], False, [3.0, 4.0]),
        ("an error", [25, "an error"], False, "an error"),
        ("1, 2", [1, 2, 3], True, {"1", "2"}),
        ("ab", ["a", "b"], True, {"a", "b"}),
        ({"mean", "mask"}, ["mean", "mask"], True, {"mean", "mask"}),
        (2, [1, 2], True, {"2"}),
    ],
)
def test_how_guesses_are_read(guess: Any, choices: list[Any], several: bool, read: Any) -> None:
    assert read_guess(guess, choices, several) == read


@pytest.mark.parametrize(
    ("guess", "choices", "several"),
    [
        ("mean", ["sum"], False),
        (True, [1, 2], False),
        (1, ["one"], False),
        ("4", [1, 2], True),
        ([1], ["a"], False),
    ],
)
def test_what_can_be_no_answer(guess: Any, choices: list[Any], several: bool) -> None:
    with pytest.raises(Mistake, match="form"):
        read_guess(guess, choices, several)


@pytest.mark.parametrize(("guess", "key"), [("abc", "all"), ("ab", "b"), ("c", "other")])
def test_a_guess_is_compared_exactly_then_item_by_item(guess: str, key: str) -> None:
    table = {"mistakes": {"all": {"guesses": [["a", "b", "c"]]}}, "items": {"b": "look at b"}}
    with pytest.raises(Mistake, match=key):
        judge_guess(guess, "a", lambda one: read_guess(one, ["a", "b", "c"], several=True), table)


def test_a_number_may_be_off_a_little() -> None:
    table = {"within": 1.5, "mistakes": {}}
    judge_guess(145, 146.4, float, table)
    with pytest.raises(Mistake, match="other"):
        judge_guess(144, 146.4, float, table)


def test_a_worked_answer_that_fails_is_not_taken_for_the_readers_mistake() -> None:
    def observe(answer: Any, x: int) -> int:
        raise Mistake("double")

    with pytest.raises(Mistake, match="worked_fails"):
        judge(lambda x: x + 2, observe)
