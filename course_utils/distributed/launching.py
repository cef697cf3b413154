"""Starting torchrun, once per command, and waiting for the end within a limit."""

import os
import re
import shlex
import string
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from torch.distributed.elastic.utils.distributed import get_free_port

from course_utils.lessons import CourseError

from .cleanup import MARK, guarded, make_ranks_say_where, own_group

_LAST_ONES = 15.0  # seconds for the other agents once one of them has failed
_WINDOWS = os.name == "nt"
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
SHARING_OFF = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"


@dataclass
class Agent:
    """One torchrun: what it was asked for, and where it writes.

    Attributes:
        command: what stands after `torchrun`, as the reader wrote it.
        folder: the logs of its ranks.
        log: what torchrun itself says.
        code: its exit code; None where it had to be stopped.
    """

    command: str
    folder: Path
    log: Path
    code: int | None = None


def restarts_allowed(command: str) -> bool:
    """Tell whether a command lets torchrun start the ranks again after a failure."""
    return bool(re.search(r"--max[-_]restarts[= ]+[1-9]", command))


def words(command: str, variables: Mapping[str, str]) -> list[str]:
    """Split a command as a shell does, with $NAME filled in; on Windows a backslash is no escape."""
    lexer = shlex.shlex(string.Template(command).safe_substitute(variables), posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    if _WINDOWS:
        lexer.escape = ""
    try:
        return list(lexer)
    except ValueError as error:
        raise CourseError(f"torchrun {command}: {error}. Close the quotation.") from None


def environment(run: str, again: bool) -> dict[str, str]:
    """The variables of a run: this process's, and what makes its output stable and its failures readable."""
    unless_set = {"OMP_NUM_THREADS": "1"}
    if sys.platform in _LOOPBACK:  # nothing leaves the machine: no name server is asked, no firewall asks
        unless_set["GLOO_SOCKET_IFNAME"] = _LOOPBACK[sys.platform]
    if _WINDOWS:  # PyTorch for Windows lacks libuv: https://github.com/pytorch/pytorch/issues/148283
        unless_set["USE_LIBUV"] = "0"
    if again:  # else a restarted rank may read a dead one's address: github.com/pytorch/pytorch/issues/135712
        name, value = SHARING_OFF.split("=")
        unless_set[name] = value
    fixed = {
        MARK: run,
        "LOGLEVEL": "INFO",  # torchrun then says which rank each log belongs to
        "PYTHONFAULTHANDLER": "1",  # a rank that crashes or hangs can say where
        "PYTHON_COLORS": "0",
        "PYTHONIOENCODING": "utf-8",
    }
    if os.environ.get("COURSE_DEVICE") in ("cpu", "virtual"):
        fixed["CUDA_VISIBLE_DEVICES"] = ""  # as in the notebook, no GPU of this machine is used
    return unless_set | os.environ | fixed


def run_agents(
    commands: tuple[str, ...], pythons: list[str], base: Path, timeout: float, port: int | None = None
) -> tuple[list[Agent], bool]:
    """Run the agents of one job at the same time, and end what is left of them.

    Returns:
        the agents with their exit codes, and whether the time was up.
    """
    run, variables = uuid4().hex, os.environ | {"PORT": str(port or get_free_port())}
    limit = max(1, round(timeout / 4))
    conf = f"join_timeout={limit},timeout={limit},read_timeout={limit}"
    # options of the reader's own come later, so they win
    options = ["--redirects", "3", "--local-addr", "127.0.0.1", "--rdzv-conf", conf, "--log-dir"]
    agents, lines = [], []
    for number, (command, python) in enumerate(zip(commands, pythons, strict=True)):
        agents.append(Agent(command, base / f"agent{number}", base / f"agent{number}.log"))
        torchrun = [python, "-m", "torch.distributed.run", *options, str(agents[-1].folder)]
        lines.append(torchrun + words(command, variables))
    with guarded(run):
        processes = []
        for agent, line in zip(agents, lines, strict=True):
            env = environment(run, restarts_allowed(agent.command))
            streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
            with agent.log.open("wb") as log:
                processes.append(subprocess.Popen(line, stdout=log, env=env, **streams, **own_group()))
        late = not _all_end(processes, timeout)
        for agent, process in zip(agents, processes, strict=True):
            agent.code = process.poll()
        if late:
            make_ranks_say_where([process.pid for process in processes if process.returncode is None])
    return agents, late


def _all_end(processes: list[subprocess.Popen], timeout: float) -> bool:
    """Wait for all agents; once one has failed the others get a few seconds. False: the time was up."""
    deadline = time.monotonic() + timeout
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            deadline = min(deadline, time.monotonic() + _LAST_ONES)
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
