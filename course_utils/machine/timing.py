"""Honest timing: warm up, wait for the device on both sides of the clock, repeat, and report the spread.

A GPU works after the call has returned, so a clock read without waiting measures the launch, not the work.
"""

import statistics
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

BLOCK_SECONDS = 0.01  # calls are grouped until one reading of the clock covers about this long


def synchronize(device: torch.device | str = "cpu") -> None:
    """Wait until `device` has finished all its work; on the CPU, where calls are never late, do nothing."""
    if torch.device(device).type != "cpu":  # torch's own function raises on a machine without a GPU
        torch.accelerator.synchronize(device)


class Timing(float):
    """Median seconds per call: a float to compute with that also knows its spread.

    Attributes:
        times (tuple[float, ...]): seconds per call of each repeat, in the order they were measured.
        iqr (float): interquartile range of `times` in seconds, the width of their middle half.
        calls (int): how many calls each repeat averages over.
    """

    def __new__(cls, times: list[float], calls: int = 1) -> "Timing":
        self = super().__new__(cls, statistics.median(times))
        self.times, self.calls = tuple(times), calls
        low, _, high = statistics.quantiles(times, method="inclusive") if len(times) > 1 else (times[0],) * 3
        self.iqr = high - low
        return self

    def __repr__(self) -> str:
        runs = f"{len(self.times)} x {self.calls} call{'s' if self.calls > 1 else ''}"
        return f"{format_seconds(self)} (IQR {format_seconds(self.iqr)}, {runs})"


def format_seconds(seconds: float) -> str:
    """Return `seconds` with three digits in the unit that fits, as in "1.24 ms"."""
    if seconds >= 99.95:
        return f"{seconds:.0f} s"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 0.9995:  # 999.6 us would print as 1e+03
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def measure(
    fn: Callable[[], object], device: torch.device | str = "cpu", *, repeats: int = 7, warmup: int = 2
) -> Timing:
    """Time `fn()` on `device` and return the median seconds per call.

    The warm-up calls are not counted: the first one on a GPU also loads kernels and fills caches. Short calls
    run several times between two readings of the clock, so that waiting for the device does not drown them.

    Args:
        fn: called without arguments; what it returns is dropped.
        device: the device to wait for.
        repeats: how many times to measure.
        warmup: how many calls to make first, at least 1.

    Raises:
        ValueError: `repeats` or `warmup` is below 1.
    """
    if repeats < 1 or warmup < 1:
        raise ValueError(f"measure() needs repeats and warmup of at least 1, got {repeats} and {warmup}.")

    def clock() -> float:
        synchronize(device)
        return time.perf_counter()

    timer = timeit.Timer(fn, timer=clock)  # it also pauses the garbage collector
    timer.timeit(warmup)
    calls = max(1, round(BLOCK_SECONDS / max(timer.timeit(1), 1e-7)))
    return Timing([seconds / calls for seconds in timer.repeat(repeats, calls)], calls)


class Stopwatch:
    """Adds up seconds per named section, to see where the time of a loop goes.

        watch = Stopwatch(device)
        with watch("forward"):
            loss = criterion(model(x), y)
        print(watch)

    It waits for the device before and after each section. Without that, the GPU's work would be charged to
    whichever section happens to wait next; with it, nothing overlaps, so a watched loop is a little slower.

    Attributes:
        seconds: total seconds per section, in the order the sections were first met.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, section: str) -> Iterator[None]:
        """Add the seconds that the `with` block takes to `section`, also when the block raises."""
        synchronize(self.device)
        start = time.perf_counter()
        try:
            yield
            synchronize(self.device)
        finally:
            self.seconds[section] = self.seconds.get(section, 0.0) + time.perf_counter() - start

    def __repr__(self) -> str:
        total = sum(self.seconds.values()) or 1.0
        width = max(map(len, self.seconds), default=0)
        row = "{:<{}}  {:>8}  {:4.0%}".format
        return "\n".join(row(k, width, format_seconds(s), s / total) for k, s in self.seconds.items())
