"""Judging by trying: an answer is tried on cases, and what is seen is compared with what other answers give.

A *trial* is a function (answer, *case) -> what is seen. An answer is right if the worked answer gives the
same in every case, or if the trial's own `right(seen, best)` says so. A wrong one is compared with the known
mistakes: the one that first goes wrong in the same case, and in the same way, is what the reader has met.
"""

import inspect
import io
import math
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

Case = tuple[Any, ...]
Answer = Callable[..., Any]  # a function, as a reader has written it
Answers = tuple[Any, ...]  # what `check` gets: one function or value as a rule
_LIBRARY = str(Path(__file__).parents[1])
_ROOM = 5_000  # characters that an answer may print in one check
_LEFT_OUT = "\n... and more, which is left out: your answer prints much while it is tried.\n"


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


class Mistake(Exception):
    """Raised for a wrong answer, by a trial that can name the mistake too; its text may name the `facts`."""

    def __init__(self, key: str, /, **facts: Any) -> None:
        super().__init__(key)
        self.key, self.facts = key, facts


def mistake_if(it_is: bool, key: str, **facts: Any) -> None:
    """Raise the mistake of that key where `it_is` so."""
    if it_is:
        raise Mistake(key, **facts)


class _Short(io.TextIOBase):  # shows the beginning of what is printed
    def __init__(self, screen: TextIO) -> None:
        self._screen, self._room = screen, _ROOM

    def write(self, text: str) -> int:
        if self._room > 0:
            self._screen.write(text[: self._room] + _LEFT_OUT * (len(text) > self._room))
        self._room -= len(text)
        return len(text)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back what an answer may change: random numbers, default dtype and device, threads, gradients."""
    names = ("default_dtype", "default_device", "num_threads")
    before = [getattr(torch, f"get_{name}")() for name in names]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for name, value in zip(names, before, strict=True):
            if getattr(torch, f"get_{name}")() != value:
                getattr(torch, f"set_{name}")(value)


def told(error: BaseException) -> str:
    """Return an error's type, the reader's line that raised it, and the first line of its text."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(_LIBRARY) and "-packages" not in f.filename]
    line = f' in the line "{own[-1].line}"' if own and own[-1].line else ""
    return f"{type(error).__name__}{line}: {(str(error).splitlines() or [''])[0][:200]}"


def same(one: Any, two: Any) -> bool:
    """Tell whether two things seen agree: floats to 1e-6, tensors to 1e-4, errors by type and text."""
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
    if isinstance(one, BaseException):
        return repr(one) == repr(two)
    return type(one) is type(two) and one == two


def _close(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Compare tensors of one shape and dtype; those of floats by the length of their difference."""
    if not one.is_floating_point() or not torch.equal(one.isnan(), two.isnan()):
        return torch.equal(one, two)
    return agree(one.double().nan_to_num(), two.double().nan_to_num())


def agree(one: torch.Tensor, two: torch.Tensor, relative: float = 1e-4) -> bool:
    """Tell whether two tensors of floats are the same but for rounding."""
    return bool((one - two).norm() <= relative * two.norm() + 1e-9)


@dataclass(frozen=True)
class Trial:
    """How an exercise's answers are tried.

    Attributes:
        observe: called with the answers and a case; returns a `Seen` or its value; may raise `Mistake`.
        cases: the further arguments of each call.
        right: judges what was seen beside what the worked answer gives; with None every answer is right that
            the trial lets pass, and it alone can name mistakes.
    """

    observe: Callable[..., Any]
    cases: Sequence[Case] = ((),)
    right: Callable[[Any, Any], bool] | None = same

    def judge(
        self, answers: Answers, worked: Callable[[], Answers], wrong: Mapping[str, Callable[[], Answers]]
    ) -> tuple[Seen, Seen]:
        """Return what was seen of right answers in the last case, and what the worked ones give there.

        Args:
            answers: the reader's.
            worked: makes the worked answers.
            wrong: makes the answers of each mistake that is known by them, by its key.

        Raises:
            Mistake: an answer is wrong. The facts are the arguments of the case, what was `seen`, what is
                `best`, and what the trial adds.
            Exception: of the reader's own code, if no known mistake raises it.
        """
        screens = redirect_stdout(_Short(sys.stdout)), redirect_stderr(_Short(sys.stderr))
        with settings_kept(), screens[0], screens[1]:
            right, bests = worked() if self.right else (), []
            for case in self.cases:
                best = self._quietly(right, case) if self.right else Seen(None)
                if isinstance(best.value, BaseException):
                    raise Mistake("worked_fails", error=repr(best.value)) from best.value
                bests.append((case, best))
                seen = self._see(answers, case)
                if not self._is_right(seen, best):
                    mistake = self._mistake(seen, bests, wrong)
                    arguments = inspect.signature(self.observe).bind(*answers, *case).arguments
                    raise Mistake(mistake.key, **(arguments | {"best": best.value} | mistake.facts))
            return seen, best

    def _see(self, answers: Answers, case: Case) -> Seen:
        """Try answers on one case; torch's random numbers are the same each time."""
        try:
            with settings_kept():
                torch.default_generator.manual_seed(0)
                seen = self.observe(*answers, *case)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a mistake, or what the reader's own code raised, also sys.exit()
            return Seen(error)
        return seen if isinstance(seen, Seen) else Seen(seen)

    def _quietly(self, answers: Answers, case: Case) -> Seen:
        """Try what is not the reader's; what it prints would only puzzle them."""
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            return self._see(answers, case)

    def _is_right(self, seen: Seen, best: Seen) -> bool:
        failed = isinstance(seen.value, BaseException)
        return not failed and (self.right is None or self.right(seen.value, best.value))

    def _mistake(
        self, seen: Seen, bests: list[tuple[Case, Seen]], wrong: Mapping[str, Callable[[], Answers]]
    ) -> Mistake:
        """Return the mistake that goes right in all cases but the last, and gives the same there."""
        if isinstance(seen.value, Mistake):
            return seen.value
        *before, (last, _) = bests
        for key, make in wrong.items() if self.right else ():
            made = make()
            if same(self._quietly(made, last).value, seen.value) and all(
                self._is_right(self._quietly(made, case), best) for case, best in before
            ):
                return Mistake(key, seen=seen.value, **seen.facts)
        if isinstance(seen.value, BaseException):
            raise seen.value
        return Mistake("other", seen=seen.value, **seen.facts)
