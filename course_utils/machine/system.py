"""Ask programs, each with a time limit, and files that may not be there. Standard library only."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SMI_LIMIT = 20.0  # seconds
NO_COMMAND = "command not found"


class Answer(NamedTuple):
    """What a program printed; `end` says how it ended where that was not by itself with exit code 0."""

    out: str
    end: str = ""


def ask(command: list[str], limit: float) -> Answer:
    """Run a program. One that does not answer is killed and left behind, even where killing has no effect."""
    real = os.environ | {"COURSE_VIRTUAL_GPUS": ""}  # else a Python would have those of this process
    # into files: a pipe could be held open for ever by what the program started
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=real)
        except OSError as error:
            return Answer("", f"it cannot be started: {error.strerror or error}")
        try:
            code = process.wait(limit)
            end = f"exit code {code}" if code else ""
            if code < 0:
                end = f"stopped by {signal.Signals(-code).name}"
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):  # a process stuck in the driver cannot be killed
                process.wait(5)
            end = f"no answer in {limit:.0f} seconds"
        for file in (out, err):
            file.seek(0)
        printed, said = (file.read().decode(errors="replace") for file in (out, err))
    last = (said.strip() or ("" if "{" in printed else printed.strip())).splitlines()[-1:]
    return Answer(printed, ": ".join([end, *last]) if end else "")


def nvidia_smi(*arguments: str) -> Answer:
    """Run nvidia-smi; `end` is its own first line where it fails, and NO_COMMAND where there is none."""
    program = shutil.which("nvidia-smi") or shutil.which("/usr/lib/wsl/lib/nvidia-smi")  # not on every PATH
    if not program:
        return Answer("", NO_COMMAND)
    answer = ask([program, *arguments], SMI_LIMIT)
    first = answer.out.strip().partition("\n")[0]
    return answer._replace(end=first) if answer.end and first and "no answer" not in answer.end else answer


def query_gpus(*columns: str) -> tuple[list[dict[str, str]], str]:
    """Ask nvidia-smi for these columns and the GPUs' names; see `nvidia-smi --help-query-gpu`.

    Returns:
        One dictionary per GPU of the machine, and why there is none, in one line; else "".
    """
    keys = [*columns, "name"]  # last, because it may contain a comma
    answer = nvidia_smi(f"--query-gpu={','.join(keys)}", "--format=csv,noheader,nounits")
    lines = [line.split(", ", len(columns)) for line in answer.out.splitlines() if not answer.end]
    rows = [dict(zip(keys, line, strict=True)) for line in lines if len(line) == len(keys)]  # not warnings
    return rows, answer.end or ("" if rows else "printed nothing")


def text_of(file: Path) -> str:
    """A file's text; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
