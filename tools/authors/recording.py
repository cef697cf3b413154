"""Recording what a real GPU does: one JSON file per card, written again after each measurement.

Every part runs in a process of its own: the lessons' settings for the libraries are those of a whole process,
and a part that fails, crashes or hangs is recorded as failed while the others go on. Pictures: the real ones
where COURSE_DATA names their folder, else the stand-in; the record says which.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torchvision

import course_utils
from authors.recording_parts import FULL, PARTS, TINY
from course_utils.data import files
from course_utils.lessons import ROOT
from course_utils.machine.doctor.inspection import ask_driver
from course_utils.machine.recorded import FOLDER, SCHEMA
from course_utils.machine.system import ask, text_of

PART_SECONDS = 900  # after that a part is taken to hang
UNFINISHED = f"its process crashed, or did not end within {PART_SECONDS} seconds"
REHEARSAL = "virtual (rehearsal)"
Card = dict[str, Any]


def record(
    parts: list[str] | None = None, folder: Path | None = None, *, rehearse: bool = False
) -> list[str]:
    """Record the named parts, all by default, into the card's file in `folder`; return which failed, and why.

    Parts that the file holds already, from this card with the same software, stay. A rehearsal is tiny, on
    virtual GPUs, and must not lie among the records: it needs a `folder`.

    Raises:
        ValueError: there is no such part, no GPU, or no folder for a rehearsal.
        OSError: the folder cannot be written to; that shows before anything is measured.
    """
    names = list(parts or PARTS)
    if unknown := set(names) - set(PARTS):
        raise ValueError(f"no part is named {', '.join(sorted(unknown))}. The parts: {', '.join(PARTS)}")
    if rehearse and folder is None:
        raise ValueError("--rehearse needs --out FOLDER: a rehearsal must not lie among the records")
    if not rehearse and not torch.cuda.is_available():
        raise ValueError("PyTorch finds no CUDA GPU here: nothing to record. --rehearse tries it.")
    os.environ.setdefault("COURSE_DATA", "standin")  # a download is no part of a recording
    with course_utils.virtual_gpus(count=8, memory="2 GiB") if rehearse else nullcontext():
        card = describe(rehearse)
        file = (folder or FOLDER) / f"{re.sub(r'[^a-z0-9]+', '-', card['card'].lower()).strip('-')}.json"
        kept = {name: part for name, part in _parts_of(file, card).items() if name not in names}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        part = {"date": date, "commit": commit(), "status": "failed", "error": UNFINISHED}
        card["parts"] = kept | {name: part | {"figures": {}} for name in names}
        write(file, card)
        if len(names) == 1:
            run_part(names[0], file, card)
    for name in names if len(names) > 1 else ():
        run_apart(name, file, rehearse)
    print(f"wrote {file}")
    done = read(file)["parts"]
    return [f"failed: {name}: {done[name]['error']}" for name in names if done[name]["status"] != "done"]


def run_part(name: str, file: Path, card: Card) -> None:
    """Run one part here and write the card after each measurement, and also where it fails."""
    start, part = time.perf_counter(), card["parts"][name]
    print(f"{name} ...", flush=True)
    try:
        for line in PARTS[name](part["figures"], TINY if card["rehearsal"] else FULL):
            print(f"    {line}", flush=True)
            write(file, card)
        part |= {"status": "done", "error": ""}
    except Exception as error:
        traceback.print_exc()
        part["error"] = f"{type(error).__name__}: {error}"
    part["seconds"] = time.perf_counter() - start
    write(file, card)


def run_apart(name: str, file: Path, rehearse: bool) -> None:
    """Run one part in a process of its own; where that dies or hangs, the part stays unfinished."""
    command = [sys.executable, Path(__file__).parent, "record", "--parts", name, "--out", file.parent]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run([*command, *["--rehearse"] * rehearse], timeout=PART_SECONDS)


def read(file: Path) -> Card:
    """Read a card's file."""
    return json.loads(file.read_text(encoding="utf-8"))


def write(file: Path, card: Card) -> None:
    """Write a card's file in one go: a crash while writing leaves the old one whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write(file, f"{json.dumps(card, indent=1, default=str)}\n")


def _parts_of(file: Path, card: Card) -> dict[str, Any]:
    """The parts in a file of the same card with the same software; none where there is no such file."""
    old = read(file) if file.is_file() else {}
    return old["parts"] if old | {"parts": None} == card | {"parts": None} else {}


def describe(rehearse: bool) -> Card:
    """The card, its software and the CPU beside it, without the names of a user or a host; sizes in bytes."""
    card = torch.cuda.get_device_properties(0)
    machine = {
        "compute_capability": f"{card.major}.{card.minor}",
        "memory": card.total_memory,
        "multiprocessors": card.multi_processor_count,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "driver": ask_driver().version or "unknown",
        "cuda": torch.version.cuda or f"HIP {torch.version.hip}",
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": cpu(),
        "cpu_cores": os.cpu_count(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "allocator_settings": os.environ.get("PYTORCH_ALLOC_CONF", os.environ.get("PYTORCH_CUDA_ALLOC_CONF")),
    }
    name = REHEARSAL if rehearse else card.name
    return {"schema": SCHEMA, "rehearsal": rehearse, "card": name, "machine": machine}


def cpu() -> str:
    """The CPU's name where the system tells it, else its architecture."""
    name = re.search(r"^model name\s*: (.+)$", text_of(Path("/proc/cpuinfo")), re.M)
    return name[1].strip() if name else platform.processor() or platform.machine()


def commit() -> str | None:
    """The git commit of the course, with "+" where files were changed since; None where it is not known."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    return ask(command, limit=60).out.strip() or None
