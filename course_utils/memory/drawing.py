"""Draws the ledger: one GPU's memory over the block, and all GPUs side by side."""

from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from course_utils.figures.machine_map.drawing import DASHED, INK, SOFT, WHITE, MachineMap
from course_utils.figures.machine_map.layout import fit, width_of
from course_utils.figures.style import CATEGORY_COLORS, CATEGORY_HATCHES, STYLE_FILE, mix

from .history import CATEGORIES
from .labels import BACKWARD, FORWARD, OTHER, STEP
from .readings import MIB, Device, Readings

PHASE_COLORS = {FORWARD: "#FFFFFF", BACKWARD: "#C9C9C9", STEP: "#8C8C8C", OTHER: "#F2F2F2"}
MOMENTS = {"peak": "each GPU's peak", "end": "the end of the block"}
SHORT = {FORWARD: "fwd", BACKWARD: "bwd", STEP: "step"}
NARROW = 0.012  # a phase that takes less of the width joins its neighbour
FLAT = 2.5  # reserved memory may be this many times the peak
WORDS = FontProperties(size=13)


def draw_timeline(ledger: Readings, device: Device) -> MachineMap:
    """Return the figure of `Ledger.draw`."""
    figure = _figure(str(ledger), (11, 5.6))
    timeline = ledger.timeline(device)
    if not timeline.labels:
        return _say(figure, ledger.note)
    with matplotlib.style.context(STYLE_FILE):
        band, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 15))
        title = f"{ledger.name(device)} ({ledger.card(device)}): memory over the block"
        figure.suptitle(title, ha="left", x=0.01, weight="bold", fontsize=16)
        _draw_areas(axes, timeline.bytes)
        reserved = _draw_reserved(axes, timeline.reserved, ledger.peak(device))
        _draw_phases(band, timeline.phases)
        axes.set(xlabel="allocations and frees, in order", ylabel="MiB", xlim=(0, len(timeline.labels)))
        _legend(figure, ledger.at_peak(device), timeline.bytes, [reserved])
        figure.draw_without_rendering()
        _draw_peak(axes, ledger, device)
    return figure


def draw_bars(ledger: Readings, what: str) -> MachineMap:
    """Return the figure of `Ledger.draw_devices`."""
    if what not in MOMENTS:
        raise ValueError(f'what={what!r} is neither "peak" nor "end".')
    figure = _figure(str(ledger), (11, 5))
    if not ledger.devices:
        return _say(figure, ledger.note)
    shown = [ledger.at_peak(device) if what == "peak" else ledger.live(device) for device in ledger.devices]
    bottom, places = np.zeros(len(shown)), np.arange(len(shown))
    with matplotlib.style.context(STYLE_FILE):
        axes = figure.subplots()
        for category in CATEGORIES:
            heights = np.array([held[category] / MIB for held in shown])
            axes.bar(places, heights, 0.7, bottom=bottom, **_look(category))
            bottom += heights
        for place, top in zip(places, bottom, strict=True):
            look = {"textcoords": "offset points", "ha": "center", "fontproperties": WORDS}
            axes.annotate(_number(top, bottom.max()), (place, top), (0, 4), **look)
        cards = ", ".join(sorted({ledger.card(device) for device in ledger.devices}))
        axes.set_title(f"Memory at {MOMENTS[what]} ({cards})")
        margin = max(0, 3 - len(shown)) / 2 + 0.6
        axes.set(ylabel="MiB", ylim=(0, bottom.max() * 1.12 or 1), xlim=(-margin, len(shown) - 1 + margin))
        axes.set_xticks(places, [str(device) for device in ledger.devices])
        sums = {category: sum(held[category] for held in shown) for category in CATEGORIES}
        _legend(figure, None, {category: [value] for category, value in sums.items()}, ())
    return figure


def _figure(description: str, size: tuple[float, float]) -> MachineMap:
    """Return an empty figure that is also text; it is no pyplot figure, so nothing has to be closed."""
    figure = MachineMap(figsize=size, dpi=100, facecolor=WHITE, layout="constrained")
    figure.description = description
    return figure


def _say(figure: MachineMap, note: str) -> MachineMap:
    """Let the figure of an empty ledger say why it is empty."""
    figure.set_size_inches(9, 1.2)
    figure.text(0.5, 0.5, note, ha="center", va="center", fontsize=13, color=INK, wrap=True)
    return figure


def _look(category: str) -> dict[str, Any]:
    color = CATEGORY_COLORS[category]
    edge = mix(color, INK, 0.35)
    return {"facecolor": color, "edgecolor": edge, "hatch": CATEGORY_HATCHES[category], "linewidth": 0}


def _draw_areas(axes: Axes, sizes: dict[str, list[int]]) -> None:
    """Draw the categories on top of each other; each point lasts until the next."""
    points = np.arange(len(next(iter(sizes.values()))) + 1)
    floor = np.zeros(len(points))
    for category in CATEGORIES:
        values = np.array([*sizes[category], sizes[category][-1]]) / MIB
        if values.any():
            axes.fill_between(points, floor, floor + values, step="post", gid=category, **_look(category))
            floor = floor + values
    axes.step(points, floor, where="post", color=INK, linewidth=1, linestyle="solid", gid="total")


def _draw_reserved(axes: Axes, reserved: Sequence[int], peak: int) -> Any:
    """Draw what is held from the driver, if that does not make the rest too flat; leave room for words."""
    most, values = max(reserved), np.array([*reserved, reserved[-1]]) / MIB
    shown = most <= FLAT * peak
    axes.set_ylim(0, max(peak, most if shown else 0) / MIB * 1.25)
    label = f"reserved: up to {most / MIB:,.1f}" + ("" if shown else ", off scale")
    look = {"color": INK, "linestyle": DASHED, "linewidth": 2, "gid": "reserved", "visible": shown}
    (line,) = axes.step(np.arange(len(values)), values, where="post", label=label, **look)
    return Line2D([], [], label=label, color=line.get_color(), linestyle=DASHED, linewidth=2)


def _draw_peak(axes: Axes, ledger: Readings, device: Device) -> None:
    """Point at the peak and say what ran, in the room that the axes have by now."""
    point, peak = ledger.peak_point(device) + 0.5, ledger.peak(device) / MIB
    room = axes.get_window_extent().width / axes.figure.dpi
    label = fit(ledger.peak_label(device), room - 0.2, WORDS)
    half = (width_of(label, WORDS) / 2 + 0.1) / room
    place = min(max(point / len(ledger.timeline(device).labels), half), 1 - half)
    note = axes.annotate(
        f"peak {_number(peak, peak)} MiB\n{label}",
        xy=(point, peak),
        xytext=(place, 0.985),
        textcoords="axes fraction",
        ha="center",
        va="top",
        fontproperties=WORDS,
        parse_math=False,
        bbox={"facecolor": WHITE, "edgecolor": "none", "pad": 2, "alpha": 0.85},
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.8},
    )
    note.set_in_layout(False)
    axes.plot([point], [peak], marker="o", color=INK, gid="peak")


def _number(mebibytes: float, largest: float) -> str:
    """Write a size with as many digits as suit the largest of its kind."""
    return f"{mebibytes:,.1f}" if largest >= 10 else f"{mebibytes:,.2f}"


def _runs(phases: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return (phase, first point, points) for each stretch; very short ones join the one before."""
    counted = [(phase, len(list(group))) for phase, group in groupby(phases)]
    starts = accumulate((length for _, length in counted), initial=0)
    joined: list[tuple[str, int, int]] = []
    for (phase, length), start in zip(counted, starts, strict=False):
        if joined and (length < NARROW * len(phases) or joined[-1][0] == phase):
            phase, start, before = joined.pop()
            length += before
        joined.append((phase, start, length))
    if len(joined) > 1 and joined[0][2] < NARROW * len(phases):
        joined[:2] = [(joined[1][0], 0, joined[0][2] + joined[1][2])]
    return joined


def _draw_phases(band: Axes, phases: Sequence[str]) -> None:
    """Draw the phases as a band; a name stands where it has room."""
    band.set_axis_off()
    band.set_ylim(0, 1)
    for phase, start, length in _runs(phases):
        color = PHASE_COLORS[phase]
        band.axvspan(
            start, start + length, facecolor=color, edgecolor=SOFT, linewidth=1, gid=f"phase {phase}"
        )
        room = 7.2 * length / len(phases) / 0.105  # inches of the band, of a letter
        name = next((name for name in (phase, SHORT.get(phase, "")) if len(name) <= room), "")
        look = {"ha": "center", "va": "center", "fontsize": 12, "color": INK, "clip_on": True}
        band.text(start + length / 2, 0.5, name, **look)


def _legend(
    figure: MachineMap, at_peak: dict[str, int] | None, sizes: dict[str, list[int]], lines: Sequence[Any]
) -> None:
    """Name the categories in the order of the drawing, from top to bottom, with their MiB at the peak."""
    used = [category for category in reversed(CATEGORIES) if any(sizes[category])]
    sizes_there = {name: nbytes / MIB for name, nbytes in (at_peak or {}).items()}
    whole = sum(sizes_there.values())
    texts = [f"{name}: {_number(sizes_there[name], whole)}" if at_peak else name for name in used]
    patches = [Patch(**_look(name), label=text) for name, text in zip(used, texts, strict=True)]
    title = None if at_peak is None else "MiB at the peak"
    figure.legend(handles=[*lines, *patches], loc="outside right center", title=title, title_fontsize=13)
