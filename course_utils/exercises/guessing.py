"""Judging guesses: words whatever their spaces and capitals, numbers, lists, selections."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .trying import Mistake, same


def judge_guess(guess: Any, actual: Any, read: Callable[[Any], Any], table: Mapping[str, Any]) -> None:
    """Compare a guess with what came out, and a wrong one with the known mistakes.

    Args:
        guess: what the reader wrote or chose.
        actual: what came out.
        read: returns a guess in the form in which guesses are compared; may raise `Mistake`.
        table: of the exercise, with its `mistakes`, by key, and perhaps `items` and `within`.

    Raises:
        Mistake: the guess is not right.
    """
    said, best, within = read(guess), _form(read, actual), table.get("within", 0)
    if _agree(said, best, within):
        return
    for slack in (0, within):  # the very number goes before one nearby
        for key, mistake in table["mistakes"].items():
            if any(_agree(said, _form(read, one), slack) for one in mistake.get("guesses", ())):
                raise Mistake(key)
    in_doubt = (item for item in table.get("items", ()) if (item in said) != (item in best))
    raise Mistake(next(in_doubt, "other"))


def read_guess(guess: Any, choices: Sequence[Any], several: bool = False) -> Any:
    """Return a guess as text of the choices, a number, a list of numbers or, with `several`, a set of words.

    Raises:
        Mistake: "form", for what can be no answer.
    """
    texts = {_letters(choice): choice for choice in choices if isinstance(choice, str)}
    if several:
        words = _words(guess, [str(choice) for choice in choices])
        if words <= {str(choice) for choice in choices}:
            return words
    elif isinstance(guess, str) and _letters(guess) in texts:
        return texts[_letters(guess)]
    elif _is_number(guess) and any(map(_is_number, choices)):
        return float(guess)
    elif isinstance(guess, list | tuple) and all(map(_is_number, guess)) and not texts:
        return [float(number) for number in guess]
    raise Mistake("form", choices=", ".join(map(repr, choices)))


def _form(read: Callable[[Any], Any], value: Any) -> Any:
    """Return a value in the form of a guess; the value itself where it can be none."""
    try:
        return read(value)
    except Mistake:
        return value


def _agree(one: Any, two: Any, within: float) -> bool:
    near = isinstance(one, float) and isinstance(two, float) and abs(one - two) <= within
    return near or same(one, two)


def _words(guess: Any, choices: list[str]) -> frozenset[str]:
    """Return the words of a selection: a list, or text as "1, 2", or "12" for choices of one letter."""
    if isinstance(guess, str):
        word = r"[^\W_]" if all(len(one) == 1 for one in choices) else r"[^\W_]+"
        guess = re.findall(word, guess)
    several = isinstance(guess, list | tuple | set | frozenset)
    return frozenset(str(one) for one in (guess if several else [guess]) if str(one).strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _letters(text: str) -> str:
    return "".join(text.lower().split())
