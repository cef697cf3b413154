"""Judging by trying: an answer is tried on cases, and what is seen is compared with what other answers give.

A *trial* is a function (answer, *case) -> what is seen. An answer is right if the worked answer gives the
same in every case, or if the trial's own `right(seen, best)` says so. A wrong one is compared with the known
mistakes: the one that first goes wrong in the same case, and in the same way, is what the reader has met.
"""

import inspect
import io
import math
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Case = tuple[Any, ...]
Answers = tuple[Any, ...]  # what `check` gets: one function or value as a rule
_LIBRARY = str(Path(__file__).parents[1])


class NotYet(Exception):
    """Raised for an answer that is not right; `key` names the mistake, `hint` is for the reader."""

    def __init__(self, key: str, hint: str) -> None:
        super().__init__(hint)
        self.key, self.hint = key, hint


@dataclass(frozen=True)
class Score:
    """What an open challenge reached.

    Attributes:
        value: the figure.
        unit: what it is, as in "MiB" or "times as fast".
        par: what the worked answer reached where it was written.
        lower: whether less is better.
    """

    value: float
    unit: str
    par: float
    lower: bool = True

    def __str__(self) -> str:
        """Say the score beside par."""
        better = self.value <= self.par if self.lower else self.value >= self.par
        value, par = (f"{x:.3g}" if abs(x) < 999.5 else f"{x:,.0f}" for x in (self.value, self.par))
        return f"Score: {value} {self.unit}; par is {par}{', reached' if better else ''}."


class Seen:
    """What a trial saw.

    Attributes:
        value: what is compared.
        score: the figure of a challenge.
        facts: what else the texts may name.
    """

    def __init__(self, value: Any, score: float | None = None, **facts: Any) -> None:
        self.value, self.score, self.facts = value, score, facts


@dataclass(frozen=True)
class Raised:
    """The exception that ended a trial."""

    error: Exception


class Mistake(Exception):
    """Raised by a trial that can name the mistake by itself; `facts` are what its text may name."""

    def __init__(self, key: str, **facts: Any) -> None:
        super().__init__(key)
        self.key, self.facts = key, facts


def mistake_if(it_is: bool, key: str, **facts: Any) -> None:
    """Raise the mistake of that key where `it_is` so."""
    if it_is:
        raise Mistake(key, **facts)


def told(error: Exception) -> str:
    """Return an error's type, the reader's line that raised it, and the first line of its text."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(_LIBRARY) and "-packages" not in f.filename]
    line = f' in the line "{own[-1].line}"' if own and own[-1].line else ""
    return f"{type(error).__name__}{line}: {(str(error).splitlines() or [''])[0][:200]}"


Outcome = Seen | Raised | Mistake


def like(one: Outcome, two: Outcome) -> bool:
    """Tell whether two trials came out alike; of exceptions type and text are compared."""
    if isinstance(one, Raised) and isinstance(two, Raised):
        return repr(one.error) == repr(two.error)
    return isinstance(one, Seen) and isinstance(two, Seen) and same(one.value, two.value)


def same(one: Any, two: Any) -> bool:
    """Tell whether two things seen agree: floats to 1e-6, tensors of floats to 1e-4, wherever nested."""
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return (one.shape, one.dtype) == (two.shape, two.dtype) and _close(one, two)
    if isinstance(one, float) or isinstance(two, float):
        numbers = all(isinstance(value, int | float) for value in (one, two))
        return numbers and (
            math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-12) or (one != one and two != two)
        )
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return type(one) is type(two) and one == two


def _close(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Compare tensors of one shape and dtype; those of floats by the length of their difference."""
    if not one.is_floating_point() or not torch.equal(one.isnan(), two.isnan()):
        return torch.equal(one, two)
    one, two = one.double().nan_to_num(), two.double().nan_to_num()
    return bool((one - two).norm() <= 1e-4 * two.norm() + 1e-9)


@dataclass(frozen=True)
class Trial:
    """How an exercise's answers are tried.

    Attributes:
        observe: called with the answers and a case; returns a `Seen` or its value; may raise `Mistake`.
        cases: the further arguments of each call; a function where they depend on the machine.
        right: judges what was seen beside what the worked answer gives; with None every answer is right that
            the trial lets pass, and it alone can name mistakes.
    """

    observe: Callable[..., Any]
    cases: Sequence[Case] | Callable[[], Sequence[Case]] = ((),)
    right: Callable[[Any, Any], bool] | None = same

    def names(self, answers: Answers, case: Case) -> dict[str, Any]:
        """Return the arguments of a case by name, for the texts."""
        names = list(inspect.signature(self.observe).parameters)[len(answers) :]
        return dict(zip(names, case, strict=False))

    def see(self, answers: Answers, case: Case) -> Outcome:
        """Try answers on one case; torch's random numbers are the same each time."""
        torch.default_generator.manual_seed(0)
        try:
            seen = self.observe(*answers, *case)
        except Mistake as known:
            return known
        except Exception as error:  # the reader's own code raised
            return Raised(error)
        return seen if isinstance(seen, Seen) else Seen(seen)

    def is_right(self, seen: Outcome, best: Seen) -> bool:
        """Judge one case."""
        return isinstance(seen, Seen) and (self.right is None or self.right(seen.value, best.value))


@dataclass(frozen=True)
class Judge:
    """Judges answers by a trial, the worked answer and known mistakes.

    Attributes:
        trial: how answers are tried.
        worked: makes the worked answers.
        wrong: makes the answers of each mistake that is known by them, by its key.
        mistakes: what to say to each mistake, by its key; {name} stands for an argument of the case, a fact,
            `seen`, or `best`, which is what the worked answer gives.
        unit, par, lower: of the score, as in `Score`; without `par` it is what the worked answer reaches.
    """

    trial: Trial
    worked: Callable[[], Answers]
    wrong: dict[str, Callable[[], Answers]]
    mistakes: dict[str, str]
    unit: str = ""
    par: float | None = None
    lower: bool = True

    def __call__(self, *answers: Any) -> Score | None:
        """Return the score of a challenge, None for any other right answer; raise NotYet for a wrong one."""
        with torch.random.fork_rng(devices=[]):
            return self._judged(answers)

    def _judged(self, answers: Answers) -> Score | None:
        cases, bests = self.trial.cases, []
        worked = () if self.trial.right is None else self.worked()
        for case in cases() if callable(cases) else cases:
            bests.append((case, self._best(worked, case)))
            seen = self.trial.see(answers, case)
            if not self.trial.is_right(seen, bests[-1][1]):
                raise self._not_yet(answers, seen, bests)
        if seen.score is None:
            return None
        par = bests[-1][1].score if self.par is None else self.par
        return Score(seen.score, self.unit.format_map(seen.facts), par, self.lower)

    def _best(self, worked: Answers, case: Case) -> Seen:
        """Return what the worked answer gives; that it fails would be this course's own mistake."""
        if self.trial.right is None:
            return Seen(None)
        best = self._quietly(worked, case)
        if isinstance(best, Raised):
            raise best.error
        assert isinstance(best, Seen), best
        return best

    def _quietly(self, answers: Answers, case: Case) -> Outcome:
        """Try what is not the reader's; what it prints would only puzzle them."""
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.trial.see(answers, case)

    def _not_yet(self, answers: Answers, seen: Outcome, bests: list[tuple[Case, Seen]]) -> Exception:
        """Return what to raise for answers that went wrong in the last case."""
        case, best = bests[-1]
        facts = self.trial.names(answers, case) | {"best": best.value}
        if isinstance(seen, Mistake):
            key, more = seen.key, seen.facts
        else:
            key = next(self._alike(seen, bests), "other") if self.trial.right else "other"
            if isinstance(seen, Raised) and key == "other":
                return seen.error
            more = {"seen": seen.value, **seen.facts} if isinstance(seen, Seen) else {"seen": seen.error}
        return NotYet(key, self.mistakes[key].format_map(facts | more))

    def _alike(self, seen: Seen | Raised, bests: list[tuple[Case, Seen]]) -> Iterator[str]:
        """Yield the keys of the mistakes that go right in all cases but the last, and give the same there."""
        *before, (last, _) = bests
        for key, make in self.wrong.items():
            made = make()
            if like(self._quietly(made, last), seen) and all(
                self.trial.is_right(self._quietly(made, case), best) for case, best in before
            ):
                yield key
