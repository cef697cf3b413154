"""Starting torchrun, once per command, waiting for the end within a limit, and reading what was written."""

import os
import re
import shlex
import string
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from torch.distributed.elastic.utils.distributed import get_free_port

from course_utils.lessons import CourseError
from course_utils.machine.system import text_of
from course_utils.virtual.startup.sitecustomize import SETTINGS

from .cleanup import MARK, OWN_GROUP, guarded, make_ranks_say_where

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
_LAST_ONES = 15.0  # seconds for the other agents once one of them has failed
_WINDOWS = os.name == "nt"
SHARING_OFF = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
_ROUND = re.compile(r"restart_count=(\d+)\n(?:.*\n)*?.*global_ranks=\[([\d, ]*)\]")
_FIRST = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
_SUMMARY = re.compile(r"rank +: (\d+) \(local_rank: \d+\)\n +exitcode +: (-?\d+)")


class Agent(NamedTuple):
    """One torchrun that has ended, or whose time was up.

    Attributes:
        command: what stands after `torchrun`, as the reader wrote it.
        folder: the logs of its ranks.
        said: what torchrun itself wrote.
        code: its exit code; None where the time was up.
    """

    command: str
    folder: Path
    said: str
    code: int | None = None


class Rank(NamedTuple):
    """What one rank did in one attempt.

    Attributes:
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        code: its exit code, where torchrun names it; minus the signal's number where one ended it.
    """

    out: str
    err: str
    code: int | None = None


def restarts_allowed(command: str) -> bool:
    """Tell whether a command lets torchrun start the ranks again after a failure."""
    return bool(re.search(r"--max[-_]restarts[= ]+[1-9]", command))


def words(command: str, variables: Mapping[str, str]) -> list[str]:
    """Split a command as a shell does, with $NAME filled in; on Windows a backslash is no escape."""
    line = string.Template(command).safe_substitute(variables)
    try:
        return shlex.split(line.replace("\\", r"\\") if _WINDOWS else line)
    except ValueError as error:
        raise CourseError(f"{command}: {error}. Close the quotation.") from None


def environment(run: str, again: bool) -> dict[str, str]:
    """The variables of a run: this process's, its virtual GPUs among them, and for output one can read."""
    unless_set = {"OMP_NUM_THREADS": "1"}
    if _WINDOWS:  # PyTorch for Windows lacks libuv: https://github.com/pytorch/pytorch/issues/148283
        unless_set["USE_LIBUV"] = "0"
    else:  # nothing leaves the machine: no name server is asked, no firewall asks
        unless_set["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    if again:  # else a restarted rank may read a dead one's address: github.com/pytorch/pytorch/issues/135712
        unless_set |= [SHARING_OFF.split("=")]
    fixed = {
        MARK: run,
        "LOGLEVEL": "INFO",  # torchrun then says which rank each log belongs to
        "PYTHONFAULTHANDLER": "1",  # a rank that crashes or hangs can say where
        "PYTHON_COLORS": "0",
        "PYTHONIOENCODING": "utf-8",
    }
    made = unless_set | os.environ | fixed
    if SETTINGS in made:
        made.pop("CUDA_VISIBLE_DEVICES", None)  # it is about the GPUs of this machine
    elif os.environ.get("COURSE_DEVICE") in ("cpu", "virtual"):
        made["CUDA_VISIBLE_DEVICES"] = ""  # as in the notebook, no GPU of this machine is used
    return made


def run_agents(commands: tuple[str, ...], base: Path, timeout: float) -> list[Agent]:
    """Run the agents of one job at the same time, and end what is left of them; return them as they ended."""
    run, variables = uuid4().hex, os.environ | {"PORT": str(get_free_port())}
    limit = max(1, round(timeout / 4))
    conf = f"join_timeout={limit},timeout={limit},read_timeout={limit}"
    # options of the reader's own come later, so they win
    options = ["--redirects", "3", "--local-addr", "127.0.0.1", "--rdzv-conf", conf, "--log-dir"]
    streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    folders, processes = [base / f"agent{number}" for number in range(len(commands))], []
    with guarded(run):
        for folder, command in zip(folders, commands, strict=True):
            line = [*TORCHRUN, *options, str(folder), *words(command, variables)]
            env = environment(run, restarts_allowed(command))
            with folder.with_suffix(".log").open("wb") as log:
                processes.append(subprocess.Popen(line, stdout=log, env=env, **streams, **OWN_GROUP))
        _wait(processes, timeout)
        codes = [process.poll() for process in processes]
        make_ranks_say_where([process.pid for process in processes if process.returncode is None])
    said = [text_of(folder.with_suffix(".log")) for folder in folders]
    return list(map(Agent, commands, folders, said, codes))


def _wait(processes: list[subprocess.Popen], timeout: float) -> None:
    """Wait for all agents until the time is up; once one has failed the others get a few seconds."""
    deadline = time.monotonic() + timeout
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        if any(process.poll() for process in processes):
            deadline = min(deadline, time.monotonic() + _LAST_ONES)
        time.sleep(0.05)


def read_attempts(agents: list[Agent]) -> list[dict[int, Rank]]:
    """Return the ranks of each attempt, in order.

    An agent whose own ranks did not fail restarts them into the same folder, so of its earlier attempts
    nothing is left.
    """
    attempts: list[dict[int, Rank]] = []
    for agent in agents:
        _, *pieces = _ROUND.split(agent.said)
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
