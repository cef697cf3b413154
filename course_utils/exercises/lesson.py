"""A lesson's exercises as their author writes them: texts in `lesson_NN.toml`, trials in `lesson_NN.py`.

The table of an exercise has

    title, kind, minutes, difficulty   its heading in the notebook
    text                               what follows there, in Markdown
    stub, check                        its cell: what the reader fills in, and what `check` is called with
                                       (by default the exercise's name)
    worked, reasoning                  a right answer to the cell, and why it is one
    hints                              from a nudge to nearly everything
    why                                one sentence for a right answer: why it matters
    question or claim                  of a prediction, of a myth card: one sentence
    right                              of a prediction: what came out in the stored run; of a myth: a word
    choices, several, within           of a prediction: what to choose from, whether any number of that, how
                                       far off a number may be
    also                               of a prediction: other words for choices
    unsettled                          of a prediction: what comes out on a device that cannot settle it
    cases                              of many times: what the trial is given, one list for each time
    case                               how those mistakes name it that `say` {case}
    unit, par, higher_is_better        of a challenge: what its score is, and what the worked answer reaches
                                       (found out by itself where answers are compared)
    mistakes                           by key: what to `say`, and the wrong answer: its `code`, or `change`, a
                                       list of [old, new] for the worked one (with `from = "stub"`, for the
                                       stub); of a prediction, `guesses`, or an `example` that its trial knows
    items                              what to say where one of several choices is in doubt
    like                               the name of an exercise above, whose trial and all else is taken
"""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from . import progress
from .exercise import NOT_YET, RIGHT, Exercise, Verdict
from .guessing import judge_guess, read_guess
from .trying import Answers, Case, Mistake, Score, Trial, same

USUAL = tomllib.loads(Path(__file__).with_name("usual.toml").read_text(encoding="utf-8"))


class Lesson:
    """The exercises of one lesson.

    Attributes:
        number: such as "05".
        context: code of what the cells before an exercise have made.
        exercises: by name, in order.
        tables: what the author wrote, by the name of the exercise, with what is the same for all filled in.
    """

    def __init__(self, number: str, folder: Path = Path(__file__).parent) -> None:
        self.number = number
        data = tomllib.loads((folder / f"lesson_{number}.toml").read_text(encoding="utf-8"))
        self.context = data.pop("context", "")
        self._trials: dict[str, Trial] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.exercises: dict[str, Exercise] = {}
        for name, own in data.items():
            self.tables[name] = table = _filled(name, _merged(data.get(own.get("like"), {}), own))
            written = {one.name: table[one.name] for one in fields(Exercise) if one.name in table}
            self.exercises[name] = Exercise(number, list(data), name, partial(self._judge, name), **written)
        self.summary = partial(progress.summary, number, list(data))

    def trial(
        self, cases: Sequence[Case] | None = None, right: Callable[[Any, Any], bool] | None = same
    ) -> Callable[[Callable[..., Any]], Exercise]:
        """Make a function the trial of the exercise of its name.

        Args:
            cases, right: as in `Trial`; without cases those of its table, else one without arguments. The
                trial of a prediction reads a guess: it is called with the guess and with what came out.
        """

        def register(observe: Callable[..., Any]) -> Exercise:
            exercise = self.exercises[observe.__name__]
            known = cases or self.tables[exercise.name].get("cases", [()])
            self._trials[exercise.name] = Trial(observe, known, right)
            return exercise

        return register

    def code(self, name: str, key: str) -> str:
        """Return the code of a known mistake as a reader would type it, "" where only the trial knows it."""
        mistake = self.tables[name]["mistakes"][key]
        code = mistake.get("code", "")
        if "change" in mistake:
            code = self.tables[name][mistake.get("from", "worked")]
        for old, new in mistake.get("change", ()):
            if code.count(old) != 1:
                raise ValueError(f"{name}, {key}: {old!r} stands there {code.count(old)} times")
            code = code.replace(old, new)
        return code

    def answers(self, name: str, code: str) -> Answers:
        """Run the code of an answer, and return what `check` is called with."""
        space: dict[str, Any] = {}
        exec(compile(f"{self.context}\n{code}", f"answer to {name}", "exec"), space)
        found = eval(self.tables[name].get("check", name), space)
        return found if isinstance(found, tuple) else (found,)

    # ---- judging --------------------------------------------------------------------------------------
    def _judge(self, name: str, *answers: Any) -> Verdict:
        """Judge answers to an exercise."""
        table = self.tables[name]
        guess, actual = (*answers, table.get("right"))[:2]
        try:
            if table["kind"] in ("predict", "myth"):
                score = self._compare(name, guess, actual)
            else:
                score = self._try(name, answers)
        except Mistake as mistake:
            say = table.get("items", {}).get(mistake.key) or table["mistakes"][mistake.key]["say"]
            say = say.replace("{case}", table.get("case", "{case}"))
            facts = {"guess": guess, "actual": actual} | mistake.facts
            return Verdict(NOT_YET, say.format_map(facts), mistake.key)
        return Verdict(RIGHT, table["why"], score=score)

    def _compare(self, name: str, guess: Any, actual: Any) -> None:
        """Compare a guess with what came out; raise Mistake where it is wrong."""
        table, exercise = self.tables[name], self.exercises[name]
        trial = self._trials.get(table.get("like", name))
        if actual == table.get("unsettled", ...):
            raise Mistake("unsettled")
        guess = table.get("also", {}).get(str(guess).strip().lower(), guess)
        plain = partial(read_guess, choices=exercise.offered, several=exercise.several)
        read = (lambda one: trial.observe(one, actual)) if trial else plain
        judge_guess(guess, actual, read, table)

    def _try(self, name: str, answers: Answers) -> Score | None:
        """Try answers; return the score of a challenge, raise Mistake where they are wrong."""
        table = self.tables[name]
        codes = {key: self.code(name, key) for key in table["mistakes"]}
        wrong = {key: partial(self.answers, name, code) for key, code in codes.items() if code}
        seen, best = self._trials[name].judge(answers, partial(self.answers, name, table["worked"]), wrong)
        if seen.score is None:
            return None
        unit, par = table["unit"].format_map(seen.facts), table.get("par", best.score)
        return Score(seen.score, unit, par, lower=not table.get("higher_is_better", False))


def _merged(above: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with what it does not say taken from another, mistake by mistake."""
    both = above | table
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            both[key] = _merged(value, table[key])
    return both


def _filled(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with what is usual for all exercises, and for those of its kind."""
    own = {key: one if isinstance(one, dict) else {"say": one} for key, one in table["mistakes"].items()}
    if table["kind"] == "myth":
        own = {key: {"guesses": [key], **one} for key, one in own.items()}
    kind = {
        key: text.format_map({"name": name, **table}) if isinstance(text, str) else text
        for key, text in USUAL.get(table["kind"], {}).items()
    }
    return _merged(_merged(USUAL["every"], kind), table | {"mistakes": own})
