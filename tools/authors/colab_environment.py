"""A Python environment like Google Colab's, for the tests that imitate it (tests/test_colab_lessons.py).

It holds what the lessons use, in the versions of tests/colab/packages.txt, or Kaggle's of kaggle.txt, and a
folder `wheels` from which pip can build the course without a network. PyTorch is the usual build of Colab's
version; only its CUDA differs. About 5 GB. Standard library only. The tests want its interpreter in
COURSE_COLAB_PYTHON.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from start.bootstrap import run_pip

from course_utils.data.files import write
from course_utils.lessons import ROOT
from course_utils.machine.system import text_of

PACKAGES = ROOT / "tests" / "colab"
# What the lessons import, the kernel, and pytest; what these need comes with them, in Colab's versions too.
WANTED = (
    "torch torchvision numpy pillow matplotlib tqdm nvidia-ml-py psutil "
    "ipython ipykernel ipywidgets notebook jupyter_client pyzmq tornado traitlets setuptools pytest"
)
PYTHONS = ("3.13", "3.12", "3.11")  # numpy has no wheel for a later one in Colab, for 3.13 on Kaggle


def packages(kaggle: bool = False) -> dict[str, str]:
    """Colab's packages, or Kaggle's: name to version, for example "torch" to "2.11.0+cu128"."""
    list_of = PACKAGES / ("kaggle.txt" if kaggle else "packages.txt")
    lines = list_of.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def constraints(kaggle: bool = False) -> str:
    """Colab's versions as constraints for pip, but for CUDA's, which belong to the build of PyTorch."""
    listed = packages(kaggle).items()
    own = {name: version for name, version in listed if not re.match("cuda-|nvidia-.*cu1", name)}
    return "".join(f"{name}=={version.partition('+')[0]}\n" for name, version in own.items())


def find_python(versions: Sequence[str]) -> str:
    """An interpreter to build with, also one that pyenv keeps; raises ValueError where there is none."""
    code = "import ensurepip, sys; print(getattr(sys, '_base_executable', sys.executable))"
    for version in versions:
        env = os.environ | {"PYENV_VERSION": version}
        with suppress(OSError, subprocess.CalledProcessError):  # not there, or without ensurepip
            command = [f"python{version}", "-c", code]
            return subprocess.check_output(command, env=env, stderr=subprocess.DEVNULL, text=True).strip()
    raise ValueError(f"An imitation of Colab needs Python {' or '.join(versions)} with venv and ensurepip.")


def make(folder: Path, kaggle: bool = False) -> None:
    """Build Colab's environment, or Kaggle's, where it is missing or of an older list; print its interpreter.

    Raises CourseError where pip fails.
    """
    folder = folder.absolute()
    python, stamp = folder / "bin" / "python", folder / "complete"
    wanted = f"{constraints(kaggle)}{WANTED}"
    if text_of(stamp) != wanted:
        subprocess.run([find_python(PYTHONS[kaggle:]), "-m", "venv", "--clear", folder], check=True)
        limits = folder / "constraints.txt"
        write(limits, constraints(kaggle))
        pip = partial(run_pip, python, ROOT)
        pip(["install", "-q", f"pip=={packages(kaggle)['pip']}"])
        # what is not imported needs no bytecode; the rest gets it when it is
        pip(["install", "-q", "--no-compile", "-c", str(limits), *WANTED.split()])
        # what pyproject.toml builds with; Colab's own is older, and pip fetches this one there
        pip(["download", "-q", "--no-deps", "-d", str(folder / "wheels"), "setuptools>=77"])
        write(stamp, wanted)
    print(python)
