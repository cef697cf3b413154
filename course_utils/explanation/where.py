"""Where named objects are: the device of each tensor and of each part of a module, and how to move it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

_LISTED = 4  # tensors of a module on another device are listed up to here, then counted


@dataclass(frozen=True)
class Place:
    """One thing on one device.

    Attributes:
        path: what it is in the reader's code, as in "batch['x']" or "net.fc.bias".
        device: "cpu", "cuda:0", ...
        note: a remark for the reader.
        move: the code that takes it to the device `{home}`.
        may_differ: a single number on the CPU, which may meet GPU tensors in arithmetic.
    """

    path: str
    device: str
    note: str = ""
    move: str = ""
    may_differ: bool = False

    def is_away(self, home: str) -> bool:
        return self.device != home and not self.may_differ


def find_places(path: str, value: Any) -> Iterator[Place]:
    """Yield the places of a tensor, module, optimizer, or list, tuple or dict of them; nothing for others."""
    if isinstance(value, Tensor):
        number = value.dim() == 0 and value.device.type == "cpu"
        note = "a single number: may mix" if number else ""
        yield Place(path, str(value.device), note, f'{path} = {path}.to("{{home}}")', number)
    elif isinstance(value, nn.Module):
        yield from _registered(path, value)
        yield from _strays(path, value)
    elif isinstance(value, torch.optim.Optimizer):
        states = chain.from_iterable(state.values() for state in value.state.values())
        moving = f"{path}.load_state_dict({path}.state_dict())"  # casts the state to the parameters' device
        for device in dict.fromkeys(str(s.device) for s in states if isinstance(s, Tensor) and s.dim()):
            yield Place(path, device, "its state", moving)
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from find_places(f"{path}[{key!r}]", item)


def _registered(path: str, module: nn.Module) -> Iterator[Place]:
    """Yield the device of most of a module's parameters and buffers, then those elsewhere."""
    devices = {name: str(t.device) for name, t in chain(module.named_parameters(), module.named_buffers())}
    move = f'{path}.to("{{home}}")'
    for main, count in Counter(devices.values()).most_common(1):
        yield Place(path, main, f"{count} parameters and buffers", move)
        strangers = {name: device for name, device in devices.items() if device != main}
        for name, device in list(strangers.items())[:_LISTED]:
            yield Place(f"{path}.{name}", device, move=move)
        if len(strangers) > _LISTED:
            yield Place(f"{path}...", device, f"and {len(strangers) - _LISTED} more", move)


def _strays(path: str, module: nn.Module) -> Iterator[Place]:
    """Yield what hangs on a module without being registered: tensors, and layers in plain lists and dicts."""
    for prefix, child in module.named_modules():
        where = f"{path}.{prefix}".rstrip(".")
        for attribute, value in vars(child).items():
            if attribute.startswith("_"):
                continue
            note, cure = "in a plain list or dict", f"self.{attribute} = nn.ModuleList(...)"
            if isinstance(value, Tensor):
                note, cure = "a plain attribute", f'self.register_buffer("{attribute}", ...)'
            for place in find_places(f"{where}.{attribute}", value):
                move = f"in {type(child).__name__}: {cure}"
                yield replace(place, note=f"{note}: .to() leaves it behind", move=move)


def find_home(places: list[Place]) -> str:
    """Return the device where most things are, an accelerator before the CPU; "" for no places."""
    counts = Counter(place.device for place in places)
    return max(counts, key=lambda device: (device != "cpu", counts[device]), default="")


def table(places: list[Place], home: str = "") -> tuple[str, ...]:
    """Lay places out in columns, one line each; with a home, an arrow shows what is not there."""
    width = max((len(place.path) for place in places), default=0)
    lines = []
    for place in places:
        arrow = f"<- not on {home}" if home and place.is_away(home) else ""
        note = f"({place.note})" if place.note else ""
        columns = [place.path.ljust(width), place.device.ljust(6), arrow, note]
        lines.append("  ".join(column for column in columns if column).rstrip())
    return tuple(lines)


def moves(places: list[Place], home: str) -> str:
    """Write the code that brings everything home, one line each; empty if all is there."""
    away = (place.move.format(home=home) for place in places if place.is_away(home))
    return "\n".join(dict.fromkeys(away))
