"""Store what torchrun and its ranks write when a run fails, so that the tests can read it without a run.

    python tools/record_failures.py [--python PATH] [NAMES]

Runs the cases of tools/failing_runs.py, or those that are named, with the PyTorch of that interpreter (of
this one by default), and writes tests/ranks/recorded/VERSION/NAME.json. Takes some two minutes. Do it when a
case has changed, and for each new version of PyTorch; what was recorded with an older one stays.
"""

import argparse
import json
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from failing_runs import BY_NAME, Failing, start
from project import ROOT
from scrubbing import scrub

from course_utils.distributed import run_agents
from course_utils.distributed.launching import Agent

RECORDED = ROOT / "tests" / "ranks" / "recorded"
_HERE, _LOGS = "<here>", "<logs>"  # the script's folder, and the one that torchrun writes to
_LIBRARY = 'File "python3/'  # as scrubbing leaves it
Run = tuple[list[Agent], bool]  # what run_agents returns


def what_it_asks(case: Failing) -> dict[str, Any]:
    """What a recording depends on; the line about it may change, it is made anew each time."""
    return {name: value for name, value in asdict(case).items() if name != "says"}


def _texts(base: Path, python: str) -> dict[str, list[str]]:
    """The lines of each file that torchrun has written, without what only this machine has."""
    own = {str(base): _LOGS, str(Path.cwd()): _HERE, python: "python", socket.gethostname(): "localhost"}
    found = {}
    for path in sorted(base.rglob("*.log")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for name, instead in own.items():
            text = text.replace(name, instead)
        if text:
            found[path.relative_to(base).as_posix()] = scrub(text).split("\n")
    return found


def record(case: Failing, python: str) -> dict[str, Any]:
    """Run a case, and return what is to be stored."""
    stored: dict[str, Any] = {"case": what_it_asks(case)}

    def run_and_keep(commands: tuple[str, ...], pythons: list[str], base: Path, *limits: Any) -> Run:
        agents, late = run_agents(commands, pythons, base, *limits)
        stored.update(late=late, codes=[agent.code for agent in agents], files=_texts(base, python))
        return agents, late

    kept = mock.patch("course_utils.distributed.run_agents", run_and_keep)
    with tempfile.TemporaryDirectory() as folder, chdir(folder), kept:
        start(case, python)
    return stored


def replay(stored: dict[str, Any]) -> Callable[..., Run]:
    """What stands for run_agents: it writes what a run wrote that is stored, as if it had been here."""

    def run_again(commands: tuple[str, ...], _pythons: list[str], base: Path, *_limits: Any) -> Run:
        library = Path(sysconfig.get_path("stdlib")).as_posix()
        here = {_LOGS: str(base), _HERE: str(Path.cwd()), _LIBRARY: f'File "{library}/'}
        for name, lines in stored["files"].items():
            text = "\n".join(lines)
            for scrubbed, path in here.items():
                text = text.replace(scrubbed, path)
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_text(text, encoding="utf-8", newline="")
        agents = [
            Agent(command, base / f"agent{number}", base / f"agent{number}.log", code)
            for number, (command, code) in enumerate(zip(commands, stored["codes"], strict=True))
        ]
        return agents, stored["late"]

    return run_again


def version_of(python: str) -> str:
    """The version of an interpreter's PyTorch, without what names its build."""
    ask = [python, "-c", "import torch; print(torch.__version__)"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    return answer.strip().partition("+")[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="of cases; all by default")
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose PyTorch is asked")
    options = parser.parse_args()
    folder = RECORDED / version_of(options.python)
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.names or BY_NAME:
        stored = record(BY_NAME[name], options.python)
        (folder / f"{name}.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
