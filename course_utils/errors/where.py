"""Where named objects are: the device of each tensor and of each part of a module, and how to move it."""

from collections import ChainMap, Counter
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
        stray: it hangs on a module without being registered.
    """

    path: str
    device: str
    note: str = ""
    move: str = ""
    may_differ: bool = False
    stray: bool = False

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
        yield from chain.from_iterable(find_places(*leaf) for leaf in _leaves(path, value))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all that lists, tuples and dicts hold, however deep, with its path; else the value itself."""
    if isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(f"{path}[{key!r}]", item)
    else:
        yield path, value


def _registered(path: str, module: nn.Module) -> Iterator[Place]:
    """Yield the device of most of a module's parameters and buffers, then those elsewhere."""
    named = {"parameter": module.named_parameters(), "buffer": module.named_buffers()}
    parts = [(kind, name, str(tensor.device)) for kind in named for name, tensor in named[kind]]
    move = f'{path}.to("{{home}}")'
    for main, _ in Counter(device for *_, device in parts).most_common(1):
        counts = Counter(kind for kind, _, device in parts if device == main)
        note = ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items())
        yield Place(path, main, note, move)
        strangers = [(name, device) for _, name, device in parts if device != main]
        for name, device in strangers[:_LISTED]:
            yield Place(f"{path}.{name}", device, move=move)
        if len(strangers) > _LISTED:
            yield Place(f"{path}...", device, f"and {len(strangers) - _LISTED} more", move)


def _strays(path: str, module: nn.Module) -> Iterator[Place]:
    """Yield the tensors and layers that hang on a module or its class without being registered."""
    registered = {id(item) for item in chain(module.parameters(), module.buffers(), module.modules())}
    for prefix, child in module.named_modules():
        where = f"{path}.{prefix}".rstrip(".")
        for attribute, value in ChainMap(vars(child), *map(vars, type(child).__mro__)).items():
            for inner, leaf in _leaves(f"{where}.{attribute}", value):
                if isinstance(leaf, Tensor | nn.Module) and id(leaf) not in registered:
                    note, move = _cure(child, attribute, value, leaf)
                    for place in find_places(inner, leaf):
                        yield replace(place, note=f"{note}: .to() leaves it behind", move=move, stray=True)


def _cure(module: nn.Module, attribute: str, value: Any, leaf: Tensor | nn.Module) -> tuple[str, str]:
    """Say what is special about an attribute that is, or holds, an unregistered leaf, and what cures it."""
    alone, own = leaf is value, attribute in vars(module)
    note = f"a {'plain' if own else 'class'} attribute" if alone else f"in a plain {type(value).__name__}"
    where = f"in {type(module).__name__}" + ("" if own else ".__init__, not in the class body")
    if isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter):
        each = f"self.register_buffer(...) for each tensor in self.{attribute}"
        return note, f"{where}: " + (f'self.register_buffer("{attribute}", ...)' if alone else each)
    kind = "Parameter" if isinstance(leaf, Tensor) else "Module"
    holder = "" if alone else f"nn.{kind}{'Dict' if isinstance(value, Mapping) else 'List'}(...)"
    return note, f"{where}: self.{attribute} = {holder or '...'}"


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
