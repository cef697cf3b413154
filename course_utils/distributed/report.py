"""The report on a script's use of the virtual GPUs, from what each of its processes noted (`watch.py`)."""

import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any

from course_utils.virtual.errors import CARDS, format_size

from .failures import about_code

_LIMITS = "Not counted: the memory of kernels, libraries and the CUDA context. Speed is not simulated."


def collect(folder: Path) -> list[dict[str, Any]]:
    """Return what the processes of a script left in a folder, in the order of their ranks.

    A rank that was ended could leave nothing: what torchrun knows of it stands in its place.
    """
    noted = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    ended = {int(rank): code for one in noted for rank, code in one.pop("ended").items()}
    noted = [one for one in noted if one["gpus"] or one["error"]]
    for rank, code in ended.items():
        if not any(one["rank"] == rank and one["error"] for one in noted):
            nothing = {"rank": rank, "process": 0, "gpus": {}, "sent": {}}
            mine = next((one for one in noted if one["rank"] == rank), nothing)
            said = about_code(code)
            noted = [one for one in noted if one is not mine] + [mine | {"error": said}]
    return sorted(noted, key=lambda one: (one["rank"], one["process"]))


def fits(noted: list[dict[str, Any]]) -> dict[str, bool]:
    """Tell of each known card whether the memory of its GPUs would have been enough."""
    needed = [gpu["reserved"] + gpu["refused"] for one in noted for gpu in one["gpus"].values()]
    return {name: max(needed) <= card["memory"] * 2**20 for name, card in CARDS.items()} if needed else {}


def in_words(noted: list[dict[str, Any]]) -> str:
    """Say what a script used, a paragraph for each process, and on which cards it fits."""
    paragraphs = [_about(one, alone=len(noted) == 1) for one in noted] or ["No virtual GPU was used."]
    begin = "As far as it came, its" if any(one["error"] for one in noted) else "Its"
    if fit := fits(noted):
        paragraphs.append(_wrapped(f"{begin} tensors fit on {_cards(fit)}"))
    return "\n".join(["--- on virtual GPUs ---", *paragraphs, _LIMITS])


def _cards(fit: Mapping[str, bool]) -> str:
    """Name the smallest card that is large enough, and how many are."""
    sizes = {name: CARDS[name]["memory"] * 2**20 for name, enough in fit.items() if enough}
    if not sizes:
        return f"none of the {len(fit)} cards known here."
    smallest = min(sizes, key=sizes.get)
    size = format_size(sizes[smallest])
    return f"{smallest} ({size}) and larger: {len(sizes)} of the {len(fit)} cards known here."


def _wrapped(text: str, indent: str = "") -> str:
    """Break a text into lines that fit a notebook's page."""
    return fill(text, 110, initial_indent=indent, subsequent_indent=indent or "    ", break_on_hyphens=False)


def _about(one: Mapping[str, Any], alone: bool) -> str:
    """Say what one process used; it is named unless it is the only one."""
    who = f"rank {one['rank']}, " if one["rank"] >= 0 else "" if alone else f"process {one['process']}, "
    lines = []
    for gpu, alike in groupby(one["gpus"], key=one["gpus"].get):
        first, *others = alike
        name = ", ".join([first, *others]) + (", each" if others else "")
        parts = ", ".join(f"{kind} {format_size(size)}" for kind, size in gpu["categories"].items() if size)
        sizes = [format_size(gpu[kind]) for kind in ("allocated", "reserved")]
        refused = f", {format_size(gpu['refused'])} more refused" if gpu["refused"] else ""
        lines.append(_wrapped("{}{}: at most {} allocated, {} reserved{}".format(who, name, *sizes, refused)))
        lines.append(_wrapped(parts, "    "))
        lines += [f"    reached at {gpu['where']}"] if gpu["where"] else []
    for operation, nbytes in filter(lambda sent: sent[1], one["sent"].items()):
        lines.append(f"    given to {operation}: {format_size(nbytes)}")
    if one["error"]:
        lines.append(f"{who}stopped:\n{one['error']}")
    return "\n".join(lines)
