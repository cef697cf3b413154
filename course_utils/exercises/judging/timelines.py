"""Judging the share of a timeline in which a device works, and the operations of a layer for each byte."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_utils.timeline import busy

from ..engine import close, wrong

Answer = Callable[..., Any]
Intervals = list[tuple[float, float]]
Mistakes = Iterator[tuple[str, float, str]]  # key, what an answer with this mistake returns, hint

_TIMELINES: list[tuple[Intervals, float, float]] = [  # intervals, and the window
    ([(2, 4), (6, 9)], 0, 10),
    ([(0, 4), (3, 6), (9, 10)], 0, 12),
    ([(7, 8.5), (1, 3), (2.5, 4)], 0, 10),
    ([(1, 2), (2, 3), (5, 6)], 0, 8),
    ([(1, 9), (2, 3), (4, 5.5), (11, 12)], 0, 16),
    ([(100, 104), (98, 101), (107, 130)], 100, 110),
    ([(1, 2), (20, 24)], 4, 12),
    ([(0.00125, 0.0015), (0.00125, 0.0015), (0.00170001, 0.0019)], 0.001, 0.002),
]


def judge_share(answer: Answer) -> None:
    """Ask for the share of several timelines."""
    for intervals, start, end in [*_TIMELINES, *map(_some_timeline, range(20))]:
        said = _number(answer(list(intervals), start, end))
        right = busy(_clip(intervals, start, end)) / (end - start)
        _tell(said, right, _shares(intervals, start, end))
    try:
        nothing = answer([], 0, 5)
    except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        wrong("empty", f"Where no kernel ran, it raises {type(error).__name__}. The share is 0 then.")
    if _number(nothing) != 0:
        wrong("empty", f"Where no kernel ran, the share is 0, and it says {nothing}.")


def _some_timeline(seed: int) -> tuple[Intervals, float, float]:
    """Return seven intervals of all kinds, in any order, and a window."""
    draw = Random(seed)
    begins = [draw.uniform(0, 20) for _ in range(7)]
    return [(begin, begin + draw.uniform(0.1, 6)) for begin in begins], 4.0, 18.0


def _number(said: Any) -> float:
    if isinstance(said, torch.Tensor) and said.numel() == 1:
        said = said.item()
    if isinstance(said, bool) or not hasattr(said, "__float__"):
        wrong("number", f"It should return a number, and returned {said!r}.")
    return float(said)


def _tell(said: float, right: float, mistakes: Mistakes) -> None:
    """Return for the right number; else name the mistake whose number it is."""
    if close(said, right):
        return
    for key, value, hint in mistakes:
        if close(said, value):
            wrong(key, hint)
    if close(said, right, 0.05):
        wrong("rough", f"Nearly: it says {said:.6g}, and it is {right:.6g}. Compute it exactly.")
    wrong("other", f"It says {said:.6g} where it is {right:.6g}.")


def _clip(intervals: Intervals, start: float, end: float) -> Intervals:
    clipped = [(max(begin, start), min(stop, end)) for begin, stop in intervals]
    return [(begin, stop) for begin, stop in clipped if begin < stop]


def _in_given_order(intervals: Intervals, keep_longest: bool) -> float:
    """Return the length that intervals cover, as one gets it who takes them to be in order."""
    total, reached = 0.0, float("-inf")
    for begin, stop in intervals:
        total += max(0.0, stop - max(begin, reached))
        reached = max(reached, stop) if keep_longest else stop
    return total


def _shares(intervals: Intervals, start: float, end: float) -> Mistakes:
    """Yield what usual mistakes make of a timeline."""
    inside = _clip(intervals, start, end)
    merged, window = busy(inside), end - start
    yield "percent", 100 * merged / window, "That is in percent. A share is a number from 0 to 1."
    yield "seconds", merged, "That is how long the device worked. Divide by how long the window is."
    yield "idle", 1 - merged / window, "That is the share in which it waits. Asked is when it works."
    total = sum(stop - begin for begin, stop in inside)
    yield "twice", total / window, "Where two kernels run at the same time, that time was counted twice."
    yield (
        "window",
        busy(intervals) / window,
        "What a kernel did before `start` or after `end` is not in the window.",
    )
    yield "window", sum(b - a for a, b in intervals) / window, "Count only what lies in the window, and once."
    nested = "One kernel lies within another, and the time after the inner one's end was counted again."
    yield "nested", _in_given_order(sorted(inside), keep_longest=False) / window, nested
    order = "The kernels come in any order. Bring them in the order of their beginnings first."
    yield "order", _in_given_order(inside, keep_longest=True) / window, order
    yield "order", _in_given_order(inside, keep_longest=False) / window, order
    if inside:
        first, last = min(inside)[0], max(stop for _, stop in inside)
        yield "gaps", (last - first) / window, "From the first to the last kernel there are gaps: it waits."
        yield "ends", merged / (last - first), "The waiting before the first and after the last counts, too."


_LAYERS: list[tuple[dict[str, Any], tuple[int, ...]]] = [  # of the convolution, and the input's shape
    ({"in_channels": 16, "out_channels": 32, "kernel_size": 3, "padding": 1}, (8, 16, 12, 12)),
    ({"in_channels": 3, "out_channels": 24, "kernel_size": 2}, (5, 3, 9, 7)),
    ({"in_channels": 8, "out_channels": 4, "kernel_size": (1, 5), "stride": 2}, (3, 8, 16, 18)),
    ({"in_channels": 12, "out_channels": 24, "kernel_size": 3, "groups": 3}, (2, 12, 10, 10)),
    ({"in_channels": 64, "out_channels": 64, "kernel_size": 1}, (1, 64, 4, 4)),
]


def judge_intensity(answer: Answer) -> None:
    """Ask for FLOP per byte of several convolutions, in float32 and without a bias."""
    for options, shape in _LAYERS:
        with torch.random.fork_rng(devices=[]):
            layer, x = nn.Conv2d(**options, bias=False), torch.zeros(shape)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            out = layer(x)
        flop, numbers = counter.get_total_flops(), x.numel() + layer.weight.numel() + out.numel()
        _tell(_number(answer(layer, x)), flop / (4 * numbers), _intensities(layer, x, out, flop))


def _intensities(layer: nn.Conv2d, x: torch.Tensor, out: torch.Tensor, flop: int) -> Mistakes:
    """Yield what usual mistakes make of a layer."""
    sizes = {"input": x.numel(), "weights": layer.weight.numel(), "output": out.numel()}
    numbers, height = sum(sizes.values()), layer.kernel_size[0]
    yield "macs", flop / 8 / numbers, "Half of it: a multiplication and an addition are two operations."
    yield "inverse", 4 * numbers / flop, "That is bytes per operation. Divide the other way round."
    yield "numbers", flop / numbers, "That is for each number. A float32 number has four bytes."
    yield "bits", flop / 32 / numbers, "That is for each bit. A byte has eight of them."
    for name, size in sizes.items():
        yield name, flop / 4 / (numbers - size), f"The bytes of the {name} are missing."
    side = flop * x[0, 0].numel() / out[0, 0].numel()
    with_side = numbers - out.numel() + len(x) * layer.out_channels * x[0, 0].numel()
    shape = "Stride and padding change the picture: the output has sides of its own."
    yield "sides", side / 4 / numbers, shape
    yield "sides", side / 4 / with_side, shape
    groups = "With `groups`, a channel of the output is made of a part of the input's channels: weight.shape."
    yield "groups", flop * layer.groups / 4 / numbers, groups
    yield "kernel", flop / layer.kernel_size[1] / 4 / numbers, "A kernel has a height and a width."
    for ratio in (height / layer.kernel_size[1], layer.kernel_size[1] / height):
        yield "kernel", flop * ratio / 4 / numbers, "A kernel need not be square."
    one = "All pictures of the batch share the weights, which are read once. What is one picture's, what not?"
    yield "batch", flop / 4 / (numbers + (len(x) - 1) * sizes["weights"]), one
    yield "batch", flop / len(x) / 4 / numbers, "The operations of all pictures in the batch count."
