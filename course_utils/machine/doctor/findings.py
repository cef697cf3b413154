"""A finding in words: the texts of findings.toml filled in for one machine. Standard library only."""

import re
import tomllib
from pathlib import Path
from typing import Any

from .facts import Facts, Finding

WHEELS = "https://download.pytorch.org/whl/"  # PyTorch's own index, one folder per build: cpu, cu126, cu130
_TEXTS = tomllib.loads(Path(__file__).with_name("findings.toml").read_text(encoding="utf-8"))


class Version(str):
    """The version of a package as it is installed, perhaps with a build tag: "2.15.0+cu132"."""

    plain = property(lambda self: self.partition("+")[0], doc='Without its build tag: "2.15.0".')
    tag = property(lambda self: self.partition("+")[2], doc='The build tag alone: "cu132"; "" without one.')

    @property
    def numbers(self) -> tuple[int, ...]:
        """For comparing: (2, 15, 0)."""
        return tuple(map(int, re.findall(r"\d+", self.plain)[:3]))

    @property
    def build(self) -> str:
        """What the build tag stands for: "CUDA 13", "the CPU"; empty where there is none."""
        cuda = re.fullmatch(r"cu(\d\d)\d", self.tag)
        return f"CUDA {cuda[1]}" if cuda else {"cpu": "the CPU"}.get(self.tag, self.tag)

    @property
    def index(self) -> str:
        """pip's option for packages of the same build; empty where there is no build tag."""
        return f" --index-url {WHEELS}{self.tag}" if self.tag else ""


# The last versions with a build for CUDA 12.6, the one for cards before Turing and drivers before 580:
# https://github.com/pytorch/test-infra/pull/8739
LAST_FOR_CUDA_12 = {"torch": Version("2.14.1"), "torchvision": Version("0.29.1")}


def finding(facts: Facts, name: str, **values: Any) -> Finding:
    """Return the finding `name` of findings.toml.

    Args:
        facts: the machine it is about.
        name: the finding's table.
        values: what its texts name beyond the facts, and which of its alternatives hold.
    """
    texts, known = _TEXTS[name], _circumstances(facts) | values

    def holding(part: str) -> list[str]:
        text = texts.get(part, "")
        alternatives = text.items() if isinstance(text, dict) else [("always", text)]
        return [text.format_map(known) for condition, text in alternatives if known[condition]]

    title, fix = (next(iter(holding(part)), "") for part in ("title", "fix"))
    word, _, rest = fix.partition(" ")
    fix = _WRITTEN_OUT[word](facts, rest) if word in _WRITTEN_OUT else fix
    return Finding(texts["level"], title, " ".join(holding("meaning")), fix, texts.get("stops", False))


def _circumstances(facts: Facts) -> dict[str, Any]:
    """What every text can name or depend on."""
    notebook, host, kind = facts.caller.notebook, facts.place.host, facts.course.environment.kind
    windows = facts.place.system == "win32"
    return {
        **vars(facts),
        **_TEXTS["words"],
        "lab": f"{'py' if windows else 'python3'} -m course_utils lab",
        "restart": _restart(facts),
        "always": True,
        "notebook": notebook,
        "terminal": not notebook,
        "own": kind == "own" and not notebook,
        "active": kind == "active" and not notebook,
        "hosted": kind == "colab" and not notebook,
        "clone": facts.course.root,
        "windows": windows,
        "mac": facts.place.system == "darwin",
        "wsl": facts.place.wsl,
        "colab": host == "colab",
        "kaggle": host == "kaggle",
    }


def _restart(facts: Facts) -> str:
    """Where to click to restart the kernel."""
    return "Runtime > Restart session" if facts.place.host == "colab" else "Kernel > Restart Kernel"


def _pip(facts: Facts, arguments: str) -> str:
    """A pip command for the interpreter under examination."""
    if facts.caller.notebook:
        return f"%pip {arguments}   (in a cell; then: {_restart(facts)})"
    python = facts.interpreter.path or "python3"
    return f'"{python}" -m pip {arguments}' if " " in python else f"{python} -m pip {arguments}"


def _unset(facts: Facts, name: str) -> str:
    """How to take a variable away from the shell, or from a notebook's kernel."""
    if facts.caller.notebook:
        where = "remove it from your cells" if name in facts.caller.changed else "start Jupyter without it"
        return f"{where}, then {_restart(facts)}"
    return f"Remove-Item Env:{name}" if facts.place.system == "win32" else f"unset {name}"


def _build(facts: Facts, tag: str) -> str:
    """The command for another build of PyTorch and torchvision, of the same versions where that exists."""
    if facts.place.host == "colab":
        return _TEXTS["words"]["new_runtime"]
    installed = facts.interpreter.packages
    versions = {name: Version(installed[name]) for name in LAST_FOR_CUDA_12 if name in installed}
    torch, last = versions.get("torch", Version()), LAST_FOR_CUDA_12["torch"]
    if tag == "cu126" and torch.numbers > last.numbers:
        versions = {name: LAST_FOR_CUDA_12[name] for name in versions}
    names = " ".join(f"{name}=={version.plain}+{tag}" for name, version in versions.items())
    return _pip(facts, f"install {names} --index-url {WHEELS}{tag}")


_WRITTEN_OUT = {"pip": _pip, "unset": _unset, "build": _build}
