"""The errors that are known: `known.toml` says how to know each one, what it means and what to do."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# nccl's own words before it aborts the process: up to 2.14, and from 2.15 on
NCCL_TIMEOUT = r"Watchdog caught collective operation timeout|timeout watchdog detected operation timeout"
_PARTS = {
    "@device": r"(?:cpu|meta|(?:cuda|mps|xpu)(?::\d+)?)",
    "@size": r"[\d.]+ \w+",
    "@nccl_timeout": NCCL_TIMEOUT,
}
_TABLES = tomllib.loads(Path(__file__).with_name("known.toml").read_text(encoding="utf-8"))
TEXTS: dict[str, str] = _TABLES["texts"]
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class KnownError:
    """One kind of error.

    Attributes:
        pattern: regular expression searched in the error's text.
        what: what happened, in a sentence or two.
        example: a text that people got.
        source: the address of a report of it.
        fix: what to do; empty where that depends on the reader's objects alone.
        mix: things on different devices met, so the place of each object is part of the answer.
        phrases: {with_X} in `what` and `fix` stands for the phrase X, if the pattern's group X was found.
    """

    pattern: re.Pattern[str]
    what: str
    example: str
    source: str
    fix: str = ""
    mix: bool = False
    phrases: Mapping[str, str] = field(default_factory=dict)

    def fill(self, match: re.Match[str]) -> dict[str, str]:
        """Return what the placeholders of the answer stand for, worked out from the groups of a match."""
        values = {name: text or "" for name, text in match.groupdict().items()}
        values["meaning"], values["cure"] = _meaning(values.get("method", ""), values.get("argument", ""))
        if values.get("others") == "cpu":  # then the others stayed behind, not the one that is named
            values["cure"] = ""
        if values.get("cached") and _bytes(values["cached"]) < _bytes(values["asked"]):
            values["cached"] = ""  # it would not help
        phrases = {name: text if values[name] else "" for name, text in self.phrases.items()}
        return values | {f"with_{name}": phrase.format(**values) for name, phrase in phrases.items()}


def _pattern(written: str | list[str]) -> re.Pattern[str]:
    """Put a pattern together from its lines and its named parts."""
    whole = "".join(written)
    for name, part in _PARTS.items():
        whole = whole.replace(name, part)
    return re.compile(whole, re.DOTALL)


def _meaning(method: str, argument: str) -> tuple[str, str]:
    """Say what an argument of a kernel is, as in " (the labels)", and its cure; "" for what is unknown."""
    for known, (words, cure) in _TABLES["meaning"].items():
        kernel, name = known.split()
        if name == argument and re.search(rf"_{kernel}_*$", method):
            return f" ({words})", cure
    return "", ""


def _bytes(size: str) -> float:
    """Turn "1.50 GiB" into bytes."""
    number, unit = size.split()
    return float(number) * _UNITS.get(unit, 0)


# in the order in which they are looked for
KNOWN_ERRORS = tuple(
    KnownError(**facts | {"pattern": _pattern(facts["pattern"])}) for facts in _TABLES["known"]
)
