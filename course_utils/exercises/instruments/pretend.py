"""Pretended hardware: what PyTorch would say on another machine, and GPUs whose work takes a known time.

Questions, waiting and clocks are replaced while a judge tries an answer, in this thread alone. No tensor is
ever made on a pretended device.
"""

import threading
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import torch

LAUNCH = 2e-5  # seconds that the pretended CPU spends on putting work into a queue
READING = 1e-8  # seconds that reading the pretended clock takes: a loop that polls it must come to an end
_Replacement = tuple[Any, str, Any]


def _replace(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute until `stack` is closed."""
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


@contextmanager
def machine(kind: str | None, count: int) -> Iterator[None]:
    """Let PyTorch answer as one built for `kind` that finds `count` devices of it.

    Args:
        kind: "cuda", "mps" or "xpu"; None for PyTorch built for the CPU.
        count: how many devices there are; 0 for none, or no driver.
    """
    with ExitStack() as stack:
        for owner, name, value in _answers(kind, count):
            _replace(stack, owner, name, value)
        yield


def _answers(kind: str | None, count: int) -> Iterator[_Replacement]:
    """Yield what answers differently on that machine."""

    def current_accelerator(check_available: bool = False) -> torch.device | None:
        return torch.device(kind) if kind and (count or not check_available) else None

    def index_of(asked: str | None) -> Callable[[], int]:
        def current() -> int:
            if kind != asked or not count:
                raise RuntimeError("Cannot access accelerator device when none is available.")
            return 0

        return current

    for owner, asked in ((torch.accelerator, kind), (torch.cuda, "cuda"), (torch.xpu, "xpu")):
        found = count if kind == asked else 0
        yield owner, "is_available", lambda found=found: found > 0
        yield owner, "device_count", lambda found=found: found
    yield torch.accelerator, "current_accelerator", current_accelerator
    yield torch.accelerator, "current_device_index", index_of(kind)
    yield torch.cuda, "current_device", index_of("cuda")
    yield torch.xpu, "current_device", index_of("xpu")
    yield torch.backends.mps, "is_built", lambda: kind == "mps"
    yield torch.backends.mps, "is_available", lambda: kind == "mps" and count > 0
    yield torch.version, "cuda", "13.0" if kind == "cuda" else None


class Queues:
    """GPUs that take work from a queue each, and a clock that only their work and their launches move.

    Attributes:
        kind: what PyTorch calls these GPUs: "cuda" or "mps".
        now: the pretended clock, in seconds.
        free: for each GPU, when its queue will be empty.
        current: number of the current GPU.
        calls, readings, slept: how often work was called and a clock read, and the seconds slept.
        early: whether a clock was read while a queue was not empty.
    """

    def __init__(self, count: int, backlog: float = 0.0, kind: str = "cuda") -> None:
        self.kind, self.now, self.current = kind, 1000.0, 0
        self.free = [self.now + backlog] * count
        self.calls = self.readings = 0
        self.slept, self.early = 0.0, False

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
        if not self.free:
            raise RuntimeError("Cannot access accelerator device when none is available.")
        self.now = max(self.now, self.free[self.number(device)])

    def number(self, device: Any = None) -> int:
        """Return the number that a device, its name, its number or None stands for."""
        if device is None or isinstance(device, int):
            return self.current if device is None else device
        named = torch.device(device)
        if named.type != self.kind:
            raise ValueError(f"Expected a {self.kind} device, but got: {named}")
        return self.current if named.index is None else named.index

    def read(self) -> float:
        """Read the clock."""
        self.readings += 1
        self.now += READING
        self.early |= any(self.now < free for free in self.free)
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the clock run."""
        self.slept += seconds
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
            for owner, name, value in self._replacements():
                known[id(getattr(owner, name))] = value
                _replace(stack, owner, name, value)
            for function in (timeit.Timer.__init__, timeit.timeit, timeit.repeat):
                defaults = tuple(known.get(id(value), value) for value in function.__defaults__)
                _replace(stack, function, "__defaults__", defaults)
            for name, value in [(name, known.get(id(value))) for name, value in space.items()]:
                if value is not None:  # from time import perf_counter
                    stack.callback(space.__setitem__, name, space[name])
                    space[name] = value
            yield

    def _replacements(self) -> Iterator[_Replacement]:
        for name in ("perf_counter", "monotonic", "time"):
            yield time, name, self._here(getattr(time, name), self.read)
            nanoseconds = self._here(getattr(time, f"{name}_ns"), lambda: round(self.read() * 1e9))
            yield time, f"{name}_ns", nanoseconds
        yield time, "sleep", self._here(time.sleep, self.sleep)
        yield timeit, "default_timer", self._here(timeit.default_timer, self.read)
        yield torch.accelerator, "synchronize", self.wait
        yield torch, "Event", lambda *_, **__: Mark(self)
        for kind, functions in (("cuda", self._cuda()), ("mps", self._mps())):
            for owner, name, value in functions:
                yield owner, name, value if self.kind == kind else _not_built(kind)

    def _cuda(self) -> Iterator[_Replacement]:
        yield torch.cuda, "synchronize", self.wait
        yield torch.cuda, "current_device", lambda: self.current
        yield torch.cuda, "device", self.on
        yield torch.cuda, "set_device", lambda device: setattr(self, "current", self.number(device))
        yield torch.cuda, "current_stream", lambda device=None: Mark(self, self.number(device))
        yield torch.cuda, "Event", lambda **_: Mark(self)

    def _mps(self) -> Iterator[_Replacement]:
        yield torch.mps, "synchronize", self.wait
        yield torch.mps, "Event", lambda **_: Mark(self)

    def _here(self, real: Callable[..., Any], pretended: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that is `pretended` in this thread; a kernel's other threads need true clocks."""
        thread = threading.get_ident()
        return lambda *args: (pretended if threading.get_ident() == thread else real)(*args)


def _not_built(kind: str) -> Callable[..., NoReturn]:
    """Return what stands for a function of a kind of GPU that this PyTorch was not built for."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError(f"Torch not compiled with {kind.upper()} enabled")

    return fail


class Mark:
    """An event, or a stream's end: a mark in a queue that knows when it is reached."""

    def __init__(self, queues: Queues, number: int | None = None) -> None:
        self._queues, self._number, self._when = queues, number, None

    def record(self, stream: "Mark | None" = None) -> None:
        """Put the mark into a stream's queue, else into that of the current GPU."""
        queues = self._queues
        number = queues.current if stream is None else stream._number
        if not queues.free:
            raise RuntimeError("Cannot access accelerator device when none is available.")
        self._when = max(queues.now, queues.free[number])

    def synchronize(self) -> None:
        """Wait until the mark is reached."""
        queues = self._queues
        queues.now = max(queues.now, queues.free[self._number] if self._when is None else self._when)

    def elapsed_time(self, end: "Mark") -> float:
        """Return the milliseconds from this mark to `end`, both of them reached."""
        self._queues.readings += 1
        if self._queues.now < max(self._when, end._when):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return (end._when - self._when) * 1e3
