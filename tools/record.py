"""Record what a real GPU does: the fidelity table, the memory of lesson 06's cases, the lessons' timings.

    python tools/record.py                    measure this machine's GPU: about 10 minutes
    python tools/record.py --out FOLDER       write the record there, not into course_utils/machine/recorded
    python tools/record.py --parts matmul     only these parts
    python tools/record.py --rehearse --out FOLDER      try it all with tiny sizes on virtual GPUs

It writes one JSON file per card, again after each part. Every part runs in a process of its own: one that
fails, crashes or hangs is recorded as failed, and the others go on. Pictures: the real ones where COURSE_DATA
names their folder, else the stand-in; the record says which. Afterwards run the lessons that show records
(`python tools/notebooks.py run`) and commit them together with the file.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from project import ROOT

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # this checkout's package, and the fidelity table

import recording_cases  # noqa: E402
import recording_machine  # noqa: E402
import torch  # noqa: E402

import course_utils  # noqa: E402
from course_utils.machine.recorded import FOLDER, SCHEMA  # noqa: E402

PART_SECONDS = 900  # after that a part is taken to hang
TOLERANCE = 0.05  # of the measured peak, within which a prediction is good
REHEARSAL = "virtual (rehearsal)"
Result = dict[str, Any]


def run_part(name: str, rehearse: bool, keep: Callable[[Result], None]) -> Result:
    """Run one part here; `keep` is given the result so far after each measurement. It never raises."""
    scale = recording_cases.TINY if rehearse else recording_cases.FULL
    figures: dict[str, Any] = {}
    result: Result = {"status": "running", "seconds": 0.0, "figures": figures}
    start = time.perf_counter()
    try:
        with course_utils.virtual_gpus(count=8, memory="2 GiB") if rehearse else nullcontext():
            for line in recording_cases.PARTS[name](figures, scale):
                if line:
                    print(f"    {line}", flush=True)
                keep(result)
        result["status"] = "done"
    except Exception as error:
        traceback.print_exc()
        result |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    result["seconds"] = time.perf_counter() - start
    keep(result)
    return result


def run_part_apart(name: str, rehearse: bool) -> Result:
    """Run one part in a process of its own and return its result, also where that process dies or hangs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.json"
        command = [sys.executable, __file__, "--parts", name, "--part-file", str(file)]
        try:
            status = subprocess.run(
                [*command, *["--rehearse"] * rehearse], timeout=PART_SECONDS, check=False
            ).returncode
            end = f"the process ended with status {status}"
        except subprocess.TimeoutExpired:
            end = f"it did not end within {PART_SECONDS} seconds"
        result = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"figures": {}}
    if result.get("status") not in ("done", "failed"):
        result |= {"status": "failed", "error": end}
    return result


def record(names: Iterable[str], folder: Path, run: Callable[[str], Result], rehearse: bool) -> Path:
    """Run the parts and write the card's file after each of them; return the file.

    Parts that the file holds already, from this card with the same software, stay until they are run again.
    """
    with course_utils.virtual_gpus(count=8, memory="2 GiB") if rehearse else nullcontext():
        name = REHEARSAL if rehearse else torch.cuda.get_device_name(0)
        card = {
            "schema": SCHEMA,
            "rehearsal": rehearse,
            "card": name,
            "machine": recording_machine.describe(),
        }
    file = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    card["parts"] = _parts_of(file, card)
    commit = recording_machine.commit()
    write(file, card)  # so that a folder which cannot be written to shows before anything is measured
    for part in names:
        print(f"{part} ...", flush=True)
        start = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit}
        result = card["parts"][part] = start | run(part)
        write(file, card)
        print(f"{part}: {result.get('error') or result['status']}", flush=True)
    return file


def _parts_of(file: Path, card: dict[str, Any]) -> dict[str, Result]:
    """The parts in a file of the same card with the same software; none where there is no such file."""
    try:
        old = json.loads(file.read_text(encoding="utf-8"))
        return old["parts"] if {**old, "parts": None} == {**card, "parts": None} else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write(file: Path, content: Any) -> None:
    """Write JSON in one go: a crash while writing leaves the old file whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    part.replace(file)


def memory_table(cases: dict[str, dict[str, int | None]]) -> list[str]:
    """Lines that set each case's predicted peak beside the measured ones, in MiB; one far off is marked."""
    columns = ("predicted", "allocated", "ledger", "reserved")
    lines = [f"{'case':<38}{''.join(f'{name:>11}' for name in columns)}{'off by':>9}"]
    for name, case in cases.items():
        sizes = "".join(
            f"{case[key] / 2**20:11.1f}" if case[key] is not None else f"{'-':>11}" for key in columns
        )
        line = f"{name:<38}{sizes}"
        if case["predicted"] is not None:
            off = case["predicted"] / case["allocated"] - 1
            line += f"{off:+9.1%}{'  <-- beyond 5%' * (abs(off) > TOLERANCE)}"
        lines.append(line)
    return lines


def report(parts: dict[str, Result]) -> None:
    """Print what the parts found: rows that differ, predicted against measured memory, what failed."""
    for failure in parts.get("fidelity", {}).get("figures", {}).get("failures", []):
        print(f"differs: {failure['row']}\n  expected {failure['expected']}\n  got {failure['got']}")
    cases = parts.get("memory", {}).get("figures", {}).get("cases")
    if cases:
        print("\nPeak memory in MiB", *memory_table(cases), sep="\n")
    for name, part in parts.items():
        if part["status"] != "done":
            print(f"failed: {name}: {part['error']}")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the record goes")
    known = list(recording_cases.PARTS)
    parser.add_argument(
        "--parts", nargs="+", choices=known, default=known, metavar="PART", help=f"of: {', '.join(known)}"
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on virtual GPUs; never a record")
    parser.add_argument("--part-file", type=Path, help=argparse.SUPPRESS)  # a part's own process writes here
    args = parser.parse_args(arguments)
    if args.rehearse and not (args.out or args.part_file):
        parser.error("--rehearse needs --out FOLDER: a rehearsal must not lie among the records")
    return args


def main(arguments: list[str] | None = None, run: Callable[[str, bool], Result] = run_part_apart) -> int:
    """Record this machine's card; returns 1 where there is none or a part failed."""
    args = _arguments(arguments)
    if not args.rehearse and not torch.cuda.is_available():
        print("PyTorch finds no CUDA GPU here: nothing to record. --rehearse tries it on virtual GPUs.")
        return 1
    os.environ.setdefault("COURSE_DATA", "standin")  # a download is no part of a recording
    if args.part_file:
        result = run_part(args.parts[0], args.rehearse, partial(write, args.part_file))
        return int(result["status"] != "done")
    try:
        file = record(args.parts, args.out or FOLDER, lambda part: run(part, args.rehearse), args.rehearse)
    except OSError as error:
        print(f"The record cannot be written: {error}. Choose another folder with --out.")
        return 1
    parts = json.loads(file.read_text(encoding="utf-8"))["parts"]
    report({part: parts[part] for part in args.parts})
    print(f"\nwrote {file}")
    return int(any(parts[part]["status"] != "done" for part in args.parts))


if __name__ == "__main__":
    sys.exit(main())
