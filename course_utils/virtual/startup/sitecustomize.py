"""Every Python that is started where virtual GPUs are on finds this file as its `sitecustomize`.

It switches them on once torch is imported, so that a process without torch pays next to nothing.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import takewhile
from types import ModuleType

SETTINGS = "COURSE_VIRTUAL_GPUS"  # the variable: how many, of which memory, as which card, as in "8:2 GiB:T4"
THEN = "COURSE_VIRTUAL_THEN"  # the variable: a module with a function `begin`, which is given the machine
_VIRTUAL = "course_utils.virtual"
FOLDER = os.path.dirname(os.path.abspath(__file__))


def settings(count: int, memory: int | str | None, card: str | None = None) -> dict[str, str]:
    """Return the variables that give a child process virtual GPUs."""
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    first = [] if path[:1] == [FOLDER] else [FOLDER]
    return {SETTINGS: f"{count}:{memory or ''}:{card or ''}", "PYTHONPATH": os.pathsep.join(first + path)}


class _Finder:
    """Finds one module as it is found anyway, and tells when it is loaded."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self.name, self.then = name, then

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self.name:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec:
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._load(load, module)
        return spec

    def _load(self, load: Callable[[ModuleType], None], module: ModuleType) -> None:
        load(module)
        sys.meta_path.remove(self)  # not before: many only look whether torch is there
        self.then(module)


def when_imported(name: str, then: Callable[[ModuleType], None]) -> None:
    """Call `then` with a module: now where it is there, else as soon as it is imported."""
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, then))


def visible(count: int, names: str | None) -> int:
    """Return how many of `count` GPUs CUDA_VISIBLE_DEVICES names, up to the first that is none, as -1."""
    if names is None:
        return count
    known = {str(index) for index in range(count)}
    return len(list(takewhile(known.__contains__, map(str.strip, names.split(",")))))


def _switch_on(_: ModuleType) -> None:
    """Switch virtual GPUs on as the parent has them, or as many as this process may see."""
    count, memory, card = os.environ[SETTINGS].split(":")
    number = visible(int(count), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not number:
        return
    root = os.path.abspath(os.path.join(FOLDER, *[os.pardir] * 3))
    missing = [] if root in sys.path else [root]
    sys.path[:0] = missing
    if not hasattr(sys.modules.get(_VIRTUAL), "switch_on"):  # perhaps it imports torch: it begins anew
        sys.modules.pop(_VIRTUAL, None)
    virtual = import_module(_VIRTUAL)
    del sys.path[: len(missing)]
    try:
        machine = virtual.switch_on(number, memory or None, card or None)
    except ValueError as error:
        sys.exit(f"course_utils: {error}")
    if THEN in os.environ:
        import_module(os.environ[THEN]).begin(machine)


if __name__ == "sitecustomize":
    if os.environ.get(SETTINGS):
        when_imported("torch", _switch_on)
    sys.path[:] = [entry for entry in sys.path if entry != FOLDER]
    del sys.modules["sitecustomize"]
    import sitecustomize  # noqa: F401  # the one that this stood before; site lets it be missing
