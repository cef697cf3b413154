"""CUDA's errors, in the exact words that PyTorch 2.10 to 2.15 prints, from `cuda.toml`."""

import tomllib
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import torch


def _data(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


@cache
def wrappers() -> frozenset[str]:
    """Return the wrappers that check devices, of the running PyTorch or the last known one before it."""
    known = {tuple(map(int, version.split("."))): names for version, names in _data("wrappers.toml").items()}
    running = tuple(map(int, torch.__version__.split(".")[:2]))
    names = known[max((version for version in known if version <= running), default=min(known))]
    return frozenset(f"wrapper_CUDA_{name}" for name in names.split())


_CUDA = _data("cuda.toml")
WORDS: dict[str, str] = _CUDA["words"]
OPERATIONS = {name: frozenset(names.split()) for name, names in _CUDA["operations"].items()}
ANY_ORDER: dict[str, str] = _CUDA["any_order"]
FLOATING = {name: kernel for kernel, names in _CUDA["floating"].items() for name in names.split()}
ABSENT: dict[str, str] = _CUDA["absent"]
CARD: dict[str, str | int] = _CUDA["card"]
LIMITS: dict[str, list[int]] = _CUDA["limits"]
CARDS: dict[str, dict[str, Any]] = _data("cards.toml")
if torch.__version__ < "2.12":  # compares as versions
    WORDS["asynchronous"] += WORDS["dsa"]
    WORDS["invalid_device"] += WORDS["asynchronous"]
for _words in ("device_assert", "invalid_handle"):
    WORDS[_words] += WORDS["asynchronous"]


def refuse(text: str) -> NoReturn:
    """Raise the error that a real GPU raises here."""
    raise RuntimeError(text)


def absent(name: str) -> NoReturn:
    """Refuse what only a real GPU has."""
    raise NotImplementedError(WORDS["absent"].format(name)) from None


def refusal(name: str) -> Callable[..., NoReturn]:
    """Return what stands in for a function that only a real GPU has."""
    return lambda *_, **__: absent(name)


def alert_any_order(name: str) -> None:
    """Refuse an operation without a fixed order, or warn, as `torch.use_deterministic_algorithms` asks."""
    if torch.is_deterministic_algorithms_warn_only_enabled():
        warnings.warn(WORDS["any_order_warned"].format(name), stacklevel=2)
    else:
        refuse(WORDS["any_order"].format(name))


def misplaced_gradient(gradient: torch.device, tensor: torch.device) -> NoReturn:
    """Refuse `tensor.grad = gradient` across devices (PyTorch prints the bare index as a character)."""
    if gradient.type != tensor.type:
        refuse(WORDS["gradient_of_other_type"].format(gradient.type, tensor.type))
    refuse(WORDS["gradient_of_other_index"].format(chr(gradient.index), chr(tensor.index)))


def invalid_device() -> torch.AcceleratorError:
    """Return the error for a device index that does not exist (cudaErrorInvalidDevice, 101)."""
    return _accelerator_error("invalid_device", 101)


def device_assert() -> torch.AcceleratorError:
    """Return the error of a kernel that found an index out of range (cudaErrorAssert, 710)."""
    return _accelerator_error("device_assert", 710)


def invalid_handle() -> torch.AcceleratorError:
    """Return the error for what belongs to another device (cudaErrorInvalidResourceHandle, 400)."""
    return _accelerator_error("invalid_handle", 400)


def _accelerator_error(words: str, code: int) -> torch.AcceleratorError:
    error = torch.AcceleratorError(WORDS[words])
    error.error_code = code
    return error


def format_size(nbytes: int) -> str:
    """Write a number of bytes as CUDA's allocator does (c10 `format_size`)."""
    for limit, unit in ((1024, "bytes"), (2**20, "KiB"), (2**30, "MiB")):
        if nbytes <= limit:
            return f"{nbytes} bytes" if unit == "bytes" else f"{nbytes * 1024 / limit:.2f} {unit}"
    return f"{nbytes / 2**30:.2f} GiB"
