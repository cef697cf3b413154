"""A finding in words: the texts of findings.toml filled in for one machine. Standard library only."""

import re
import tomllib
from pathlib import Path
from typing import Any

from .facts import Facts, Finding

WHEELS = "https://download.pytorch.org/whl/"  # PyTorch's own index, one folder per build: cpu, cu126, cu130
OLDEST_TORCH = (2, 10)
TABLES = tomllib.loads(Path(__file__).with_name("findings.toml").read_text(encoding="utf-8"))


class Version(str):
    """The version of a package as it is installed, perhaps with a build tag: "2.15.0+cu132".

    Attributes:
        plain, tag: without its build tag, "2.15.0", and the tag alone, "cu132"; "" without one.
        numbers: for comparing: (2, 15, 0).
        index: pip's option for packages of the same build; empty where there is no build tag.
    """

    def __init__(self, text: str = "") -> None:
        self.plain, _, self.tag = text.partition("+")
        self.numbers = tuple(map(int, re.findall(r"\d+", self.plain)[:3]))
        self.index = f" --index-url {WHEELS}{self.tag}" if self.tag else ""


def finding(facts: Facts, name: str, /, **values: Any) -> Finding:
    """Return the finding `name` of findings.toml.

    Args:
        facts: the machine it is about.
        name: the finding's table.
        values: what its texts name beyond the facts, and which of its alternatives hold.
    """
    texts, known = TABLES[name], _circumstances(facts) | values
    title, meaning, fix = (_holding(texts.get(part, ""), known) for part in ("title", "meaning", "fix"))
    way = _written_out(facts, fix[0], known) if fix else ""
    title, meaning, way = _shortened(facts, title[0], " ".join(meaning), way)
    return Finding(texts["level"], title, meaning, way, texts.get("stops", False))


def _shortened(facts: Facts, title: str, meaning: str, fix: str) -> tuple[str, str, str]:
    """Paths without the user's name: from the course's folder on, or from ~ on, where that can be pasted."""
    sep = "\\" if facts.place.system == "win32" else "/"
    home, root = facts.place.home.rstrip(sep) + sep, facts.place.root + sep
    for long, short in ((root, ""), (home, f"~{sep}")):
        if len(long) > 1:
            title, meaning = title.replace(long, short), meaning.replace(long, short)
    if len(home) > 1 and sep == "/" and '"' not in fix:
        fix = fix.replace(home, "~/")
    return title, meaning, fix


def _holding(text: str | dict[str, str], known: dict[str, Any]) -> list[str]:
    """Fill in a text, or those of its alternatives whose condition holds."""
    alternatives = text if isinstance(text, dict) else {"always": text}
    return [text.format_map(known) for condition, text in alternatives.items() if known[condition]]


def _circumstances(facts: Facts) -> dict[str, Any]:
    """What every text can name or depend on."""
    place, notebook, kind = facts.place, facts.caller.notebook, facts.place.environment.kind
    known = {
        **vars(facts),
        "always": True,
        "notebook": notebook,
        "terminal": not notebook,
        "own": kind == "own" and not notebook,
        "active": kind == "active" and not notebook,
        "hosted": kind == "colab" and not notebook,
        "clone": place.root,
        "windows": place.system == "win32",
        "mac": place.system == "darwin",
        "wsl": place.wsl,
        "container": place.container,
        "other": facts.interpreter.other,
        "colab": place.host == "colab",
        "kaggle": place.host == "kaggle",
    }
    return known | {name: _holding(text, known)[0] for name, text in TABLES["words"].items()}


def _written_out(facts: Facts, fix: str, known: dict[str, Any]) -> str:
    """Write a fix out, step by step, for this very interpreter and for the shell or notebook that asks."""
    return "; then: ".join(_step(facts, step, known) for step in fix.split("; then: "))


def _step(facts: Facts, fix: str, known: dict[str, Any]) -> str:
    command, _, rest = fix.partition(" ")
    if command == "build":
        command, rest = "pip", f"install {_build(facts, rest)} --index-url {WHEELS}{rest}"
    if command not in TABLES["commands"]:
        return fix
    set_here = facts.caller.notebook and rest in facts.caller.changed
    spaces = " " in facts.interpreter.path
    known |= {"rest": rest, "spaces": spaces, "set_here": set_here}
    known["powershell"] = spaces and known["windows"]
    return _holding(TABLES["commands"][command], known)[0]


def _build(facts: Facts, tag: str) -> str:
    """Name another build of PyTorch and torchvision, of the same versions where that exists."""
    installed, last = facts.interpreter.packages, TABLES["builds"][tag]
    names = [name for name in ("torch", "torchvision") if name in installed]
    there = Version(installed.get("torch", "")).numbers
    same = OLDEST_TORCH <= there <= Version(last["torch"]).numbers
    return " ".join(f"{name}=={Version((installed if same else last)[name]).plain}+{tag}" for name in names)
