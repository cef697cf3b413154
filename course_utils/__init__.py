"""Helpers for the PyTorch GPU course: the virtual GPUs, data, timing, drawings.

Importing this package is light: torch is loaded only when a name that needs it is first used,
because the command line (`python3 -m course_utils`) runs before anything is installed.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {  # each with the public names that it defines
    "session": "start",
    "machine.doctor": "doctor",
    "machine.gpu_table": "gpu_status",
    "machine.gpu_watch": "watch_gpus",
    "machine.timing": "measure Stopwatch synchronize",
    "machine.recorded": "records",
    "virtual": "virtual_gpus",
    "data.cifar10": "load_cifar10",
    "figures.machine_map": "draw_machine",
    "figures.style": "device_color CATEGORY_COLORS CATEGORY_HATCHES",
    "figures.timeline": "draw_timeline intervals",
    "figures.speed_plots": "draw_roofline draw_ladder",
    "memory": "track_memory",
    "errors": "explain",
    "distributed": "torchrun",
    "distributed.scripts": "take_home",
    "distributed.trying": "try_script",
}
_PUBLIC = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":  # quoted: an old Python must get past this line
    """List the public names, also those not loaded yet."""
    return sorted([*globals(), *_PUBLIC])


def load_ipython_extension(ipython: Any) -> None:
    """Explain the error of each cell that fails from now on: `%load_ext course_utils` in a notebook."""
    ipython.events.register("post_run_cell", _explain_cell)


def unload_ipython_extension(ipython: Any) -> None:
    """Explain no more: `%unload_ext course_utils`."""
    ipython.events.unregister("post_run_cell", _explain_cell)


def _explain_cell(result: Any) -> None:
    if isinstance(result.error_in_exec, Exception):  # not an interrupt
        print(import_module(f"{__name__}.errors").explain_at_hand(result.error_in_exec))
