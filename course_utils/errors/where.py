"""Where named objects are: the device of each tensor and of each part of a module, and how to move it."""

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from course_utils.figures.nested import Stray, strays, tensors_in, walk

_LISTED = 4  # tensors of a module on another device are listed up to here, then counted
_DEEP = 3  # attributes of attributes are looked into up to here
UNSEEN = "?"  # the device of what cannot be looked into
_PLAIN = bool | int | float | complex | str | bytes | None | torch.dtype | torch.device


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
        return self.device not in (home, UNSEEN) and not self.may_differ


def find_places(name: str, value: Any, depth: int = 0) -> Iterator[Place]:
    """Yield the places of a tensor, module, optimizer, list, dict, or of what an object has as attributes."""
    for path, leaf in walk(value, name):
        if isinstance(leaf, Tensor):
            number = leaf.dim() == 0 and leaf.device.type == "cpu"
            note = "a single number: may mix" if number else ""
            yield Place(path, str(leaf.device), note, f'{path} = {path}.to("{{home}}")', number)
        elif isinstance(leaf, nn.Module):
            yield from _registered(path, leaf)
            for stray in strays(leaf):
                if not isinstance(stray.leaf, Optimizer):
                    yield from _left_behind(path, stray)
        elif isinstance(leaf, Optimizer):
            state = tensors_in([list(each.values()) for each in leaf.state.values()])
            moving = f"{path}.load_state_dict({path}.state_dict())"  # casts it to the parameters' device
            for device in dict.fromkeys(str(tensor.device) for tensor in state if tensor.dim()):
                yield Place(path, device, "its state", moving)
        elif not isinstance(leaf, _PLAIN):
            yield from _attributes(path, leaf, depth)


def _attributes(path: str, thing: Any, depth: int) -> Iterator[Place]:
    """Yield the places of an object's attributes; say so where it cannot be looked into."""
    kind = type(thing).__name__
    closed = isinstance(thing, Dataset | DataLoader | type)  # of data, batches move
    if closed or inspect.isroutine(thing) or not hasattr(thing, "__dict__"):
        yield from [Place(path, UNSEEN, f"{kind}: not looked into")] if depth == 0 else []
    elif depth < _DEEP:
        move = f'{path} = {path}.to("{{home}}")' if hasattr(thing, "to") else ""
        if isinstance(thing, Distribution):
            move = f'{path} = {kind}(...), with parameters on "{{home}}"'
        inside = (find_places(f"{path}.{name}", value, depth + 1) for name, value in vars(thing).items())
        yield from (replace(place, move=move or place.move) for place in chain.from_iterable(inside))


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


def _left_behind(path: str, stray: Stray) -> Iterator[Place]:
    """Yield the places of what hangs on a module without being registered, and what cures that."""
    if states := getattr(stray.module, "_defaults", None):  # torchmetrics': .to() takes its state along
        if stray.attribute in states:
            for place in find_places(f"{path}.{stray.path}", stray.leaf):
                yield replace(place, note="a metric's state", move=f'{path}.to("{{home}}")')
        return
    alone, own = stray.leaf is stray.value, stray.attribute in vars(stray.module)
    note = (
        f"a {'plain' if own else 'class'} attribute" if alone else f"in a plain {type(stray.value).__name__}"
    )
    if isinstance(stray.leaf, Tensor) and not isinstance(stray.leaf, nn.Parameter):
        each = f"self.register_buffer(...) for each tensor in self.{stray.attribute}"
        cure = f'self.register_buffer("{stray.attribute}", ...)' if alone else each
    else:
        kind = "Parameter" if isinstance(stray.leaf, Tensor) else "Module"
        holder = f"nn.{kind}{'Dict' if isinstance(stray.value, Mapping) else 'List'}(...)"
        cure = f"self.{stray.attribute} = {'...' if alone else holder}"
    where = type(stray.module).__name__ + ("" if own else ".__init__, not in the class body")
    for place in find_places(f"{path}.{stray.path}", stray.leaf):
        yield replace(place, note=f"{note}: .to() leaves it behind", move=f"in {where}: {cure}", stray=True)


def find_home(places: list[Place]) -> str:
    """Return the device where most things are, an accelerator before the CPU; "" for no places."""
    counts = Counter(place.device for place in places if place.device != UNSEEN)
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
