"""Pretended hardware: what PyTorch would say on another machine, and GPUs whose work takes a known time.

Questions, waiting and clocks are replaced while a judge tries an answer, in this thread alone. No tensor is
ever made on a pretended device.
"""

import threading
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import Mock, patch

import torch

LAUNCH = 2e-5  # seconds that the pretended CPU spends on putting work into a queue
READING = 1e-8  # seconds that reading the pretended clock takes: a loop that polls it must come to an end
_NONE = "Cannot access accelerator device when none is available."


@contextmanager
def machine(kind: str | None, count: int) -> Iterator[None]:
    """Let PyTorch answer as one built for `kind` that finds `count` devices of it.

    Args:
        kind: "cuda", "mps" or "xpu"; None for PyTorch built for the CPU.
        count: how many devices there are; 0 for none, or no driver.
    """

    def current_accelerator(check_available: bool = False) -> torch.device | None:
        return torch.device(kind) if kind and (count or not check_available) else None

    mps = {"is_built": lambda: kind == "mps", "is_available": lambda: kind == "mps" and count > 0}
    with ExitStack() as stack:
        for owner, asked, current in (
            (torch.accelerator, kind, "current_device_index"),
            (torch.cuda, "cuda", "current_device"),
            (torch.xpu, "xpu", "current_device"),
        ):
            found = count if kind == asked else 0
            index = Mock(return_value=0, side_effect=None if found else RuntimeError(_NONE))
            counted = {"is_available": Mock(return_value=found > 0), "device_count": Mock(return_value=found)}
            stack.enter_context(patch.multiple(owner, **counted, **{current: index}))
        stack.enter_context(patch.object(torch.accelerator, "current_accelerator", current_accelerator))
        stack.enter_context(patch.multiple(torch.backends.mps, **mps))
        stack.enter_context(patch.object(torch.version, "cuda", "13.0" if kind == "cuda" else None))
        yield


class Queues:
    """GPUs that take work from a queue each, and a clock that only their work and their launches move.

    Attributes:
        kind: what PyTorch calls these GPUs: "cuda" or "mps".
        now: the pretended clock, in seconds.
        free: for each GPU, when its queue will be empty.
        current: the number of the current GPU.
        calls, readings: how often work was called, and a clock read.
    """

    def __init__(self, count: int, backlog: float = 0.0, kind: str = "cuda") -> None:
        self.kind, self.now, self.current = kind, 1000.0, 0
        self.free = [self.now + backlog] * count
        self.calls = self.readings = 0

    def work(self, number: int | None, seconds: float, first: float = 0.0) -> Callable[[], None]:
        """Return work for GPU `number`, None for the CPU; its first call takes `first` seconds more."""

        def call() -> None:
            self.calls += 1
            self.now += first if self.calls == 1 else 0.0
            if number is None:
                self.now += seconds
            else:
                self.now += LAUNCH
                self.free[number] = max(self.free[number], self.now) + seconds

        return call

    def wait(self, device: Any = None) -> None:
        """Wait for the queue of a GPU, the current one if None, as `torch.cuda.synchronize` does."""
        self.now = max(self.now, self.free[self.number(device)])

    def number(self, device: Any = None) -> int:
        """Return the number that a device, its name, its number or None stands for."""
        if not self.free:
            raise RuntimeError(_NONE)
        if isinstance(device, int):
            return device
        named = torch.device(device or self.kind)
        if named.type != self.kind:
            raise ValueError(f"Expected a {self.kind} device, but got: {named}")
        return self.current if named.index is None else named.index

    def read(self) -> float:
        """Read the clock."""
        self.readings += 1
        self.now += READING
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @contextmanager
    def on(self, device: Any) -> Iterator[None]:
        """Make a GPU the current one, as `torch.cuda.device` does."""
        before, self.current = self.current, self.number(device)
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def instead(self, space: dict[str, Any]) -> Iterator[None]:
        """Replace PyTorch's GPUs and Python's clocks by these, also where `space` holds them by name."""
        known: dict[int, Any] = {}
        with machine(self.kind if self.free else None, len(self.free)), ExitStack() as stack:
            for owner, replacements in self._replacements():
                known |= {id(getattr(owner, name)): value for name, value in replacements.items()}
                stack.enter_context(patch.multiple(owner, **replacements))
            held = {name: value for name, value in space.items() if id(value) in known}
            stack.callback(space.update, held)
            space.update({name: known[id(value)] for name, value in held.items()})  # from time import ...
            yield

    def _replacements(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield what is replaced, by the names in its owner."""
        clocks = {"sleep": _here(time.sleep, self.sleep)}
        for name in ("perf_counter", "monotonic", "time"):
            clocks[name] = _here(getattr(time, name), self.read)
            clocks[f"{name}_ns"] = _here(getattr(time, f"{name}_ns"), lambda: round(self.read() * 1e9))
        timer = clocks["perf_counter"]
        for function in (timeit.Timer.__init__, timeit.timeit, timeit.repeat):
            defaults = [timer if value is timeit.default_timer else value for value in function.__defaults__]
            yield function, {"__defaults__": tuple(defaults)}
        yield timeit, {"default_timer": timer}
        yield time, clocks
        yield torch.accelerator, {"synchronize": self.wait}
        yield torch, {"Event": lambda *_, **__: Mark(self)}
        mps = {"synchronize": self.wait, "Event": lambda **_: Mark(self)}
        cuda = mps | {
            "current_device": lambda: self.current,
            "device": self.on,
            "set_device": lambda device: setattr(self, "current", self.number(device)),
            "current_stream": lambda device=None: Mark(self, self.number(device)),
        }
        for kind, owner, functions in (("cuda", torch.cuda, cuda), ("mps", torch.mps, mps)):
            missing = Mock(side_effect=AssertionError(f"Torch not compiled with {kind.upper()} enabled"))
            yield owner, functions if self.kind == kind else dict.fromkeys(functions, missing)


def _here(real: Callable[..., Any], pretended: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement for this thread alone: a kernel's other threads need true clocks."""
    thread = threading.get_ident()
    return lambda *args: (pretended if threading.get_ident() == thread else real)(*args)


class Mark:
    """An event, or a stream's end: a mark in a queue that knows when it is reached."""

    def __init__(self, queues: Queues, number: int | None = None) -> None:
        self._queues, self._number, self._when = queues, number, None

    def record(self, stream: "Mark | None" = None) -> None:
        """Put the mark into a stream's queue, else into that of the current GPU."""
        number = self._queues.number(stream and stream._number)
        self._when = max(self._queues.now, self._queues.free[number])

    def synchronize(self) -> None:
        """Wait until the mark is reached."""
        end = self._queues.free[self._number] if self._when is None else self._when
        self._queues.now = max(self._queues.now, end)

    def elapsed_time(self, end: "Mark") -> float:
        """Return the milliseconds from this mark to `end`, both of them reached."""
        self._queues.readings += 1
        if self._queues.now < max(self._when, end._when):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return (end._when - self._when) * 1e3
