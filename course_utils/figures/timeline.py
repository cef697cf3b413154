"""A training step as a timeline: what the profiler has recorded, drawn as bars over time, one row per region.

The profiler's own viewers need a web page; a few rows are enough to see where the time goes.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch.autograd import DeviceType
from torch.profiler import profile

from .style import device_color

Interval = tuple[float, float]
KERNELS = "GPU kernels"
ROW = 0.62  # how much of its row a bar fills


def intervals(recorded: profile, regions: Sequence[str]) -> dict[str, list[Interval]]:
    """Return when each region ran, and on a CUDA device when each kernel or copy ran.

    Args:
        recorded: a profile that has ended.
        regions: names given to `torch.profiler.record_function`; only these are read.

    Returns:
        For each region, and for KERNELS if any ran, (start, end) pairs in milliseconds from the first
        region's start, in order of time. A kernel can end after the last region: the GPU works later.

    Raises:
        ValueError: a region was not recorded.
    """
    rows: dict[str, list[Interval]] = {name: [] for name in (*regions, KERNELS)}
    for event in recorded.events():
        on_cpu, time = event.device_type == DeviceType.CPU, event.time_range  # in microseconds
        name = event.name if on_cpu else KERNELS
        if name in rows and (on_cpu or not event.is_user_annotation):  # a region's shadow is no kernel
            rows[name].append((time.start / 1000, time.end / 1000))
    missing = [name for name in regions if not rows[name]]
    if missing:
        raise ValueError(f"the profile has no region {missing[0]!r}; is it in record_function(...)?")
    begin = min(start for name in regions for start, _ in rows[name])
    return {name: sorted((a - begin, b - begin) for a, b in spans) for name, spans in rows.items() if spans}


def busy(spans: Sequence[Interval]) -> float:
    """Return the time that at least one of `spans` covers, in their unit: overlaps count once."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def draw_timeline(recorded: profile, regions: Sequence[str], title: str, device: Any = "cpu") -> Figure:
    """Draw when each region ran, and the kernels of a CUDA device below; each row says its share of the time.

    Args:
        recorded, regions: as for `intervals`.
        title: the figure's title.
        device: gives the kernels their colour.
    """
    rows = intervals(recorded, regions)
    whole = max(end for spans in rows.values() for _, end in spans)
    figure, axes = plt.subplots(figsize=(11, 0.6 * len(rows) + 1.8))
    words = []
    for place, (name, spans) in enumerate(rows.items()):
        color = device_color(device if name == KERNELS else "cpu")
        bars = [(start, end - start) for start, end in spans]
        # a bar's edge keeps a short one visible
        axes.broken_barh(bars, (place - ROW / 2, ROW), color=color, linewidth=0.8)
        share = f"{busy(spans) / whole:.0%}"
        axes.text(1.01 * whole, place, share, va="center")
        words.append(f"{name} {share} of the time in {len(spans)} pieces")
    axes.set(xlabel="milliseconds", title=title, xlim=(0, 1.08 * whole))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.grid(False)
    figure.in_words = f"{title}. {whole:.0f} milliseconds: " + "; ".join(words)
    return figure
