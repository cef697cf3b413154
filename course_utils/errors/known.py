"""The errors that are known: `known.toml` says how to know each one, what it means and what to do."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# nccl's own words before it aborts the process: up to 2.14, and from 2.15 on
NCCL_TIMEOUT = r"Watchdog caught collective operation timeout|timeout watchdog detected operation timeout"
_PARTS = {
    "@device": r"(?:cpu|meta|(?:cuda|mps|xpu)(?::\d+)?)",
    "@size": r"[\d.]+ \w+",
    "@nccl_timeout": NCCL_TIMEOUT,
}
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class KnownError:
    """One kind of error.

    Attributes:
        pattern: regular expression searched in the error's text.
        what: what happened, in a sentence or two.
        fix: what to do; empty where that depends on the reader's objects alone.
        mix: things on different devices met, so the place of each object is part of the answer.
    """

    pattern: re.Pattern[str]
    what: str
    fix: str = ""
    mix: bool = False


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("known.toml").read_text(encoding="utf-8"))


@cache
def known_errors() -> tuple[KnownError, ...]:
    """Return all kinds, in the order in which they are looked for."""
    return tuple(
        KnownError(**facts | {"pattern": _pattern(facts["pattern"])}) for facts in _tables()["known"]
    )


def _pattern(written: str | list[str]) -> re.Pattern[str]:
    """Put a pattern together from its lines and its named parts."""
    whole = "".join(written)
    for name, part in _PARTS.items():
        whole = whole.replace(name, part)
    return re.compile(whole, re.DOTALL)


def fill(match: re.Match[str]) -> dict[str, str]:
    """Return what the placeholders of an answer stand for, worked out from the groups of a match."""
    values = {name: text or "" for name, text in match.groupdict().items()}
    meaning, cure = _meaning(values.get("method", ""), values.get("argument", ""))
    if values.get("others") == "cpu":  # then the others stayed behind, not the one that is named
        cure = ""
    which, room, cache, supports = "", "", "", ""
    if values.get("argument"):
        which = f"; the message names the argument {values['argument']}{meaning}"
    if values.get("asked"):
        room = f" for {values['asked']} more"
    if values.get("total"):
        limit = f" and lends this process {values['allowed']}" if values["allowed"] else ""
        room += f": GPU {values['gpu']} has {values['total']}{limit}, and tensors hold {values['held']} of it"
        if _bytes(values["cached"]) >= _bytes(values["asked"]):
            cache = " Much is reserved but unused: PYTORCH_ALLOC_CONF=expandable_segments:True may help."
    if values.get("version"):
        version = int(values["version"])
        supports = f": it knows CUDA up to {version // 1000}.{version % 1000 // 10}"
    out_of_memory = {"room": room, "cache": cache}
    return values | out_of_memory | {"meaning": meaning, "cure": cure, "which": which, "supports": supports}


def _meaning(method: str, argument: str) -> tuple[str, str]:
    """Say what an argument of a kernel is, as in " (the labels)", and its cure; "" for what is unknown."""
    for known, (words, cure) in _tables()["meaning"].items():
        kernel, name = known.split()
        if name == argument and re.search(rf"_{kernel}_*$", method):
            return f" ({words})", cure
    return "", ""


def _bytes(size: str) -> float:
    """Turn "1.50 GiB" into bytes."""
    number, unit = size.split()
    return float(number) * _UNITS.get(unit, 0)
