"""Make a Python environment like Google Colab's, for the tests that imitate it (tests/test_colab_lessons.py).

    python tools/colab_environment.py build/colab-env

It holds what the lessons use, in the versions of tests/colab/packages.txt, and a folder `wheels` from which
pip can build the course without a network. PyTorch is the usual build of Colab's version; only its CUDA
differs. About 5 GB; called again, it does nothing. The tests want the path that it prints in the variable
COURSE_COLAB_PYTHON.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from project import ROOT

PACKAGES = ROOT / "tests" / "colab" / "packages.txt"
# What the lessons import, the kernel, and pytest; what these need comes with them, in Colab's versions too.
WANTED = (
    "torch torchvision numpy pillow matplotlib tqdm nvidia-ml-py psutil "
    "ipython ipykernel ipywidgets notebook jupyter_client pyzmq tornado traitlets setuptools pytest"
)
PYTHONS = ("3.13", "3.12", "3.11")  # Colab's own first; Colab's numpy has no wheel for a later one


def packages() -> dict[str, str]:
    """Colab's packages: name to version, for example "torch" to "2.11.0+cu128"."""
    lines = PACKAGES.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def constraints() -> str:
    """Colab's versions as constraints for pip, but for CUDA's, which belong to the build of PyTorch."""
    own = {name: version for name, version in packages().items() if not re.match("cuda-|nvidia-.*cu1", name)}
    return "".join(f"{name}=={version.partition('+')[0]}\n" for name, version in own.items())


def find_python() -> str:
    """An interpreter to build with, also one that pyenv keeps; raises SystemExit where there is none."""
    code = "import ensurepip, sys; print(getattr(sys, '_base_executable', sys.executable))"
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for version in PYTHONS:
        name = shutil.which(f"python{version}") or (sys.executable if version == running else None)
        env = os.environ | {"PYENV_VERSION": version}
        found = name and subprocess.run([name, "-c", code], env=env, capture_output=True, text=True)
        if found and found.returncode == 0:
            return found.stdout.strip()
    sys.exit(f"An imitation of Colab needs Python {' or '.join(PYTHONS)} with venv and ensurepip.")


def build(folder: Path) -> None:
    """Make the environment; raises CalledProcessError where pip fails."""
    subprocess.run([find_python(), "-m", "venv", "--clear", folder], check=True)
    limits = folder / "constraints.txt"
    limits.write_text(constraints(), encoding="utf-8")
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", f"pip=={packages()['pip']}"], check=True)
    # what is not imported needs no bytecode; the rest gets it when it is
    subprocess.run([*pip, "install", "-q", "--no-compile", "-c", limits, *WANTED.split()], check=True)
    # what pyproject.toml builds with; Colab's own is older, and pip fetches this one there
    wheels = ["--no-deps", "-d", folder / "wheels", "setuptools>=77"]
    subprocess.run([*pip, "download", "-q", *wheels], check=True)


def main(arguments: list[str]) -> int:
    """Make the environment where it is missing or of an older list; returns the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    folder = Path(arguments[0]).absolute()
    stamp = folder / "complete"
    wanted = hashlib.sha256(f"{constraints()}{WANTED}".encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        try:
            build(folder)
        except subprocess.CalledProcessError:  # pip has said what happened
            print(f"{folder} could not be made. Check the network and the disk.", file=sys.stderr)
            return 1
        stamp.write_text(wanted, encoding="utf-8")
    print(folder / "bin" / "python")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
