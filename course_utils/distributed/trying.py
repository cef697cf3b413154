"""`python3 -m course_utils try SCRIPT`: a script written for GPUs, unchanged, on virtual ones.

The script runs in a process of its own, as `python SCRIPT` or `torchrun SCRIPT` starts it; variables of the
environment give virtual GPUs to it and to all processes it starts. What they used is told at the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from course_utils.virtual import capacity_of
from course_utils.virtual.startup.sitecustomize import THEN, settings

from . import report
from .cleanup import MARK, guarded
from .report import FOLDER, collect, fits, in_words


def parser() -> argparse.ArgumentParser:
    """Return what reads the command."""
    made = argparse.ArgumentParser("python3 -m course_utils try", description="Run a script on virtual GPUs.")
    made.add_argument("--gpus", type=int, default=8, choices=range(1, 9), metavar="N", help="1 to 8 (8)")
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
    program = given.script if Path(given.script).is_file() else shutil.which(given.script)
    if program is None:
        reader.error(f"there is no file {given.script}")
    try:
        capacity_of(given.memory, given.card)
    except ValueError as error:
        reader.error(str(error))
    command = [sys.executable, program, *given.arguments]
    if given.nproc is not None:
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(given.nproc)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        watched = {FOLDER: folder, THEN: report.__name__}
        code = _run(command, settings(given.gpus, given.memory, given.card) | watched)
        noted = collect(Path(folder))
    if given.report is None:
        print(in_words(noted), file=sys.stderr)
    else:
        told = {"gpus": given.gpus, "exit_code": code, "processes": noted, "fits": fits(noted)}
        given.report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return code


def _run(command: list[str], variables: dict[str, str]) -> int:
    """Run a command to its end, leave no process of it behind, and return its exit code as a shell does."""
    run = uuid4().hex
    unless_set = {"PYTHONDONTWRITEBYTECODE": "1"}  # nothing is left beside the script
    environment = unless_set | os.environ | variables | {MARK: run}
    environment.pop("CUDA_VISIBLE_DEVICES", None)  # it is about the GPUs of this machine
    with guarded(run), subprocess.Popen(command, env=environment) as process:
        while True:
            with suppress(KeyboardInterrupt):  # it was told as well, and ends as it likes
                code = process.wait()
                return code if code >= 0 else 128 - code
