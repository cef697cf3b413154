"""`try_script("SCRIPT")` from a cell: a script written for GPUs, unchanged, on virtual ones.

The script runs in a process of its own, as `python SCRIPT` or `torchrun SCRIPT` starts it; variables of the
environment give virtual GPUs to it and to all processes it starts. What they used is told at the end.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any
from unittest import mock
from uuid import uuid4

from course_utils.errors import is_own
from course_utils.lessons import CourseError
from course_utils.virtual import capacity_of
from course_utils.virtual.startup.sitecustomize import THEN, settings

from . import torchrun, watch
from .cleanup import MARK, OWN_GROUP, end_all, guarded
from .launching import words
from .report import collect, fits, in_words

_LAST_WORDS = 10.0  # seconds for a script whose time is up to end and to say what it used
_FRAME = re.compile(r'  File "(.+?)", line \d')


def checked(name: str, gpus: int, memory: int | str | None, card: str | None, nproc: int | None) -> str:
    """Return the path of a script, or of a program; ValueError where there is none, or a setting is bad."""
    if not 1 <= gpus <= 8:
        raise ValueError(f"gpus={gpus} is not a number of virtual GPUs. Choose 1 to 8.")
    if nproc is not None and nproc < 1:
        raise ValueError(f"nproc={nproc} is not a number of processes. Choose 1 or more.")
    capacity_of(memory, card)
    program = name if Path(name).is_file() else shutil.which(name)
    if program is None:
        raise ValueError(f"there is no file {name}")
    return program


def watched(
    run: Callable[[], Any], gpus: int, memory: int | str | None, card: str | None
) -> tuple[Any, list[dict[str, Any]]]:
    """Do what starts processes that are to have virtual GPUs; return its result, and what each noted."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        variables = settings(gpus, memory, card) | {watch.FOLDER: folder, THEN: watch.__name__}
        with mock.patch.dict(os.environ, variables):
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # it is about the GPUs of this machine
            os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")  # nothing is left beside the script
            return run(), collect(Path(folder))


def told(gpus: int, code: int, noted: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the report as data."""
    return {"gpus": gpus, "exit_code": code, "processes": noted, "fits": fits(noted)}


def as_shell(code: int) -> int:
    """Return an exit code as a shell does, which gives a signal a number above 128."""
    return code if code >= 0 else 128 - code


@dataclass(frozen=True, repr=False)
class Tried:
    """What became of a script. It is printed when the script ends, so it shows little by itself.

    Attributes:
        ok: it came to its end.
        exit_code: as a shell gives it.
        output: all that it wrote, whole tracebacks included; with `nproc`, what each rank printed.
        report: what `try --report FILE` writes.
    """

    ok: bool
    exit_code: int
    output: str
    report: dict[str, Any]

    def __repr__(self) -> str:
        return f"<try_script: {'ok' if self.ok else f'failed, exit code {self.exit_code}'}>"


def try_script(
    command: str,
    *,
    gpus: int = 8,
    memory: int | str | None = None,
    card: str | None = None,
    nproc: int | None = None,
    timeout: float = 600,
) -> Tried:
    """Run a script on virtual GPUs, in a process of its own, print what it writes, and what it used.

    Nothing of the script has to be changed, and no real GPU is used. A script that fails raises nothing. Of a
    traceback the lines of other people's files are not printed. No process is left behind.

    Args:
        command: as in "train.py --epochs 1", what stands after `python` in a terminal.
        gpus: how many virtual GPUs there are, 1 to 8.
        memory: of each of them, as bytes or text such as "2 GiB", which it is without `memory` and `card`.
        card: a card whose memory and capability they have, such as "T4".
        nproc: start that many processes, as torchrun does.
        timeout: seconds; what is still running then is stopped.

    Raises:
        CourseError: no such script or card, a bad number or size, or an open quotation.
    """
    command = re.sub(r"^\s*python3? ", "", command)
    typed = words(command, os.environ) or [""]
    try:
        typed[0] = checked(typed[0], gpus, memory, card, nproc)
    except ValueError as error:
        raise CourseError(f"try_script: {error}") from None

    def run() -> tuple[int, str]:
        if nproc is None:
            print(f"$ python {command}", flush=True)
            return _shown([sys.executable, "-u", *typed], timeout)
        ranks = torchrun(f"--standalone --nproc-per-node {nproc} {command}", timeout=timeout)
        return int(not ranks.ok), "".join(text + ranks.errors[rank] for rank, text in ranks.ranks.items())

    (code, output), noted = watched(run, gpus, memory, card)
    if noted or not code:
        print(in_words(noted))
    return Tried(not code, code, output, told(gpus, code, noted))


def _shown(command: list[str], timeout: float) -> tuple[int, str]:
    """Run a command, print what it writes as it comes, and return its exit code and all that it wrote."""
    run, begin = uuid4().hex, time.monotonic()
    variables = os.environ | {MARK: run, "PYTHONIOENCODING": "utf-8", "PYTHON_COLORS": "0"}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with guarded(run), subprocess.Popen(command, env=variables, **streams, **OWN_GROUP) as process:
        late = Timer(timeout, _stop, [process, run])
        late.start()
        try:
            written = list(_printed(io.TextIOWrapper(process.stdout, "utf-8", "replace", newline="")))
            code = as_shell(process.wait())
        finally:
            late.cancel()
    if code and time.monotonic() - begin >= timeout:
        print(f"try_script: its {timeout:g} seconds are over (timeout={timeout:g}), so it was stopped.")
    return code, "".join(written)


def _printed(lines: Iterable[str]) -> Iterator[str]:
    """Print lines as they come and yield them; of a traceback only the reader's own part is printed."""
    here, foreign = f'"{Path.cwd()}{os.sep}', False
    for line in lines:
        if frame := _FRAME.match(line):
            foreign = not is_own(frame[1])
        elif not line.startswith("    "):
            foreign = False
        if not foreign:
            print(line.replace(here, '"'), end="", flush=True)
        yield line


def _stop(process: subprocess.Popen, run: str) -> None:
    """Let a script end as Ctrl-C does, so that it says what it used; then end what is left."""
    if os.name == "posix":
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)
    process.kill()
    process.wait()  # else psutil may take its exit code, and it counts as 0
    end_all(run)
