"""Break the course on purpose, in one place at a time, and see whether the tests notice.

Each fault of tests/faults.toml replaces a text in one file of a copy of the checkout, in build/faults, and
runs there the tests that should find it.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from classroom.stick import course_files

from course_utils.data.files import write
from course_utils.lessons import ROOT

COPY = ROOT / "build" / "faults"


@dataclass(frozen=True)
class Fault:
    """One way to break the course: `old`, which stands once in `file`, becomes `new`; `tests` find it."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]

    def broken(self, root: Path) -> str:
        """The text of the broken file; raises ValueError where `old` does not stand in it exactly once."""
        text = (root / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


LIST = (ROOT / "tests" / "faults.toml").read_text(encoding="utf-8")
FAULTS = [Fault(**fault) for fault in tomllib.loads(LIST)["fault"]]


def is_found(fault: Fault, root: Path) -> bool:
    """Whether the tests find a fault; the file is mended afterwards.

    Raises ValueError where the fault does not fit its file, or its tests cannot be run.
    """
    file = root / fault.file
    whole = file.read_text(encoding="utf-8")
    write(file, fault.broken(root))
    try:
        return _fail(fault.tests, root)
    finally:
        write(file, whole)


def _fail(tests: Iterable[str], root: Path) -> bool:
    """Whether one of the tests fails, an error while they are collected included.

    Raises ValueError where they cannot be run.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    env["PYTHONPATH"] = str(root)
    done = subprocess.run([*command, *tests], cwd=root, env=env, capture_output=True, text=True)
    if done.returncode not in (0, 1, 2):  # passed, failed, not to be imported
        raise ValueError(f"{tests} cannot be run\n{done.stdout}{done.stderr}")
    return done.returncode in (1, 2)


def try_all(names: list[str]) -> list[str]:
    """Try the named faults, all by default, and print a line for each; return what is wrong."""
    if unknown := set(names) - {fault.name for fault in FAULTS}:
        raise ValueError(f"no fault is named {', '.join(sorted(unknown))}; see tests/faults.toml")
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    shutil.rmtree(COPY, ignore_errors=True)
    for name in course_files(ROOT, "--cached", "--others", "--exclude-standard"):  # also what git would add
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, COPY / name)
    if _fail(sorted({test for fault in chosen for test in fault.tests}), COPY):
        return [f"without any fault their tests fail, too, in {COPY}: mend that first"]
    missed = 0
    for fault in chosen:
        found = is_found(fault, COPY)
        missed += not found
        print(f"{'found' if found else 'NOT FOUND':<12}{fault.name}", flush=True)
    print(f"{len(chosen)} faults, {missed} of them not found")
    return [f"{missed} faults were not found"] * bool(missed)
