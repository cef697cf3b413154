"""What an exercise is: an answer goes in, a verdict comes out. An answer is judged by what it does.

    @exercise(kind="write", minutes=5, difficulty="easy", stub=..., solution=..., reasoning=..., ...)
    def split_sizes(answer):
        "Write the function that says how many rows each GPU gets."
        if answer(30, 8) == [4, 4, 4, 4, 4, 4, 3, 3]:
            wrong("even", "That would be even. DataParallel splits as torch.chunk does.")

The decorated function, the judge, returns nothing (or a `Score`) for a right answer and calls `wrong` for
any other. It never sees an untouched stub.
"""

import math
import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from . import progress
from .showing import Page, ask, show
from .stubs import blank, functions_in, is_stub

Kind = Literal["predict", "write", "repair", "myth", "challenge"]
Difficulty = Literal["easy", "medium", "hard"]
NOT_ATTEMPTED, NOT_YET, RIGHT = "Not attempted yet", "Not right yet", "Right"
_LIBRARY = str(Path(__file__).parents[1])


class NotYet(Exception):
    """Raised by `wrong`; `key` names the mistake."""

    def __init__(self, key: str, hint: str) -> None:
        super().__init__(hint)
        self.key, self.hint = key, hint


def wrong(key: str, hint: str) -> NoReturn:
    """Say that an answer is not right, and what this very mistake is.

    Args:
        key: a short name of the mistake, for tests.
        hint: one or two sentences for the reader.
    """
    raise NotYet(key, hint)


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


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check: NOT_ATTEMPTED, NOT_YET or RIGHT, what to say, and the mistake's key."""

    outcome: str
    text: str
    key: str = ""
    score: Score | None = None


@dataclass(eq=False)
class Exercise:
    """One exercise of a lesson; the reader calls `check`, `hint` and `solution`.

    Attributes:
        lesson: number of the lesson, such as "05".
        name: its name in the lesson's module, and of the answer in the notebook.
        task: one sentence.
        kind, minutes, difficulty: shown in its heading.
        judge: raises NotYet for a wrong answer; may return a Score.
        stub: the cell that the reader fills in, without the call of `check`.
        worked: a right answer to the cell, and `reasoning`, why it is one.
        hints: from a nudge to nearly everything.
        why: one sentence for a right answer: why it matters.
        choices: of a "predict" or "myth" exercise: what to choose from, or a function that
            returns it for this machine. Other answers can be written.
        several: whether more than one may be chosen; the guess is then the list of them.
    """

    lesson: str
    name: str
    task: str
    kind: Kind
    minutes: int
    difficulty: Difficulty
    judge: Callable[..., Score | None]
    stub: str
    worked: str
    reasoning: str
    hints: tuple[str, ...]
    why: str
    choices: Sequence[Any] | Callable[[], Sequence[Any]] = ()
    several: bool = False
    _given: int = field(default=0, repr=False)
    _guess: Any = field(default=..., repr=False)

    @property
    def heading(self) -> str:
        """The line below the exercise's heading in the notebook."""
        return f"*{self.kind}, {self.minutes} minute{'s' * (self.minutes > 1)}, {self.difficulty}*"

    @property
    def offered(self) -> Sequence[Any]:
        """What to choose from, on this machine."""
        return self.choices() if callable(self.choices) else self.choices

    # ---- what the reader calls ------------------------------------------------------------------------
    def check(self, *answers: Any) -> None:
        """Judge the answers, show the verdict and the lesson's progress. Never raises.

        An untouched myth card asks, with buttons where widgets work.
        """
        page = self._judged(*answers)
        claim = Page("True, outdated or false?", [self.task])
        myth_to_do = self.kind == "myth" and page.title == NOT_ATTEMPTED
        if not (myth_to_do and ask(claim, page, self.offered, self._judged)):
            show(page)

    def guess(self, value: Any = ...) -> None:
        """Commit to a prediction; without one, ask for it (with buttons where widgets work)."""
        if not blank(value):
            show(self._noted(value))
            return
        question = Page("Your guess", [self.task, "Choose all that apply." if self.several else ""])
        listed = (", " if self.several else " or ").join(map(repr, self.offered))
        what = "Write a list of them" if self.several else "Write it"
        how = f"{what} between the brackets, in place of the dots, and run this cell."
        written = replace(question, paragraphs=[*question.paragraphs, listed], below=how)
        if not ask(question, written, self.offered, self._noted, self.several):
            show(written)

    def compare(self, actual: Any) -> None:
        """Compare the prediction with what really came out, and show both."""
        verdict = self.verdict(self._guess, actual)
        show(self._settled(verdict, f"No guess was made. It came out as {actual!r}."))

    def _noted(self, value: Any) -> Page:
        """Keep a guess and return what to say."""
        self._guess = value
        return Page(f"Noted: {value!r}", ["What follows settles it."])

    def _judged(self, *answers: Any) -> Page:
        """Judge the answers, note success and return what to say."""
        change = self.kind in ("repair", "challenge")  # their code runs already
        todo = "Change this cell and run it again." if change else "Fill the gap and run this cell again."
        return self._settled(self.verdict(*answers), todo)

    def _settled(self, verdict: Verdict, not_attempted: str) -> Page:
        """Note success and return a verdict to show."""
        if verdict.outcome == RIGHT:
            progress.done(self.lesson, self.name)
        lines = [verdict.text or not_attempted, *([str(verdict.score)] if verdict.score else [])]
        help_ = "" if verdict.outcome == RIGHT else f" Help: exercise.{self.name}.hint()"
        return Page(verdict.outcome, lines, progress.line(self.lesson) + help_)

    def hint(self) -> None:
        """Show the next hint; after the last one, the last again."""
        self._given = min(self._given + 1, len(self.hints))
        rest = len(self.hints) - self._given
        after = f"{rest} more: call hint() again." if rest else "The next step is solution()."
        show(Page(f"Hint {self._given} of {len(self.hints)}", [self.hints[self._given - 1]], after))

    def solution(self) -> None:
        """Show a worked answer and its reasoning."""
        open_ = self.kind not in ("predict", "myth")
        below = "Other answers are right, too." if open_ else ""
        show(Page("A worked answer", [self.reasoning], below, code=self.worked))

    # ---- judging --------------------------------------------------------------------------------------
    def verdict(self, *answers: Any) -> Verdict:
        """Judge the answers and tell nobody."""
        if self._untouched(answers):
            return Verdict(NOT_ATTEMPTED, "")
        try:
            score = self.judge(*answers)
        except NotYet as mistake:
            return Verdict(NOT_YET, mistake.hint, mistake.key)
        except Exception as error:  # the reader's own code raised while it was tried
            return Verdict(NOT_YET, _tell(error), "raises")
        return Verdict(RIGHT, self.why, score=score)

    def _untouched(self, answers: tuple[Any, ...]) -> bool:
        """Tell whether every answer is still as the stub has it."""
        if self.kind == "predict":  # the other argument is what came out
            answers = answers[:1]
        codes = functions_in(compile(self.stub, "stub", "exec"))
        return all(blank(answer) or is_stub(answer, codes) for answer in answers)


def exercise(**facts: Any) -> Callable[[Callable[..., Score | None]], Exercise]:
    """Make an `Exercise` of a judge: its name and docstring are those of the exercise.

    Args:
        **facts: kind, minutes, difficulty, stub, solution, reasoning, hints, why, as in `Exercise`.
    """

    def make(judge: Callable[..., Score | None]) -> Exercise:
        lesson = judge.__module__.rpartition("lesson_")[2]
        texts = {name: textwrap.dedent(facts.pop(name)).strip() for name in ("stub", "solution")}
        task = " ".join((judge.__doc__ or "").split())
        return Exercise(
            lesson, judge.__name__, task, judge=judge, stub=texts["stub"], worked=texts["solution"], **facts
        )

    return make


def myth(name: str, claim: str, truth: str, why: str, hints: dict[str, str], module: str) -> Exercise:
    """Make a myth card: a claim that the reader judges "true", "outdated" or "false".

    Args:
        name: of the exercise, and of the answer in the notebook.
        claim: as one finds it.
        truth: the right one of the three words.
        why: one sentence for a right answer.
        hints: what to say to each of the two wrong words.
        module: `__name__` of the lesson's module.
    """

    words = ("true", "outdated", "false")

    def judge(answer: Any) -> None:
        word = answer.strip().lower() if isinstance(answer, str) else answer
        if word not in words:
            wrong("word", 'Answer with one of three words: "true", "outdated" or "false".')
        if word != truth:
            wrong(word, hints[word])

    judge.__name__, judge.__module__, judge.__doc__ = name, module, claim
    known = {"kind": "myth", "minutes": 2, "difficulty": "easy", "why": why, "reasoning": why}
    lines = {"stub": f'{name} = ...  # "true", "outdated" or "false"', "solution": f'{name} = "{truth}"'}
    hint = "Run the cell below, which settles it, and read its output."
    return exercise(**known, **lines, hints=(hint,), choices=words)(judge)


def close(one: float, two: float, relative: float = 1e-6) -> bool:
    """Tell whether two numbers agree."""
    return math.isclose(one, two, rel_tol=relative, abs_tol=1e-12)


def own_line(error: Exception) -> str:
    """Return ' in the line "..."': the reader's deepest line on the way to an error, "" if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(_LIBRARY) and "-packages" not in f.filename]
    return f' in the line "{own[-1].line}"' if own and own[-1].line else ""


def _tell(error: Exception) -> str:
    """Say what the reader's code raised, and in which of its lines."""
    text = (str(error).splitlines() or [""])[0][:200]
    return f"Your code raised {type(error).__name__}{own_line(error)}: {text}"
