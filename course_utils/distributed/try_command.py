"""`python3 -m course_utils try SCRIPT`: a script written for GPUs, unchanged, on virtual ones."""

import argparse
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from .cleanup import MARK, guarded
from .launching import TORCHRUN
from .report import in_words
from .trying import as_shell, checked, told, watched


def parser() -> argparse.ArgumentParser:
    """Return what reads the command."""
    made = argparse.ArgumentParser("python3 -m course_utils try", description="Run a script on virtual GPUs.")
    made.add_argument("--gpus", type=int, default=8, metavar="N", help="1 to 8 (8)")
    size = made.add_mutually_exclusive_group()
    size.add_argument("--memory", metavar="SIZE", help="of each GPU ('2 GiB')")
    size.add_argument("--card", metavar="NAME", help="memory and capability of this card, such as T4")
    made.add_argument("--nproc", type=int, metavar="N", help="start N processes, as torchrun does")
    made.add_argument("--report", type=Path, metavar="FILE", help="write the report there, as JSON")
    made.add_argument("script", metavar="SCRIPT", help="a file, or a program in Python, such as accelerate")
    made.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="of the script")
    return made


def main(typed: list[str]) -> int:
    """Run a script on virtual GPUs, say what it used, and return its exit code."""
    reader = parser()
    given = reader.parse_args(typed)
    try:
        program = checked(given.script, given.gpus, given.memory, given.card, given.nproc)
        if given.report:
            given.report.touch()  # before the script runs, perhaps for hours
    except (ValueError, OSError) as error:
        reader.error(str(error))
    command = [sys.executable, program, *given.arguments]
    if given.nproc is not None:
        command[:1] = [*TORCHRUN, "--standalone", "--nproc-per-node", str(given.nproc)]
    code, noted = watched(lambda: _run(command), given.gpus, given.memory, given.card)
    if given.report is None:
        print(in_words(noted), file=sys.stderr)
    else:
        data = json.dumps(told(given.gpus, code, noted), indent=2)
        given.report.write_text(data + "\n", encoding="utf-8")
    return code


def _run(command: list[str]) -> int:
    """Run a command to its end, leave no process of it behind, and return its exit code."""
    run = uuid4().hex
    with guarded(run), subprocess.Popen(command, env=os.environ | {MARK: run}) as process:
        while True:
            with suppress(KeyboardInterrupt):  # it was told as well, and ends as it likes
                return as_shell(process.wait())
