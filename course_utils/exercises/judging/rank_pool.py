"""Processes that answers of lesson 07 are tried on: started once, then reused. The judge passes on messages.

`with judged_ranks() as ranks: reports = ranks.run(3, trial, answer, ...)` calls `trial(answer, ...)` in three
processes, in which `torch.distributed` is initialised. What goes wrong there has its own hint.
"""

import contextlib
import linecache
import os
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..engine import wrong
from .carrying import pack
from .rank_processes import Processes, end_ranks, running

PATIENCE = 20.0  # seconds without a word from any rank, until they are ended


@dataclass
class Report:
    """What came of a trial on one rank.

    Attributes:
        status: "returned", "raised", or "unanswered" where it waited in a collective that others left out.
        value: what the trial returned.
        calls: the collectives' names, and the bytes that the rank sends for each, as in `JudgedGroup`.
        error, places: of an error its text, and (file, line) for the calls that led to it.
        printed: what the answer printed.
        waits: the collective that it waited in, in words.
    """

    status: str
    value: Any = None
    calls: list[tuple[str, float]] = field(default_factory=list)
    error: str = ""
    places: list[tuple[str, int]] = field(default_factory=list)
    printed: str = ""
    waits: str = ""


class Ranks:
    """Runs trials for one judge."""

    def __init__(self) -> None:
        self._quiet = False

    def run(self, world: int, trial: Callable[..., Any], answer: Any, *given: Any) -> list[Report]:
        """Run `trial(answer, *given)` on `world` ranks; return what came of it, by rank.

        Raises:
            NotYet: where the answer raised, where ranks do not meet, or where one crashed or came to no end.
        """
        try:
            data = pack((trial, answer, given))
        except Exception as error:
            wrong("carry", "The check runs your code in other processes, and something that it uses cannot "
                  f"be sent there ({str(error)[:120]}). Make that inside of your function.")  # fmt: skip
        processes = running()
        for rank in range(world):
            processes.send(rank, (rank, world, data))
        reports = _attend(processes, world)
        self._show(reports)
        _complain(reports)
        return reports

    def _show(self, reports: list[Report]) -> None:
        """Show what the answer printed, the first time."""
        for rank, report in enumerate([] if self._quiet else reports):
            for line in report.printed.splitlines()[:20]:
                print(f"[rank {rank}] {line}")
        self._quiet = True


@contextlib.contextmanager
def judged_ranks() -> Iterator[Ranks]:
    """Yield what runs trials; where the reader interrupts, the processes are ended."""
    try:
        yield Ranks()
    except BaseException as error:
        if not isinstance(error, Exception):
            end_ranks()
        raise


def _attend(processes: Processes, world: int) -> list[Report]:
    """Pass on what ranks bring to collectives, until each has ended its trial."""
    waiting: dict[int, tuple[tuple[Any, ...], bytes]] = {}
    holding: set[int] = set()
    vain: dict[int, str] = {}
    reports: dict[int, Report] = {}
    while len(reports) < world:
        rank, (kind, *content) = _hear(processes, set(range(world)) - set(reports) - set(waiting))
        if kind == "meet":
            waiting[rank] = tuple(content)
        elif kind == "hold":
            holding.add(rank)
        else:
            reports[rank] = Report(**content[0], waits=vain.get(rank, ""))
        if len(waiting) + len(reports) + len(holding) < world:
            continue  # some are at work
        if holding:
            for number in holding:
                processes.send(number, True)
            holding.clear()
            continue
        said = {what for what, _ in waiting.values()}
        every = [data for _, (_, data) in sorted(waiting.items())]
        alone = bool(reports) or len(said) > 1  # some have left already, or they come to different things
        for number, (what, _) in waiting.items():
            vain |= {number: _in_words(what)} if alone else {}
            processes.send(number, None if alone else every)
        waiting.clear()
    return [reports[rank] for rank in range(world)]


def _hear(processes: Processes, busy: set[int]) -> tuple[int, tuple[Any, ...]]:
    """Return what a rank says next; where nothing comes, end all and say who is to blame."""
    try:
        number, message = processes.heard.get(timeout=PATIENCE)
    except queue.Empty:
        end_ranks()
        wrong("endless", f"{_named(busy)} came to no end, nor to a collective, within {PATIENCE:.0f} s. Is "
              "there a loop that does not end? They were ended; the next check starts new ones.")  # fmt: skip
    if message == ("gone",):
        end_ranks()
        wrong("crash", f"The process of rank {number} ended while your code ran there. "
              "The others were ended, too; the next check starts new ones.")  # fmt: skip
    return number, message


def _complain(reports: list[Report]) -> None:
    """Say why ranks did not come to the end of a trial."""
    for rank, report in enumerate(reports):
        if report.status == "raised":
            wrong("raises", f"On rank {rank} of {len(reports)} your code raised {_place(report)}")
    waits = {rank: report.waits for rank, report in enumerate(reports) if report.status == "unanswered"}
    if not waits:
        return
    there = [f"rank {rank} in {what}" for rank, what in waits.items()]
    if len(waits) == len(reports):
        wrong("different", f"The ranks wait for each other in different collectives: {'; '.join(there)}. "
              "All of them must call the same, on tensors of one size.")  # fmt: skip
    away = _named(set(range(len(reports))) - set(waits))
    wrong("never_comes", f"Of {len(reports)} ranks, {'; '.join(there)} would wait for ever: {away} came to "
          "the end without it. Every rank has to come to every collective.")  # fmt: skip


def _place(report: Report) -> str:
    """Say what was raised, and in which of the reader's lines: those that no file on the disk has."""
    lines = [
        linecache.getline(file, line).strip() for file, line in report.places if not os.path.exists(file)
    ]
    kind, _, text = report.error.partition(": ")
    return f"{kind}{next((f' in the line {line!r}' for line in reversed(lines) if line), '')}: {text}"


def _named(ranks: set[int]) -> str:
    return ("Rank " if len(ranks) == 1 else "Ranks ") + " and ".join(map(str, sorted(ranks)))


def _in_words(what: tuple[Any, ...]) -> str:
    """Say a collective as in "all_reduce of (3,) float32"."""
    name, *more = what
    tensors = [str(item) for item in more if str(item).startswith("(")]
    return name + (f" of {', '.join(tensors[:2])}{' ...' if len(tensors) > 2 else ''}" if tensors else "")
