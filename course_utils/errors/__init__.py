"""An error translator: what happened, at which line of yours, where your objects are, what to do.

The real error should be seen too, so a cell catches it and prints both:

    try:
        loss = criterion(net(images), labels)
    except RuntimeError as error:
        print(error)
        print(course_utils.explain(error, net=net, images=images, labels=labels))
"""

import re
import sys
import sysconfig
import textwrap
import traceback
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from .known import KNOWN_ERRORS, KnownError
from .where import Place, find_home, find_places, table

_COLUMN, _WIDTH = 15, 100  # where the text starts, where it wraps
_REPLICA = re.compile(r"Caught \w+ in replica (\d+) on device \d+\.\n.*\n(?=[\w.]+: )", re.DOTALL)
_PRINTED_FRAME = re.compile(  # a frame without a source line, as of <frozen runpy>, takes none of the next
    r'File "(.+?)", line (\d+), in (\S+)\n\s+(?!\s|File ")(.+)'
)
_CELL = re.compile(r"ipykernel_\d+|ipython-input")
_MOVE = "Bring them together: x = x.to(device) for a tensor, module.to(device) for a module."
_NAME = "To see where your objects are, name them: explain(error, net=net, x=x)."
_MADE = (
    "look for a tensor made on the way, as in forward, which cannot be seen from here. Write, for example, "
    "torch.zeros(n, device=x.device)."
)
_SEARCH = (
    "Read the traceback from the bottom up to the first line that is yours, and search for the last line."
)


@dataclass(frozen=True)
class Explanation:
    """What an error means. It holds text only, so it keeps no tensor and no traceback alive.

    Attributes:
        what: what happened, in a sentence or two.
        argument: the argument that the message names, as in "mat1"; None where it names none.
        devices: the devices that the message names.
        lines: the reader's own lines on the way to the error, the deepest first; empty where unknown.
        objects: where each named object is, one line each; several for a module that is in two places.
        fix: what to do; one line, or several lines of code.
        known: False if the error is not among those explained; `what` then repeats its last line.
    """

    what: str
    argument: str | None
    devices: tuple[str, ...]
    lines: tuple[str, ...]
    objects: tuple[str, ...]
    fix: str
    known: bool

    def __str__(self) -> str:
        parts = {"What happened": _wrap(self.what), "Your line": self.lines, "Your objects": self.objects}
        parts["What to do"] = _wrap(self.fix)
        between = "\n" + " " * _COLUMN
        return "\n".join(
            title.ljust(_COLUMN) + between.join(lines) for title, lines in parts.items() if lines
        )

    __repr__ = __str__


def explain(error: BaseException | str | None = None, /, **named: Any) -> Explanation:
    """Say what an error means, which line of yours led to it, where your objects are, and what to do.

    Args:
        error: an exception; or the text of one seen elsewhere; or None for the last one nobody caught.
        **named: tensors, modules, optimizers, and lists, tuples and dicts of them, under the names they
            have in your code. Anything else is passed over.

    Raises:
        ValueError: no error was given, and there was none in this session.
    """
    if error is None:
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if error is None:
        raise ValueError(
            "There is no error to explain: write `except RuntimeError as error`, and pass error."
        )
    message = str(error).strip()
    replica = _REPLICA.search(message)
    text = message[replica.end() :] if replica else message
    lines = _own_lines(error, message)
    places = list(chain.from_iterable(find_places(name, value) for name, value in named.items()))
    for known in KNOWN_ERRORS:
        if match := known.pattern.search(text):
            values = known.fill(match)
            what = (f"In replica {replica[1]}: " if replica else "") + known.what.format(**values)
            devices = tuple(values[key] for key in ("device", "others") if values.get(key))
            objects = table(places, find_home(places) if known.mix else "")
            fix = _fix(known, values, places)
            return Explanation(what, values.get("argument") or None, devices, lines, objects, fix, known=True)
    kind = "" if isinstance(error, str) else f"{type(error).__name__}: "
    what = f"I do not know this error. Its last line: {kind}{(text or '(no text)').splitlines()[-1]}"
    return Explanation(what, None, (), lines, table(places), _SEARCH, known=False)


def _fix(known: KnownError, values: dict[str, str], places: list[Place]) -> str:
    """Say what to do: code for the objects that are astray, else the answer for this kind of error."""
    home = find_home(places)
    general = known.fix.format(**values)
    if not known.mix:
        return general
    if not places:
        return f"{general or _MOVE} {_NAME}"
    away = [place for place in places if place.is_away(home)]
    if not away:
        return f"{general} All you named is on {home}: {_MADE}".lstrip()
    moves = "\n".join(dict.fromkeys(place.move.format(home=home) for place in away))
    return f"{moves}\nThen {_MADE}" if any(place.stray for place in away) else moves


def _wrap(text: str) -> list[str]:
    """Break text into lines; lines of their own stay so."""
    options = {"width": _WIDTH - _COLUMN, "break_long_words": False, "break_on_hyphens": False}
    return [line for part in text.splitlines() for line in textwrap.wrap(part, **options)]


def _own_lines(error: BaseException | str, message: str) -> tuple[str, ...]:
    """Return the deepest of the reader's own lines, and the outermost one if it is another."""
    trace = [] if isinstance(error, str) else traceback.extract_tb(error.__traceback__)
    frames = [*trace, *_PRINTED_FRAME.findall(message)]  # DataParallel puts a replica's into the message
    own = list(dict.fromkeys(_describe(*frame) for frame in frames if is_own(frame[0])))
    return (own[-1], f"called from: {own[0]}") if len(own) > 1 else tuple(own)


def is_own(filename: str) -> bool:
    """Tell the reader's files and cells from libraries, Python's own files and this package."""
    if filename.startswith("<"):
        return not filename.startswith("<frozen")
    path = Path(filename).resolve()
    ours = Path(sysconfig.get_path("stdlib")).resolve(), Path(__file__).resolve().parents[1]
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(folder) for folder in ours)


def _describe(filename: str, number: int | str | None, function: str, source: str | None) -> str:
    """Return a line of code and where it is, as in "y = net(x)    (line 3 of the cell, in train)"."""
    line = f"line {number}"
    where = f"{line} of the cell" if _CELL.search(filename) else f"{Path(filename).name}, {line}"
    inside = "" if function.startswith("<") else f", in {function}"
    return f"{(source or '(source not at hand)').strip()}    ({where}{inside})"
