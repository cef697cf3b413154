"""What torchrun and its ranks have written: which rank in which attempt, its stdout, stderr and exit code."""

import re
from dataclasses import dataclass

from course_utils.machine.system import text_of

from .launching import Agent

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
        _, *pieces = _ROUND.split(text_of(agent.log))
        rounds = list(zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True))
        attempts += [{} for _ in range(len(rounds) - len(attempts))]
        last_use = {restart: number for number, (restart, _, _) in enumerate(rounds)}  # of a folder
        for restart, number in last_use.items():
            _, ranks, said = rounds[number]
            first = {local: code for code, local in _FIRST.findall(said)}
            all_failed = dict(_SUMMARY.findall(said))  # which torchrun lists at the very end
            for local, rank in enumerate(ranks.split(", ")):
                folder = next(agent.folder.glob(f"*/attempt_{restart}/{local}"), agent.folder)
                code = all_failed.get(rank) or first.get(str(local))
                out, err = text_of(folder / "stdout.log"), text_of(folder / "stderr.log")
                attempts[number][int(rank)] = Rank(out, err, None if code is None else int(code))
    return [dict(sorted(attempt.items())) for attempt in attempts]
