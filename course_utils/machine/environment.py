"""Which Python environment the course lives in, and what that one holds. Standard library only."""

import json
import os
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from course_utils.lessons import ROOT
from course_utils.machine.system import ask

DISTRIBUTION = "pytorch-gpu-course"
# Colab is the notebook; JupyterLab would replace parts of its server
NOT_FOR_COLAB = ("jupyterlab", "jupyterlab-rise", "playwright")

# GB to download and on disk, for the pins of requirements.txt. Linux on x86-64, with its CUDA libraries, is
# measured; Windows and macOS are the sums of the wheels, packed and unpacked, rounded up.
SIZES = {"linux": (3.2, 6.3), "win32": (0.25, 1.0), "darwin": (0.25, 1.0)}


@dataclass(frozen=True)
class Environment:
    """Where the course is installed: `kind` is "own" (our .venv), "active" or "colab"."""

    kind: str
    prefix: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        if self.kind != "own":
            return Path(sys.executable)
        return self.prefix / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp(self) -> Path:
        """The file that holds the digest of what was installed completely."""
        return self.prefix / f".{DISTRIBUTION}"

    def version(self) -> str:
        """Its Python version as "3.12"; empty where it is missing, broken or without pip."""
        if self.kind != "own":
            return f"{sys.version_info[0]}.{sys.version_info[1]}"
        code = "import pip, sys; print('%d.%d' % sys.version_info[:2])"
        return ask([str(self.python), "-c", code], limit=60).out.strip().rpartition("\n")[2]

    def missing(self, root: Path) -> list[str]:
        """The lines of requirements.txt that are not installed; for our own .venv, which is not trusted, all.

        In Colab any version will do, and what Colab has in its own way is left out.
        """
        lines = requirements(root)
        if self.kind == "own":
            return lines
        exact = self.kind == "active"
        needed = [line for line in lines if exact or line.partition("==")[0] not in NOT_FOR_COLAB]
        return [line for line in needed if not _installed(line, root, exact=exact)]


def host() -> str:
    """The hosted notebook this is, "kaggle" or "colab"; empty on a machine of one's own."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:  # first: its images, built on Colab's, have that variable too
        return "kaggle"
    return "colab" if in_colab() else ""


def in_colab() -> bool:
    """Whether this is Google Colab."""
    return "COLAB_RELEASE_TAG" in os.environ


def find(root: Path = ROOT) -> Environment:
    """The environment to use: Colab's, the active one, or the course's own .venv."""
    if in_colab():
        return Environment("colab", Path(sys.prefix))
    # conda activates `base` in every terminal: nobody chose it, so nothing is installed into it
    in_conda = os.environ.get("CONDA_PREFIX") == sys.prefix and os.environ.get("CONDA_DEFAULT_ENV") != "base"
    if sys.prefix != sys.base_prefix or in_conda:
        return Environment("active", Path(sys.prefix))
    return Environment("own", root / ".venv")


def requirements(root: Path) -> list[str]:
    """The lines of requirements.txt without their comments, for example "torch==2.15.0"."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [bare for line in lines if (bare := re.sub(r"(^|\s)#.*", "", line).strip())]


def _installed(line: str, root: Path, *, exact: bool) -> bool:
    """Whether this interpreter has what a line of requirements.txt names, in any version unless `exact`."""
    name, _, pin = line.partition("==")
    name = DISTRIBUTION if name == "-e ." else name
    # the checkout itself holds metadata of its own that says nothing about this environment
    path = [folder for folder in sys.path if Path(folder).resolve() != root]
    found = next(iter(metadata.distributions(name=name, path=path)), None)
    if found and line == "-e .":  # another checkout's would be imported by the lessons in `work`
        return json.loads(found.read_text("direct_url.json") or "{}").get("url") == root.resolve().as_uri()
    return found is not None and (not exact or not pin or found.version.partition("+")[0] == pin)
