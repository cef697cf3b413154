"""An error translator: what happened, at which line of yours, where your objects are, what to do.

The real error should be seen too, so a cell catches it and prints both:

    try:
        loss = criterion(net(images), labels)
    except RuntimeError as error:
        print(error)
        print(course_utils.explain(error, net=net, images=images, labels=labels))
"""

import linecache
import re
import sys
import textwrap
import traceback
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PureWindowsPath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from .known import KNOWN_ERRORS, TEXTS, KnownError
from .where import UNSEEN, Place, find_home, find_places, table

_COLUMN, _WIDTH = 15, 100  # where the text starts, where it wraps
# a printed traceback up to the message; a process of torchrun begins each line with its rank
_FRAMES = re.compile(r"(?:Original )?Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*")
_RANK = re.compile(r"^\[rank(\d+)\]: ?", re.MULTILINE)
_WORKER = re.compile(r"Caught \w+ in (replica|DataLoader worker process) (\d+)(?: on device \d+)?\.\n")
_RAISED = re.compile(r"^[\w.]*(?:Error|Exception(?! raised)|Warning|Interrupt|Iteration)\b.*", re.MULTILINE)
_PRINTED_FRAME = re.compile(  # a frame without a source line, as of <frozen runpy>, takes none of the next
    r'File "(.+?)", line (\d+), in (\S+)\n\s+(?!\s|File ")(.+)'
)
# a file of Python's library, on this machine or on another
_PYTHONS = re.compile(r"(?:[/\\]lib(?:64)?[/\\]python[\d.]+[/\\]|\\lib\\)(\w+)", re.IGNORECASE)
_CELL = re.compile(r"ipykernel_\d+|ipython-input")


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
        known: False if the error is not among those explained; `what` then repeats what tells most of it.
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
        **named: tensors, modules, optimizers, lists and dicts of them, and objects that have such
            attributes, under the names they have in your code.

    Raises:
        ValueError: no error was given, and there was none in this session.
    """
    if error is None:
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if error is None:
        raise ValueError("There is no error to explain: write `except Exception as error`, and pass error.")
    message = _RANK.sub("", str(error)).strip()
    text, who = _FRAMES.sub("", message + "\n"), _who(str(error))
    lines = _own_lines(error, message)
    places = list(chain.from_iterable(find_places(name, value) for name, value in named.items()))
    for known in KNOWN_ERRORS:
        if match := known.pattern.search(text):
            values = known.fill(match)
            devices = tuple(values[key] for key in ("device", "others") if values.get(key))
            objects = table(places, find_home(places) if known.mix else "")
            what, fix = who + known.what.format(**values), _fix(known, values, places, "replica" in who)
            return Explanation(what, values.get("argument") or None, devices, lines, objects, fix, known=True)
    what = f"{who}I do not know this error: {_telling(error, text)}"
    return Explanation(what, None, (), lines, table(places), TEXTS["search"], known=False)


def explain_at_hand(error: BaseException) -> Explanation:
    """Explain an error, of a mix of devices with the objects that the reader's deepest line names."""
    named = {}
    for frame, number in traceback.walk_tb(error.__traceback__):
        if is_own(frame.f_code.co_filename):
            names = re.findall(r"\b[a-zA-Z]\w*", linecache.getline(frame.f_code.co_filename, number))
            scope = frame.f_globals | frame.f_locals
            named = {name: scope[name] for name in names if name in scope}
    code = type, ModuleType, FunctionType, BuiltinFunctionType, MethodType
    told = explain(error, **{name: value for name, value in named.items() if not isinstance(value, code)})
    return told if told.devices else replace(told, objects=())


def _who(message: str) -> str:
    """Tell the process or replica that met the error, as in "On rank 1: "; "" where the text names none."""
    rank, worker = _RANK.search(message), _WORKER.search(message)
    parts = [f"on rank {rank[1]}"] if rank else []
    parts += [f"in {worker[1]} {worker[2]}"] if worker else []
    return f"{parts[0][0].upper()}{', '.join(parts)[1:]}: " if parts else ""


def _telling(error: BaseException | str, text: str) -> str:
    """Return an error's kind and the first line of its message; of a printed traceback, the last error's."""
    text = _WORKER.sub("", text)
    raised = _RAISED.findall(text)
    rest = text[text.rfind(raised[-1]) :] if raised else text
    lines = [line.strip() for line in rest.splitlines() if line.strip()]
    told = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    kind = "" if raised or isinstance(error, str) else type(error).__name__
    return ": ".join(part for part in (kind, told) if part) or "it has no text"


def _fix(known: KnownError, values: dict[str, str], places: list[Place], replica: bool) -> str:
    """Say what to do: code for the objects that are astray, else the answer for this kind of error."""
    home = find_home(places)
    general = known.fix.format(**values)
    if not known.mix:
        return general
    away = [place for place in places if place.is_away(home)]
    if replica and not away:
        return TEXTS["replica"]
    if not home:
        return f"{general or TEXTS['move']} {TEXTS['name']}"
    unseen = ", ".join(place.path for place in places if place.device == UNSEEN)
    if not away:
        seen = TEXTS["unseen"].format(home=home, names=unseen) if unseen else f"All you named is on {home}: "
        return f"{general} {seen}{TEXTS['made']}".lstrip()
    moves = "\n".join(dict.fromkeys(place.move.format(home=home) for place in away))
    return f"{moves}\nThen {TEXTS['made']}" if any(place.stray for place in away) else moves


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
    installed = {"site-packages", "dist-packages"} & {*re.split(r"[/\\]", filename), *path.parts}
    pythons = any(name in sys.stdlib_module_names for name in _PYTHONS.findall(f"{filename} {path}"))
    return not (installed or pythons or path.is_relative_to(Path(__file__).resolve().parents[1]))


def _describe(filename: str, number: int | str | None, function: str, source: str | None) -> str:
    """Return a line of code and where it is, as in "y = net(x)    (line 3 of the cell, in train)"."""
    file = "" if _CELL.search(filename) else PureWindowsPath(filename).name  # it knows / as well
    where = f"{file}, line {number}" if file else f"line {number} of the cell"
    inside = "" if function.startswith("<") else f", in {function}"
    return f"{(source or '(source not at hand)').strip()}    ({where}{inside})"
