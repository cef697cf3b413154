"""What torchrun and its ranks have written: which rank in which attempt, its stdout, stderr and exit code."""

import re
from dataclasses import dataclass

from .launching import Agent, text_of

_ROUND = re.compile(r"restart_count=(\d+)\n(?:.*\n)*?.*global_ranks=\[([\d, ]*)\]")
_FIRST = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
_SUMMARY = re.compile(r"rank +: (\d+) \(local_rank: \d+\)\n +exitcode +: (-?\d+)")


@dataclass(frozen=True)
class Rank:
    """What one rank did in one attempt.

    Attributes:
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        code: its exit code, where torchrun names it; minus the signal's number where one ended it.
    """

    out: str
    err: str
    code: int | None = None


def read_attempts(agents: list[Agent]) -> list[dict[int, Rank]]:
    """Return the ranks of each attempt, in order.

    An agent whose own ranks did not fail restarts them into the same folder, so of its earlier attempts
    nothing is left.
    """
    attempts: list[dict[int, Rank]] = []
    for agent in agents:
        log = text_of(agent.log)
        last = dict(_SUMMARY.findall(log))
        places = {}  # folder -> the attempt that used it last, its ranks, what torchrun said then
        rounds = list(_ROUND.finditer(log))
        for number, found in enumerate(rounds):
            end = rounds[number + 1].start() if number + 1 < len(rounds) else len(log)
            places[found[1]] = number, found[2].split(", "), log[found.end() : end]
        attempts += [{} for _ in range(len(rounds) - len(attempts))]
        for restart, (number, ranks, said) in places.items():
            first = {local: code for code, local in _FIRST.findall(said)}
            for local, rank in enumerate(ranks):
                folder = next(agent.folder.glob(f"*/attempt_{restart}/{local}"), agent.folder)
                code = (last if number == len(rounds) - 1 else {}).get(rank) or first.get(str(local))
                out, err = text_of(folder / "stdout.log"), text_of(folder / "stderr.log")
                attempts[number][int(rank)] = Rank(out, err, None if code is None else int(code))
    return [dict(sorted(attempt.items())) for attempt in attempts]
