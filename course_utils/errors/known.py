"""The errors that are known: `known.toml` says how to know each one, what it means and what to do."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# nccl's own words before it aborts the process: up to 2.14, and from 2.15 on
NCCL_TIMEOUT = r"Watchdog caught collective operation timeout|timeout watchdog detected operation timeout"
_PARTS = {
    "@device": r"(?:cpu|meta|(?:cuda|mps|xpu)(?::\d+)?)",
    "@size": r"[\d.]+ \w+",
    "@nccl_timeout": NCCL_TIMEOUT,
}


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
def known_errors() -> tuple[KnownError, ...]:
    """Return all kinds, in the order in which they are looked for."""
    families = tomllib.loads(Path(__file__).with_name("known.toml").read_text(encoding="utf-8"))["known"]
    return tuple(KnownError(_pattern(facts.pop("pattern")), **facts) for facts in families)


def _pattern(written: str | list[str], parts: Mapping[str, str] = _PARTS) -> re.Pattern[str]:
    """Put a pattern together from its lines and its named parts."""
    whole = "".join(written)
    for name, part in parts.items():
        whole = whole.replace(name, part)
    return re.compile(whole, re.DOTALL)
