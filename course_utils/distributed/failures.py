"""One clear line about a run that failed: what happened, and what to do. It is the same each time.

What failures look like, and what is said about them, stands in `failures.toml`.
"""

import linecache
import re
import signal
import tomllib
from pathlib import Path, PureWindowsPath

from course_utils.errors import explain, is_own
from course_utils.errors.known import NCCL_TIMEOUT

from .launching import Agent, Rank

_KNOWN = tomllib.loads(Path(__file__).with_name("failures.toml").read_text(encoding="utf-8"))
_PATTERNS = {name: re.compile(text, re.MULTILINE) for name, text in _KNOWN["patterns"].items()}
_SIGNALS, _TEXTS = _KNOWN["signals"], _KNOWN["texts"]
_KILLED, _CAUSE, _UNSAID, _EFFECT, _NO_FAILURE = range(5)  # how close to the cause a rank is


def line_about(agents: list[Agent], attempts: list[dict[int, Rank]], timeout: float) -> str:
    """Return the line; "" where every agent ended well."""
    if all(agent.code == 0 for agent in agents):
        return ""
    failed, ranks = any(agent.code for agent in agents), attempts[-1] if attempts else {}
    culprit = min(ranks, key=lambda number: (_guilt(ranks[number]), number), default=None)
    if culprit is not None and _guilt(ranks[culprit]) < (_NO_FAILURE if failed else _EFFECT):
        again = len(attempts) - 1
        used_up = f", after {again} restart{'s' * (again > 1)}," if again else ""
        return _about_rank(f"rank {culprit}{used_up}", culprit, ranks[culprit])
    return _about_agent(agents) if failed else _about_waiting(agents, ranks, timeout)


def _guilt(rank: Rank) -> int:
    """The smaller, the closer to the cause: a rank that lost a neighbour, or was told to stop, is none.

    An exception counts more than a crash, since gloo's threads may crash a process that ends with one.
    """
    if rank.code == -9:  # SIGKILL, which Windows does not know
        return _KILLED
    if error := _exception(rank.err):
        return _EFFECT if _PATTERNS["lost"].search(error) else _CAUSE
    if not rank.code:
        return _NO_FAILURE
    if rank.code == -signal.SIGTERM:
        return _EFFECT
    return _KILLED if rank.code < 0 else _UNSAID


def _exception(err: str) -> str:
    """The last traceback of a text, from its first line to the end of its message; "" for none."""
    text = _PATTERNS["said_by_rank"].sub("", err)
    found = list(_PATTERNS["exception"].finditer(text))
    if not found:
        return ""
    end = _PATTERNS["more"].match(text, found[-1].end()).end()
    return text[max(text.rfind("Traceback (most recent call last)", 0, found[-1].start()), 0) : end]


def _about_rank(who: str, number: int, rank: Rank) -> str:
    """Say how a rank ended. A script that cannot be read fails in all of them, so none is named."""
    text = _exception(rank.err)
    if rank.code == -signal.SIGABRT and (late := re.search(NCCL_TIMEOUT, rank.err)):
        return _TEXTS["known"].format(who=who, where="", meaning=_meaning(late[0]))
    if rank.code == -9 or (rank.code and rank.code < 0 and not text):
        name = signal.Signals(-rank.code).name
        why = _SIGNALS.get(name, _TEXTS["crashed"].format(number=number))
        return _TEXTS["ended_by_signal"].format(who=who, signal=name, why=why)
    if missing := _PATTERNS["no_script"].search(rank.err):
        return _TEXTS["no_script"].format(name=PureWindowsPath(missing[1]).name)  # it knows / as well
    error = _last_line(text or rank.err)
    if not text:
        return _TEXTS["exit_code"].format(who=who, code=rank.code, said=error).rstrip()
    if unreadable := _PATTERNS["not_python"].search(text):
        name = PureWindowsPath(unreadable[1]).name
        return _TEXTS["not_python"].format(name=name, line=unreadable[2], error=error)
    lines = explain(text).lines
    where = f" at: {re.sub(' {2,}', ' ', lines[0])}" if lines else ""
    where = re.sub(r"^ at: raise .* (?=\()", " ", where)  # that line says what the message says
    if meaning := _meaning(text):
        return _TEXTS["known"].format(who=who, where=where, meaning=meaning)
    return _TEXTS["unknown"].format(who=who, where=where, error=error.rstrip("."), number=number)


def about_code(code: int) -> str:
    """Say how a process ended that left no words of its own, by its exit code as Python has it."""
    if code == -signal.SIGTERM:
        return _TEXTS["ended_with_others"]
    if code >= 0:
        return _TEXTS["exit_code"].format(who="It", code=code, said="").rstrip()
    name = signal.Signals(-code).name
    return _TEXTS["ended_by_signal"].format(who="It", signal=name, why=_SIGNALS.get(name, "")).rstrip()


def _about_waiting(agents: list[Agent], ranks: dict[int, Rank], timeout: float) -> str:
    """Say where the ranks were when the time was up, or that the machines had not even met."""
    if not ranks and not any(_PATTERNS["meeting"].search(agent.command) for agent in agents):
        return _TEXTS["none_began"].format(timeout=timeout)
    if not ranks:
        return _TEXTS["not_met"].format(meaning=_meaning("RendezvousTimeoutError"))
    stood = {number: _where_it_stood(rank.err) for number, rank in ranks.items()}
    places = "; ".join(f"rank {number} at: {place}" for number, place in stood.items() if place)
    places = f" Then {places.replace(' at:', ' was at:', 1)}." if places else ""
    return _TEXTS["late"].format(timeout=timeout, places=places)


def _where_it_stood(err: str) -> str:
    """Return the deepest of the reader's lines, as in "dist.barrier() (train.py, line 9)"; "" if unknown.

    Python's fault handler wrote them when the rank was made to say where it stood.
    """
    _, found, after = err.rpartition("Fatal Python error: Aborted")
    threads = after.split("(most recent call first):\n") if found else [""]  # the main thread comes last
    for file, line in _PATTERNS["frame"].findall(threads[-1]):
        if is_own(file) and not file.startswith("<"):
            source = linecache.getline(file, int(line)).strip() or "(source not at hand)"
            return f"{source} ({Path(file).name}, line {line})"
    return ""


def _about_agent(agents: list[Agent]) -> str:
    """Say what torchrun itself complained about."""
    agent = next(agent for agent in agents if agent.code)
    if agent.code < 0:
        name = signal.Signals(-agent.code).name
        return _TEXTS["torchrun_ended"].format(signal=name, why=_SIGNALS.get(name, ""))
    if _PATTERNS["no_ranks"].search(agent.said):
        return _TEXTS["no_ranks"]
    text = _exception(agent.said) or _last_line(agent.said)
    return _meaning(text) or _last_line(text)


def _meaning(text: str) -> str:
    """Say what a known error means and what to do; "" for others."""
    meaning = explain(text)
    return f"{meaning.what} {meaning.fix}" if meaning.known else ""


def _last_line(text: str) -> str:
    """Return the first line of the last exception's message, or else the last line; as it is in every run."""
    line = (_PATTERNS["exception"].findall(text) or text.strip().splitlines() or [""])[-1]
    for pattern, instead in _KNOWN["changing"].items():
        line = re.sub(pattern, instead, line)
    return line
