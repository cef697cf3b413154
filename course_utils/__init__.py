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
    "doctor": "diagnosis",
    "gpu_status": "gpu_table",
    "watch_gpus": "gpu_watch",
    "virtual_gpus": "virtual",
    "load_cifar10": "data",
    "draw_machine": "machine_map",
    "device_color": "style",
    "explain": "explanation",
    "measure": "timing",
    "track_memory": "memory",
    "records": "recorded",
    "torchrun": "ranks",
    "take_home": "scripts",
    "draw_timeline": "timeline",
    "draw_roofline": "speed_plots",
    "draw_ladder": "speed_plots",
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
