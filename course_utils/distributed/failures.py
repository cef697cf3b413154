"""One clear line about a run that failed: what happened, and what to do. It is the same each time."""

import re
import signal
from contextlib import suppress

from course_utils.errors import explain
from course_utils.errors.known import NCCL_TIMEOUT

from .hung_rank import where_it_stood
from .launching import Agent, text_of
from .logs import Rank

_PREFIX = re.compile(r"^\[(?:rank|default)\d+\]: ?", re.MULTILINE)
_EXCEPTION = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Timeout|Exit)\b.*$", re.MULTILINE)
_MORE = re.compile(r"(?:\n(?!\[|terminate called|Fatal Python).+){0,8}")  # a message of several lines
_TRACEBACK = "Traceback (most recent call last)"
_LOST = re.compile(r"Connection (?:closed|reset) by peer|Broken pipe|Connection refused|Socket closed")
_CHANGING = [  # what differs from run to run
    (re.compile(r"\[?\d+\.\d+\.\d+\.\d+\]?:\d+"), "another process"),
    (re.compile(r"\b(port|pid)(:? )\d+"), r"\1\2..."),
    (re.compile(r"0x[0-9a-fA-F]{6,}"), "0x..."),
    (re.compile(r"^(?:\S*python[\w.]*|run\.py: error|torchrun: error): "), ""),
]
_KILLED = {
    "SIGKILL": "Somebody killed it, or the machine ran out of memory: then take fewer processes or smaller "
    "batches.",
    "SIGTERM": "Somebody stopped it, as a cluster does with a job whose time is up.",
}
_CRASHED = "It crashed in compiled code; .errors[{}] says at which line."
_MEETING = re.compile(r"--(?:nnodes|rdzv|master)")
_NOT_MET = "RendezvousTimeoutError"
_CAUSE, _UNSAID, _EFFECT = 1, 2, 3  # how close to the cause a failed rank is; killed ones are closest, 0


def line_about(agents: list[Agent], attempts: list[dict[int, Rank]], late: bool, timeout: float) -> str:
    """Return the line; "" where every agent ended well."""
    failed = any(agent.code for agent in agents)
    if not late and not failed:
        return ""
    ranks = attempts[-1] if attempts else {}
    culprit = _culprit(ranks)
    if culprit is not None and (failed or _guilt(ranks[culprit]) < _EFFECT):
        again = len(attempts) - 1
        used_up = f", after {again} restart{'s' * (again > 1)}," if again else ""
        return _about_rank(culprit, ranks[culprit], used_up)
    return _about_agent(agents) if failed else _about_waiting(agents, ranks, timeout)


def cause_of(ranks: dict[int, Rank]) -> str:
    """Say why an attempt ended that was followed by a restart; "" where the ranks left no word about it.

    Of several ranks that failed at once torchrun then names one, perhaps not the one that was killed.
    """
    culprit = _culprit(ranks)
    if culprit is None:
        return ""
    silent = [str(number) for number in ranks if not _failed(ranks[number])]
    if silent and _guilt(ranks[culprit]) == _EFFECT:
        return f"rank {', '.join(silent)} was gone without a word, as one is that gets killed."
    return _about_rank(culprit, ranks[culprit])


def _culprit(ranks: dict[int, Rank]) -> int | None:
    """The failed rank that is closest to the cause, the lowest of several."""
    failed = [number for number in sorted(ranks) if _failed(ranks[number])]
    return min(failed, key=lambda number: _guilt(ranks[number]), default=None)


def _failed(rank: Rank) -> bool:
    return bool(rank.code) or bool(_exception(rank.err))


def _guilt(rank: Rank) -> int:
    """The smaller, the closer to the cause: a rank that lost a neighbour, or was told to stop, is none.

    An exception counts more than a crash, since gloo's threads may crash a process that ends with one.
    """
    if rank.code == -9:  # SIGKILL, which Windows does not know
        return 0
    if error := _exception(rank.err):
        return _EFFECT if _LOST.search(error) else _CAUSE
    if rank.code == -signal.SIGTERM:
        return _EFFECT
    return 0 if rank.code and rank.code < 0 else _UNSAID


def _exception(err: str) -> str:
    """The last traceback of a text, from its first line to the end of its message; "" for none."""
    text = _PREFIX.sub("", err)
    found = list(_EXCEPTION.finditer(text))
    if not found:
        return ""
    end = _MORE.match(text, found[-1].end()).end()
    return text[max(text.rfind(_TRACEBACK, 0, found[-1].start()), 0) : end]


def _about_rank(number: int, rank: Rank, used_up: str = "") -> str:
    """Say how a rank ended. A script that cannot be read fails in all of them, so none is named."""
    text = _exception(rank.err)
    if rank.code == -signal.SIGABRT and (late := re.search(NCCL_TIMEOUT, rank.err)):
        meaning = explain(late[0])
        return f"rank {number}{used_up} stopped. {meaning.what} {meaning.fix}"
    if rank.code == -9 or (rank.code and rank.code < 0 and not text):
        name = _signal(-rank.code)
        return f"rank {number}{used_up} was ended by {name}. {_KILLED.get(name, _CRASHED.format(number))}"
    if missing := re.search(r"can't open file '(.+?)': \[Errno 2\]", rank.err):
        name = re.split(r"[\\/]", missing[1])[-1]
        return f"there is no script {name} in this folder. Put it there, or correct the name."
    if not text:
        said = _stable(_last_line(rank.err))
        return f"rank {number}{used_up} ended with exit code {rank.code}. {said}".rstrip()
    error = _stable(_EXCEPTION.findall(text)[-1])
    if unreadable := re.search(
        r'File "([^"]+)", line (\d+)\n(?:.*\n){1,3}(?=(?:Syntax|Indentation|Tab)Error)', text
    ):
        name = re.split(r"[\\/]", unreadable[1])[-1]
        return f"{name} is not Python at line {unreadable[2]}: {error}. Put that line right."
    meaning = explain(text)
    where = f" at: {re.sub(' {2,}', ' ', meaning.lines[0])}" if meaning.lines else ""
    where = re.sub(r"^ at: raise .* (?=\()", " ", where)  # that line says what the message says
    if meaning.known:
        return f"rank {number}{used_up} stopped{where}. {meaning.what} {meaning.fix}"
    return f"rank {number}{used_up} stopped{where}. {error.rstrip('.')}. The whole text: .errors[{number}]."


def _about_waiting(agents: list[Agent], ranks: dict[int, Rank], timeout: float) -> str:
    """Say where the ranks were when the time was up, or that the machines had not even met."""
    if not ranks and not any(_MEETING.search(agent.command) for agent in agents):
        return f"no rank had begun after {timeout:g} s. On a busy machine raise timeout=."
    if not ranks:
        meaning = explain(_NOT_MET)
        return f"{meaning.what} {meaning.fix} Another program on that port has the same effect."
    stood = {number: where_it_stood(rank.err) for number, rank in ranks.items()}
    places = "; ".join(f"rank {number} at: {place}" for number, place in stood.items() if place)
    then = f" Then {places.replace(' at:', ' was at:', 1)}." if places else ""
    return (
        f"not at an end after {timeout:g} s, and stopped.{then} A rank may wait for one that does not come; "
        "if all is only slow, raise timeout=."
    )


def _about_agent(agents: list[Agent]) -> str:
    """Say what torchrun itself complained about."""
    agent = next(agent for agent in agents if agent.code)
    if agent.code < 0:
        name = _signal(-agent.code)
        return f"torchrun itself was ended by {name}, so its ranks were ended, too. {_KILLED.get(name, '')}"
    log = text_of(agent.log)
    text = _exception(log) or _last_line(log)
    meaning = explain(text)
    return (
        f"{meaning.what} {meaning.fix}"
        if meaning.known
        else _stable((_EXCEPTION.findall(text) or [text])[-1])
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _stable(line: str) -> str:
    """Take out of a line what differs from run to run."""
    for pattern, instead in _CHANGING:
        line = pattern.sub(instead, line)
    return line


def _signal(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
