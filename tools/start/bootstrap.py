"""Installing the course, once, from nothing but Python. Standard library only.

An active virtual or conda environment is used. In Colab only what is missing is added, and its torch stays.
Everywhere else the course makes its own `.venv` beside pyproject.toml. A stamp in the environment, written
when all is installed, says that there is nothing left to do.
"""

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from course_utils.data.files import alone, write
from course_utils.lessons import ROOT, CourseError
from course_utils.machine.environment import SIZES, Environment, find, requirements
from course_utils.machine.system import text_of

PIP_ERRORS = Path(__file__).with_name("pip_errors.toml")


def prepare(root: Path = ROOT) -> Path:
    """Make sure everything is installed; return the interpreter to run. Returns at once where it is.

    Raises CourseError where that is not possible.
    """
    place = find(root)
    version = place.version()
    if version and text_of(place.stamp) == digest(root, version):
        return place.python
    if version and tuple(map(int, version.split("."))) < (3, 11):
        raise CourseError(f"{place.prefix} holds Python {version}. Delete that folder, then run this again.")
    with suppress(OSError):
        (root / "build").mkdir(exist_ok=True)
    with alone(root / "build" / "installing.lock") as first:  # two at once delete each other's files
        if not first:
            waiting = "Wait for it, then run this again"
            raise CourseError(f"another command is installing the course in {root}. {waiting}")
        missing = place.missing(root)
        if missing:
            _check_length(place)
            print(f"Installing the course into {place.prefix}, once.", flush=True)
            extra = _check_disk(place) if any(line.startswith("torch==") for line in missing) else []
            if not version:
                _make_venv(place)
                version = place.version()
            _install(place, root, missing, extra)
        with suppress(OSError):  # without a stamp the next call only looks again
            write(place.stamp, digest(root, version))
    return place.python


def digest(root: Path, version: str) -> str:
    """A fingerprint of everything that decides what gets installed, the place of the folder included."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    decides = [str(root), version, requirements(root), project["build-system"], project["project"]]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _check_length(place: Environment) -> None:
    """Raise CourseError where Windows refuses a path as long as the longest that will be written."""
    longest = place.prefix.with_name("x" * (len(place.prefix.name) + 156))  # JupyterLab's longest
    try:
        if sys.platform == "win32" and len(str(longest)) > 259:  # some machines are set up for that
            longest.touch()
            longest.unlink()
    except OSError:
        fix = "Move the course's folder nearer to the drive, for example to C:\\course"
        raise CourseError(f"{place.prefix}: Windows cannot write such long paths. {fix}") from None


def _check_disk(place: Environment) -> list[str]:
    """Say how much is coming; raise CourseError where the disk is too small for it.

    Returns pip's arguments: no cache, where it would fill the disk.
    """
    download, disk = SIZES.get(sys.platform, SIZES["linux"])
    there = place.prefix if place.prefix.exists() else place.prefix.parent
    free = shutil.disk_usage(there).free / 1e9
    print(f"About {download:g} GB to download, {disk:g} GB on disk; {free:.1f} GB are free.", flush=True)
    print("The last part, unpacking, takes minutes without printing anything.", flush=True)
    files = place.prefix.rglob("*") if place.kind == "own" else ()  # there already, where a call was cut off
    used = sum(file.stat().st_size for file in files if file.is_file()) / 1e9
    needed = download + max(disk - used, 0)  # pip keeps the downloads until all are unpacked
    if free < needed:
        raise CourseError(f"{needed:.1f} GB are needed in {there} while it installs, {free:.1f} GB are free")
    return [] if free > needed + download else ["--no-cache-dir"]


def _make_venv(place: Environment) -> None:
    """Make our .venv, or mend one that was cut off; one that has lost its Python is made anew."""
    if not importlib.util.find_spec("venv") or not importlib.util.find_spec("ensurepip"):
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise CourseError(f"this Python has no venv module. On Debian or Ubuntu: sudo apt install {package}")
    anew = ["--clear"] if place.stamp.is_file() else []
    for link in place.python.parent.glob("python*"):
        if not link.exists():  # venv leaves a link to a Python that is gone as it is
            link.unlink()
    command = [sys.executable, "-m", "venv", *anew, place.prefix]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode or not place.version():
        last = (made.stdout.strip().splitlines() or ["no reason given"])[-1]
        raise CourseError(f"could not make {place.prefix}: {last}")


def _install(place: Environment, root: Path, missing: list[str], extra: list[str]) -> None:
    """Install what is missing; Colab's torch and torchvision are held where they are."""
    wanted = ["-r", "requirements.txt"]
    if place.kind == "colab":
        lacking = [line.partition("==")[0] for line in missing]
        held = [name for name in ("torch", "torchvision") if name not in lacking]
        constraints = root / "build" / "colab-constraints.txt"
        write(constraints, "".join(f"{name}=={metadata.version(name)}\n" for name in held))
        wanted = [*" ".join(missing).split(), "-c", str(constraints)]
    if place.kind != "own":
        run_pip(place.python, root, ["install", *wanted, *extra])
        return
    for old in place.prefix.glob("tmp*"):  # of a call that was cut off
        shutil.rmtree(old, ignore_errors=True)
    kept = {"dir": place.prefix, "prefix": "tmp", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(**kept) as scratch:
        with suppress(CourseError):  # an older pip will do; a new one resumes a broken download
            run_pip(place.python, root, ["install", "--quiet", "--retries=0", "--upgrade", "pip"], scratch)
        run_pip(place.python, root, ["install", *wanted, *extra], scratch)


def run_pip(python: str | Path, root: Path, arguments: list[str], scratch: str = "") -> None:
    """Run pip in `root` with its progress on the screen; what it complains of becomes one CourseError.

    `scratch` is a folder for its unpacking: an in-memory /tmp does not hold 3 GB of wheels.
    """
    elsewhere = dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"), "")  # not into this environment
    env = os.environ | elsewhere | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0", "PIP_DRY_RUN": "0"}
    env |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch) if scratch else {}
    command = [python, "-m", "pip", *arguments]
    complaints = ""
    # it inherits the lock: a pip whose caller was killed keeps the next one away until it ends
    options = {"stderr": subprocess.PIPE, "text": True, "errors": "replace", "close_fds": False}
    with subprocess.Popen(command, cwd=root, env=env, **options) as process:
        for line in process.stderr:
            if "Retrying" in line and "Retrying" not in complaints:
                print("The network does not answer, trying again ...", flush=True)
            complaints += line
    if process.returncode:
        raise CourseError(pip_error(complaints))


def pip_error(stderr: str) -> str:
    """Turn pip's error output into what happened and what to do, in one line."""
    known = tomllib.loads(PIP_ERRORS.read_text(encoding="utf-8"))
    version = ".".join(map(str, sys.version_info[:2]))
    place = f"Python {version} on {platform.system()} {platform.machine()}"
    for reason in known["reason"]:
        if re.search(reason["says"], stderr):
            return reason["tell"].format(again=known["again"], place=place)
    lines = stderr.strip().splitlines() or ["it gave no reason"]
    bare = [line.strip("│╰─> ") for line in lines]  # what a build's own pip says is drawn in a frame
    errors = [line for line in bare if line.lower().startswith("error") and "subprocess-exited" not in line]
    return f"pip failed: {(errors or bare)[-1]}"
