"""What an exercise is for its reader: what is called, and the verdict that comes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any, Literal

from . import progress
from .showing import Page, ask, show
from .trying import Score, told

Kind = Literal["predict", "write", "repair", "myth", "challenge"]
Difficulty = Literal["easy", "medium", "hard"]
NOT_ATTEMPTED, NOT_YET, RIGHT = "Not attempted yet", "Not right yet", "Right"
LONGEST = 2_000  # characters of a verdict: an answer may give a list without end


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
        siblings: the names of all exercises of the lesson, in order.
        name: its name in the lesson's module, as a rule of the answer, too.
        judge: gets answers that are no longer the stub's.
        choices: what to choose from, or a function that returns it for this machine.

    The others are what its author wrote: see `lesson.py`.
    """

    lesson: str
    siblings: Sequence[str]
    name: str
    judge: Callable[..., Verdict]
    question: str
    kind: Kind
    minutes: int
    difficulty: Difficulty
    stub: str
    worked: str
    reasoning: str
    hints: Sequence[str]
    why: str
    choices: Sequence[Any] | Callable[[], Sequence[Any]]
    several: bool
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
        claim = Page("True, outdated or false?", [self.question])
        myth_to_do = self.kind == "myth" and page.title == NOT_ATTEMPTED
        if not (myth_to_do and ask(claim, page, self.offered, self._judged)):
            show(page)

    def guess(self, value: Any = ...) -> None:
        """Commit to a prediction; without one, ask for it (with buttons where widgets work)."""
        if not _blank(value):
            show(self._noted(value))
            return
        question = Page("Your guess", [self.question, "Choose all that apply." if self.several else ""])
        listed = (", " if self.several else " or ").join(map(repr, self.offered))
        what = "Write a list of them" if self.several else "Write it"
        how = f"{what} between the brackets, in place of the dots, and run this cell."
        written = replace(question, paragraphs=[*question.paragraphs, listed], below=how)
        if not ask(question, written, self.offered, self._noted, self.several):
            show(written)

    def compare(self, actual: Any) -> None:
        """Compare the prediction with what really came out, and show both."""
        verdict = self.verdict(self._guess, actual)
        show(self._settled(verdict, f"No guess was made. It came out as {actual!r:.200}."))

    def _noted(self, value: Any) -> Page:
        """Keep a guess and return what to say."""
        self._guess = value
        return Page(f"Noted: {value!r:.200}", ["What follows settles it."])

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
        return Page(verdict.outcome, lines, progress.line(self.lesson, self.siblings) + help_)

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
        try:
            if self._untouched(answers):
                return Verdict(NOT_ATTEMPTED, "")
            found = self.judge(*answers)
        except KeyboardInterrupt as error:  # the way out of a loop without end
            return Verdict(NOT_YET, f"It was stopped while your code was tried: {told(error)}", "raises")
        except BaseException as error:  # what the reader's own code raised, also sys.exit()
            return Verdict(NOT_YET, f"Your code raised {told(error)}", "raises")
        return replace(found, text=found.text[:LONGEST] + " ..." * (len(found.text) > LONGEST))

    def _untouched(self, answers: tuple[Any, ...]) -> bool:
        """Tell whether every answer is still as the stub has it."""
        if self.kind == "predict":  # the other argument is what came out
            answers = answers[:1]
        stub = compile(self.stub, "stub", "exec")
        return all(_blank(answer) or _is_stub(answer, stub) for answer in answers)


def _blank(value: Any) -> bool:
    """Tell whether a value is a gap that nobody has filled."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple) and value:
        return all(item is not value and _blank(item) for item in value)
    return value is None or value is ...


def _functions_in(code: CodeType) -> Iterator[CodeType]:
    """Yield the functions in compiled source, also those inside of others."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _functions_in(constant)


def _is_stub(answer: Any, stub: CodeType) -> bool:
    """Tell whether a function, or each function of a class, is one of the compiled stub."""
    own = vars(answer).values() if isinstance(answer, type) else [answer]
    codes = [_meaning(value.__code__) for value in own if hasattr(value, "__code__")]
    known = [_meaning(code) for code in _functions_in(stub)]
    return bool(codes) and all(code in known for code in codes)


def _meaning(code: CodeType) -> tuple[Any, ...]:
    """Return the name of a compiled function and what it does, wherever it was written."""
    constants = [_meaning(one) if isinstance(one, CodeType) else one for one in code.co_consts]
    return code.co_qualname, code.co_code, code.co_names, constants
