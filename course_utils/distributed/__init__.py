"""`torchrun` from a cell: the same command as in a terminal, with each rank's output in order.

    result = course_utils.torchrun("--standalone --nproc-per-node 2 train_ddp.py --epochs 3")

A script that uses several processes must be a file, and must not run in the notebook's own process. This
starts it, waits, shows what each rank has printed, and in one line why it failed, if it did.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from course_utils.lessons import CourseError

from .failures import line_about
from .launching import SHARING_OFF, read_attempts, restarts_allowed, run_agents

_PAGE = 100_000  # characters of a rank that are printed


@dataclass(frozen=True, repr=False)
class Torchrun:
    """What became of a run. It is printed when the run ends, so it shows little by itself.

    Attributes:
        ok: every rank came to its end.
        restarts: how often torchrun started the ranks again.
        ranks: what each rank printed (its stdout) in the last attempt.
        errors: what each rank wrote to stderr in the last attempt: warnings, progress bars, the traceback.
        attempts: what each rank printed in each attempt, the last one included.
        error: what happened and what to do, in one line; "" where nothing failed.
    """

    ok: bool
    restarts: int
    ranks: dict[int, str]
    errors: dict[int, str]
    attempts: list[dict[int, str]]
    error: str

    def __repr__(self) -> str:
        return f"<torchrun: {len(self.ranks)} ranks, {'ok' if self.ok else 'failed'}>"


def torchrun(*commands: str, timeout: float = 120) -> Torchrun:
    """Run what stands after `torchrun` in a terminal, and print what each rank has printed, rank by rank.

    Several commands are several machines' commands, started here at the same time. `$PORT` in a command is a
    free port, the same for all of them, and other variables are filled in as by a shell. A run that fails
    raises nothing: it prints one line that says what happened and what to do. No process is left behind.
    Where virtual GPUs are on, each rank has as many of its own. With `--max-restarts` the variable printed
    before the command gives each start a store of its own. On Windows, without libuv, USE_LIBUV=0 is set.

    Args:
        commands: as in "--standalone --nproc-per-node 2 train_ddp.py"; the script is looked for in the
            current folder.
        timeout: seconds for the whole run. What is still running then is stopped, and the line says where.
            All machines have to come within a quarter of that, or what a command's own --rdzv-conf says.

    Raises:
        CourseError: no command, or an open quotation.
    """
    if not commands:
        example = 'torchrun("--standalone --nproc-per-node 2 script.py")'
        raise CourseError(f"torchrun() got no command. Write what follows torchrun in a terminal: {example}")
    commands = tuple(command.strip().removeprefix("torchrun ") for command in commands)
    for command in commands:
        print(f"$ {SHARING_OFF + ' ' if restarts_allowed(command) else ''}torchrun {command}", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            agents = run_agents(commands, Path(folder), timeout)
        except KeyboardInterrupt:
            print("torchrun was interrupted; its processes are ended.", flush=True)
            raise
        attempts = read_attempts(agents)
        error = line_about(agents, attempts, timeout)
    latest = {number: rank for attempt in attempts for number, rank in attempt.items()}
    result = Torchrun(
        ok=not error,
        restarts=max(0, len(attempts) - 1),
        ranks={number: latest[number].out for number in sorted(latest)},
        errors={number: latest[number].err for number in sorted(latest)},
        attempts=[{number: rank.out for number, rank in attempt.items()} for attempt in attempts],
        error=error,
    )
    _report(result)
    return result


def _shortened(text: str) -> str:
    """Leave out the middle of a text that would flood the page."""
    left_out = len(text) - _PAGE
    if left_out <= 0:
        return text
    half = _PAGE // 2
    return f"{text[:half]}\n... {left_out:,} characters, in .ranks of the result ...\n{text[-half:]}"


def _report(result: Torchrun) -> None:
    """Print each rank's lines, attempt by attempt, and the line about the failure."""
    for number, ranks in enumerate(result.attempts):
        if number:
            print(f"--- restart {number}: torchrun starts all ranks again ---")
        for rank, text in ranks.items():
            for line in _shortened(text).splitlines():
                print(f"[rank {rank}] {line}")
    if result.error:
        print(f"torchrun failed: {result.error}")
