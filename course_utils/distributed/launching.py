"""Starting torchrun, once per command, and waiting for the end within a limit."""

import os
import re
import shlex
import socket
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from course_utils.lessons import CourseError
from course_utils.machine.system import text_of

from .cleanup import MARK, end_all, make_them_say_where, own_group, start_guard

_LAST_ONES = 15.0  # seconds for the other agents once one of them has failed
_WINDOWS = os.name == "nt"
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
_START = 20.0  # seconds for torchrun itself to start, on a busy machine
_MET = "Rendezvous complete"
SHARING_OFF = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"


@dataclass(frozen=True)
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


def free_port() -> int:
    """Return a port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(run: str, again: bool) -> dict[str, str]:
    """The variables of a run: this process's, and what makes its output stable and its failures readable."""
    fixed = {
        MARK: run,
        "LOGLEVEL": "INFO",  # torchrun then says which rank each log belongs to
        "PYTHONFAULTHANDLER": "1",  # a rank that crashes or hangs can say where
        "PYTHON_COLORS": "0",
        "PYTHONIOENCODING": "utf-8",
    }
    unless_set = {"OMP_NUM_THREADS": "1"}
    if sys.platform in _LOOPBACK:  # nothing leaves the machine: no name server is asked, no firewall asks
        unless_set["GLOO_SOCKET_IFNAME"] = _LOOPBACK[sys.platform]
    if _WINDOWS:  # PyTorch for Windows lacks libuv: https://github.com/pytorch/pytorch/issues/148283
        unless_set["USE_LIBUV"] = "0"
    if again:  # else a restarted rank may read a dead one's address: github.com/pytorch/pytorch/issues/135712
        name, value = SHARING_OFF.split("=")
        unless_set[name] = value
    if os.environ.get("COURSE_DEVICE") in ("cpu", "virtual"):
        fixed["CUDA_VISIBLE_DEVICES"] = ""  # as in the notebook, no GPU of this machine is used
    return unless_set | os.environ | fixed


def arguments(command: list[str], folder: Path, python: str, join_timeout: float) -> list[str]:
    """The whole command line of one agent. Options of the reader's own come later, so they win."""
    limit = max(1, round(join_timeout))
    conf = f"join_timeout={limit},timeout={limit},read_timeout={limit}"
    own = ["--redirects", "3", "--log-dir", str(folder), "--local-addr", "127.0.0.1", "--rdzv-conf", conf]
    return [python, "-m", "torch.distributed.run", *own, *command]


def run_agents(
    commands: tuple[str, ...],
    pythons: list[str],
    base: Path,
    timeout: float,
    join_timeout: float,
    port: int | None = None,
) -> tuple[list[Agent], bool]:
    """Run the agents of one job at the same time, and end what is left of them.

    Returns:
        the agents with their exit codes, and whether the time was up.
    """
    run = uuid4().hex
    variables = os.environ | {"PORT": str(port or free_port())}
    agents = [Agent(c, base / f"agent{i}", base / f"agent{i}.log") for i, c in enumerate(commands)]
    with _guarded(run):
        lines = [
            arguments(words(agent.command, variables), agent.folder, python, join_timeout)
            for agent, python in zip(agents, pythons, strict=True)
        ]
        processes = [_start(agent, line, run) for agent, line in zip(agents, lines, strict=True)]
        late = not _all_end(processes, timeout, join_timeout + _START, [agent.log for agent in agents])
        codes = [process.poll() for process in processes]
        if late:
            make_them_say_where(run, [process.pid for process in processes])
    return [Agent(a.command, a.folder, a.log, code) for a, code in zip(agents, codes, strict=True)], late


def _start(agent: Agent, line: list[str], run: str) -> subprocess.Popen:
    """Start one agent; what it says goes to its log."""
    env = environment(run, restarts_allowed(agent.command))
    with agent.log.open("wb") as log:
        return subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, **own_group()
        )


@contextmanager
def _guarded(run: str) -> Iterator[None]:
    """Leave no process of a run behind: not at its end, not at Ctrl-C, not when this process is killed."""
    guard = start_guard(run)
    try:
        yield
    finally:
        try:
            end_all(run)
        finally:
            guard.stdin.close()  # if a second Ctrl-C came, it does what was left to do
            guard.wait()


def _all_end(processes: list[subprocess.Popen], timeout: float, meeting: float, logs: list[Path]) -> bool:
    """Wait for all agents; once one has failed the others get a few seconds. False: they did not end in time.

    They have `meeting` seconds to find each other: a port that answers nothing holds torchrun for ever.
    """
    began = time.monotonic()
    deadline, failed, met = began + timeout, False, False
    while any(process.poll() is None for process in processes):
        now = time.monotonic()
        if not failed and any(process.poll() for process in processes):
            failed, deadline = True, min(deadline, now + _LAST_ONES)
        if not met and now > began + meeting:
            met = all(_MET in text_of(log) for log in logs)
            deadline = deadline if met else now
        if now >= deadline:
            return False
        time.sleep(0.05)
    return True
