"""Helpers for the PyTorch GPU course: the virtual GPUs, data, timing, drawings.

Importing this package is light: torch is loaded only when a name that needs it is first used,
because the command line (`python3 -m course_utils`) runs before anything is installed.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> the module that defines it
_PUBLIC = {
    "start": "session",
    "doctor": "machine.doctor",
    "gpu_status": "machine.gpu_table",
    "watch_gpus": "machine.gpu_watch",
    "measure": "machine.timing",
    "Stopwatch": "machine.timing",
    "synchronize": "machine.timing",
    "records": "machine.recorded",
    "virtual_gpus": "virtual",
    "load_cifar10": "data.load",
    "draw_machine": "figures.machine_map",
    "device_color": "figures.style",
    "CATEGORY_COLORS": "figures.style",
    "CATEGORY_HATCHES": "figures.style",
    "draw_timeline": "figures.timeline",
    "intervals": "figures.timeline",
    "draw_roofline": "figures.speed_plots",
    "draw_ladder": "figures.speed_plots",
    "track_memory": "memory",
    "explain": "errors",
    "torchrun": "distributed",
    "take_home": "distributed.scripts",
}

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
