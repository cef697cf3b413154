"""One clear line about a run that failed: what happened, and what to do."""

import re
import signal
from contextlib import suppress

from course_utils.explanation import explain

from .launching import Agent
from .logs import Rank, text_of

_PREFIX = re.compile(r"^\[(?:rank|default)\d+\]: ?", re.MULTILINE)
_EXCEPTION = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Timeout|Exit)\b.*$", re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last)"
_LOST = re.compile(
    r"Connection (?:closed|reset) by peer|Broken pipe|Connection refused|Socket (?:Timeout|closed)"
)


def line_about(agents: list[Agent], attempts: list[dict[int, Rank]], late: bool, timeout: float) -> str:
    """Return the line; "" where every agent ended well."""
    if not late and not any(agent.code for agent in agents):
        return ""
    ranks = attempts[-1] if attempts else {}
    culprits = sorted((rank for rank in ranks if _failed(ranks[rank])), key=lambda rank: _guilt(ranks[rank]))
    if culprits and (not late or _guilt(ranks[culprits[0]]) < 3):
        return _about_rank(culprits[0], ranks[culprits[0]])
    return _about_waiting(ranks, timeout) if late else _about_agent(agents)


def _failed(rank: Rank) -> bool:
    return bool(rank.code) or bool(_exception(rank.err))


def _guilt(rank: Rank) -> int:
    """The smaller, the closer to the cause: a rank that lost a neighbour, or was told to stop, is none."""
    if rank.code == -15:
        return 4
    if rank.code is not None and rank.code < 0:
        return 0
    error = _exception(rank.err)
    return (3 if _LOST.search(error) else 1) if error else 2


def _exception(err: str) -> str:
    """The last traceback of a text, from its first line to the exception's; "" for none."""
    text = _PREFIX.sub("", err)
    found = list(_EXCEPTION.finditer(text))
    if not found:
        return ""
    end = found[-1]
    start = text.rfind(_TRACEBACK, 0, end.start())
    return text[max(start, 0) : end.end()]


def _about_rank(number: int, rank: Rank) -> str:
    whole = f"The whole text: .errors[{number}]."
    if rank.code is not None and rank.code < 0:
        return f"rank {number} was ended by {_signal(-rank.code)}."
    text = _exception(rank.err)
    if not text:
        last = (rank.err.strip().splitlines() or [""])[-1]
        return f"rank {number} ended with exit code {rank.code}{': ' * bool(last)}{last}"
    meaning = explain(text)
    where = f" at {meaning.lines[0]}" if meaning.lines else ""
    error = text.splitlines()[-1]
    if meaning.known:
        return f"rank {number} stopped{where}: {error} {meaning.what} {meaning.fix}"
    return f"rank {number} stopped{where}: {error} {whole}"


def _about_waiting(ranks: dict[int, Rank], timeout: float) -> str:
    return f"it was not at an end after {timeout:g} s and was stopped."


def _about_agent(agents: list[Agent]) -> str:
    agent = next(agent for agent in agents if agent.code)
    text = _exception(text_of(agent.log))
    return text.splitlines()[-1] if text else (text_of(agent.log).strip().splitlines() or ["it failed"])[-1]


def _signal(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
