"""The words of a fix: a command for this very interpreter, or where to click. Standard library only."""

import re

from .facts import Facts

WHEELS = "https://download.pytorch.org/whl/"  # PyTorch's own index, one folder per build: cpu, cu126, cu130

# The last versions with a build for CUDA 12.6, the one for cards before Turing and drivers before 580:
# https://github.com/pytorch/test-infra/pull/8739
LAST_FOR_CUDA_12 = {"torch": "2.14.1", "torchvision": "0.29.1"}


def lab(facts: Facts) -> str:
    """The command that installs what is missing and opens the course."""
    return f"{'py' if facts.place.system == 'win32' else 'python3'} -m course_utils lab"


def pip(facts: Facts, arguments: str) -> str:
    """A pip command for the interpreter under examination."""
    if facts.caller.notebook:
        return f"%pip {arguments}   (in a cell; then: {restart(facts)})"
    python = facts.interpreter.path if facts.interpreter else "python3"
    return f'"{python}" -m pip {arguments}' if " " in python else f"{python} -m pip {arguments}"


def restart(facts: Facts) -> str:
    """Where to click to restart the kernel."""
    return "Runtime > Restart session" if facts.place.host == "colab" else "Kernel > Restart Kernel"


def fresh(facts: Facts) -> str:
    """Where to click for a new machine, in Colab; empty elsewhere."""
    return "Runtime > Disconnect and delete runtime" if facts.place.host == "colab" else ""


def torch_build(facts: Facts, tag: str) -> str:
    """The command for another build of PyTorch and torchvision, of the same versions where that exists."""
    packages = facts.interpreter.packages if facts.interpreter else {}
    versions = {name: plain(packages[name]) for name in LAST_FOR_CUDA_12 if name in packages}
    if tag == "cu126" and numbers(versions.get("torch", "0")) > numbers(LAST_FOR_CUDA_12["torch"]):
        versions = {name: LAST_FOR_CUDA_12[name] for name in versions}
    names = [f"{name}=={version}+{tag}" for name, version in versions.items()]
    return fresh(facts) or pip(facts, f"install {' '.join(names)} --index-url {WHEELS}{tag}")


def index(version: str) -> str:
    """pip's option for the packages of the same build as `version`; empty where that has no build tag."""
    return f" --index-url {WHEELS}{tag(version)}" if tag(version) else ""


def unset(facts: Facts, name: str) -> str:
    """How to take a variable away from the shell, or from a notebook's kernel."""
    if facts.caller.notebook:
        where = "remove it from your cells" if name in facts.caller.changed else "start Jupyter without it"
        return f"{where}, then {restart(facts)}"
    return f"Remove-Item Env:{name}" if facts.place.system == "win32" else f"unset {name}"


def plain(version: str) -> str:
    """A version without its build tag: "2.15.0+cu132" is "2.15.0"."""
    return version.partition("+")[0]


def tag(version: str) -> str:
    """The build tag of a version: "2.15.0+cu132" has "cu132", "2.15.0" none."""
    return version.partition("+")[2]


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, for comparing: "2.15.0+cu132" is (2, 15, 0)."""
    return tuple(map(int, re.findall(r"\d+", plain(version))[:3]))
