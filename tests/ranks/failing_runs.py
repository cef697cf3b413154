"""Runs of torchrun that fail (failing_runs.toml): started, stored, and acted again from what is stored.

`python tools/authors record-failures` stores them as recorded/VERSION/NAME.json. test_failures.py reads what
is stored for each version of PyTorch, and meets each kind of failure once for real.
"""

import json
import socket
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from authors.canonical import scrub

import course_utils
from course_utils.distributed import Torchrun, run_agents
from course_utils.distributed.launching import Agent
from course_utils.machine.system import text_of

RECORDED = Path(__file__).with_name("recorded")
HEAD = """\
import os, sys
rank = int(os.environ["RANK"])
"""
_HERE, _LOGS = "<here>", "<logs>"  # the script's folder, and the one that torchrun writes to
_LIBRARY = 'File "python3/'  # as scrubbing leaves it


@dataclass(frozen=True)
class Failing:
    """One run that fails.

    Attributes:
        name: of the case, and of the file that holds a recording of it.
        says: the line about it, as a regular expression for its beginning.
        script: the script's lines after HEAD, which take up two.
        command: what is started.
        agents: how many machines start it.
        timeout: seconds for the run; none of those that fail by themselves comes near the usual ones.
        port_taken: $PORT is a port that somebody else holds.
        takes: a script of the course that lies beside it; "" for none.
    """

    name: str
    says: str
    script: str = ""
    command: str = "--standalone --nproc-per-node 2 script.py"
    agents: int = 1
    timeout: float = 120
    port_taken: bool = False
    takes: str = ""

    def asks(self) -> dict[str, Any]:
        """What a recording depends on; the line about it may change, it is made anew each time."""
        return {name: value for name, value in asdict(self).items() if name != "says"}

    def write_script(self, folder: Path) -> None:
        """Put what is started into a folder."""
        folder.mkdir(exist_ok=True)
        (folder / "script.py").write_text(HEAD + self.script, encoding="utf-8")

    def start(self) -> Torchrun:
        """Run it in the current folder."""
        self.write_script(Path.cwd())
        if self.takes:
            course_utils.take_home(self.takes)
        with port_taken() as taken:
            command = self.command.replace("$PORT", str(taken)) if self.port_taken else self.command
            return course_utils.torchrun(*[command] * self.agents, timeout=self.timeout)


_TABLE = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
BY_NAME = {case["name"]: Failing(**case) for case in tomllib.loads(_TABLE)["case"]}


@contextmanager
def port_taken() -> Iterator[int]:
    """Hold a port, and answer nobody."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def record_all(names: list[str], python: str = sys.executable) -> None:
    """Store the named cases, all by default, as they end with an interpreter's PyTorch.

    Raises ValueError for an unknown name.
    """
    if unknown := set(names) - set(BY_NAME):
        raise ValueError(f"no case is named {', '.join(sorted(unknown))}; see tests/ranks/failing_runs.toml")
    ask = [python, "-c", "import torch; print(torch.__version__)"]
    version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip().partition("+")[0]
    folder = RECORDED / version
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or BY_NAME:
        text = json.dumps(record(BY_NAME[name], python), indent=1) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def record(case: Failing, python: str) -> dict[str, Any]:
    """Run a case, and return what is to be stored."""
    stored: dict[str, Any] = {"case": case.asks()}

    def run_and_keep(commands: tuple[str, ...], base: Path, timeout: float) -> list[Agent]:
        agents = run_agents(commands, base, timeout)
        stored.update(codes=[agent.code for agent in agents], files=_texts(base, python))
        return agents

    kept = mock.patch("course_utils.distributed.run_agents", run_and_keep)
    torchrun = (python, "-m", "torch.distributed.run")
    theirs = mock.patch("course_utils.distributed.launching._TORCHRUN", torchrun)
    with tempfile.TemporaryDirectory() as folder, chdir(folder), kept, theirs:
        case.start()
    return stored


def _texts(base: Path, python: str) -> dict[str, list[str]]:
    """The lines of each file that torchrun has written, without what only this machine has."""
    own = {str(base): _LOGS, str(Path.cwd()): _HERE, python: "python", socket.gethostname(): "localhost"}
    found = {}
    for path in sorted(base.rglob("*.log")):
        text = _replace(path.read_text(encoding="utf-8", errors="replace"), own)
        if text:
            found[path.relative_to(base).as_posix()] = scrub(text).split("\n")
    return found


def _replace(text: str, pairs: dict[str, str]) -> str:
    for old, new in pairs.items():
        text = text.replace(old, new)
    return text


def replay(stored: dict[str, Any]) -> Callable[..., list[Agent]]:
    """What stands for run_agents: it writes what a run wrote that is stored, as if it had been here."""

    def run_again(commands: tuple[str, ...], base: Path, _timeout: float) -> list[Agent]:
        library = Path(sysconfig.get_path("stdlib")).as_posix()
        here = {_LOGS: str(base), _HERE: str(Path.cwd()), _LIBRARY: f'File "{library}/'}
        for name, lines in stored["files"].items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_text(_replace("\n".join(lines), here), encoding="utf-8", newline="")
        return [
            Agent(command, base / f"agent{number}", text_of(base / f"agent{number}.log"), code)
            for number, (command, code) in enumerate(zip(commands, stored["codes"], strict=True))
        ]

    return run_again
