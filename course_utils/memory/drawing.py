"""Draws the ledger: one GPU's memory over the block, and all GPUs side by side."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties

from course_utils.figures.machine_map.drawing import DASHED, INK, SOFT, WHITE, MachineMap
from course_utils.figures.machine_map.layout import fit, width_of
from course_utils.figures.style import CATEGORY_COLORS, CATEGORY_HATCHES, STYLE_FILE, mix

from .history import CATEGORIES, MIB, Timeline
from .labels import BACKWARD, FORWARD, OTHER, STEP

PHASE_COLORS = {FORWARD: "#FFFFFF", BACKWARD: "#C9C9C9", STEP: "#8C8C8C", OTHER: "#F2F2F2"}
LOOKS = {
    name: dict(facecolor=color, edgecolor=mix(color, INK, 0.35), hatch=CATEGORY_HATCHES[name], linewidth=0)
    for name, color in CATEGORY_COLORS.items()
}
SHORT = {FORWARD: "fwd", BACKWARD: "bwd", STEP: "step", OTHER: ""}
NARROW = 0.012  # a phase that takes less of the width joins its neighbour
FLAT = 2.5  # reserved memory may be this many times the peak
WORDS = FontProperties(size=13)


def draw_timeline(timeline: Timeline, title: str, description: str) -> MachineMap:
    """Return the figure of `Ledger.draw`."""
    figure = MachineMap(description, figsize=(11, 5.6), layout="constrained")
    with matplotlib.style.context(STYLE_FILE):
        band, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 15))
        figure.suptitle(title, ha="left", x=0.01, weight="bold", fontsize=16)
        _draw_areas(axes, timeline)
        _draw_reserved(axes, timeline)
        _draw_phases(band, timeline.phases)
        axes.set(xlabel="allocations and frees, in order", ylabel="MiB", xlim=(0, len(timeline.labels)))
        figure.legend(loc="outside right center", reverse=True, title="MiB at the peak", title_fontsize=13)
        figure.draw_without_rendering()
        _draw_peak(axes, timeline)
    return figure


def draw_bars(sizes: Mapping[str, Mapping[str, int]], title: str, description: str) -> MachineMap:
    """Return the figure of `Ledger.draw_devices`; `sizes` has the bytes of each category on each device."""
    figure = MachineMap(description, figsize=(11, 5), layout="constrained")
    bottom = np.zeros(len(sizes))
    with matplotlib.style.context(STYLE_FILE):
        axes = figure.subplots()
        for category in CATEGORIES:
            heights = np.array([held[category] / MIB for held in sizes.values()])
            label = category if heights.any() else None
            bars = axes.bar(list(sizes), heights, 0.7, bottom, label=label, **LOOKS[category])
            bottom += heights
        axes.bar_label(bars, [_number(top, bottom.max()) for top in bottom], padding=1, fontproperties=WORDS)
        margin = max(0, 3 - len(sizes)) / 2 + 0.6
        axes.set(title=title, ylabel="MiB", xlim=(-margin, len(sizes) - 1 + margin))
        axes.set_ylim(0, bottom.max() * 1.12 or 1)
        handles, _ = axes.get_legend_handles_labels()
        figure.legend(handles=handles, loc="outside right center", reverse=True)
    return figure


def draw_note(note: str) -> MachineMap:
    """Return the figure of an empty ledger: it says why it is empty."""
    figure = MachineMap(note, figsize=(9, 1.2), layout="constrained")
    figure.text(0.5, 0.5, note, ha="center", va="center", fontsize=13, color=INK, wrap=True)
    return figure


def _draw_areas(axes: Axes, timeline: Timeline) -> None:
    """Draw the categories on top of each other, named with their size at the peak."""
    floor, whole = np.zeros(len(timeline.labels)), max(timeline.total) / MIB
    for category, at_peak in timeline.bytes_at(timeline.peak_point).items():
        top = floor + np.array(timeline.bytes[category]) / MIB
        if any(timeline.bytes[category]):
            label = f"{category}: {_number(at_peak / MIB, whole)}"
            axes.stairs(top, baseline=floor, fill=True, label=label, **LOOKS[category])
        floor = top
    axes.stairs(floor, baseline=None, color=INK, linewidth=1, gid="total")


def _draw_reserved(axes: Axes, timeline: Timeline) -> None:
    """Draw what is held from the driver, if that does not make the rest too flat; leave room for words."""
    reserved, peak = np.array(timeline.reserved) / MIB, max(timeline.total) / MIB
    shown = reserved.max() <= FLAT * peak
    axes.set_ylim(0, max(peak, reserved.max() if shown else 0) * 1.25)
    label = f"reserved: up to {reserved.max():,.1f}" + ("" if shown else ", off scale")
    look = {"color": INK, "linestyle": DASHED, "linewidth": 2}
    axes.stairs(reserved if shown else reserved * np.nan, baseline=None, label=label, **look)


def _draw_peak(axes: Axes, timeline: Timeline) -> None:
    """Point at the peak and say what ran, in the room that the axes have by now."""
    point, peak = timeline.peak_point + 0.5, max(timeline.total) / MIB
    room = axes.get_window_extent().width / axes.figure.dpi
    label = fit(timeline.labels[timeline.peak_point], room - 0.2, WORDS)
    half = (width_of(label, WORDS) / 2 + 0.1) / room
    place = min(max(point / len(timeline.labels), half), 1 - half)
    text = f"peak {_number(peak, peak)} MiB\n{label}"
    look = {"ha": "center", "va": "top", "fontproperties": WORDS, "parse_math": False}
    look["bbox"] = {"facecolor": WHITE, "edgecolor": "none", "pad": 2, "alpha": 0.85}
    look["arrowprops"] = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.8}
    note = axes.annotate(text, (point, peak), (place, 0.985), textcoords="axes fraction", **look)
    note.set_in_layout(False)
    axes.plot([point], [peak], marker="o", color=INK)


def _number(mebibytes: float, largest: float) -> str:
    """Write a size with as many digits as suit the largest of its kind."""
    return f"{mebibytes:,.1f}" if largest >= 10 else f"{mebibytes:,.2f}"


def _draw_phases(band: Axes, phases: Sequence[str]) -> None:
    """Draw the phases as a band; a name stands where it has room."""
    band.set_axis_off()
    runs = _runs(phases)
    lengths, names = np.array([length for _, length in runs]), []
    for phase, length in runs:
        room = 7.2 * length / len(phases) / 0.105  # inches of the band, of a letter
        names.append(next((name for name in (phase, SHORT[phase]) if len(name) <= room), ""))
    look = {"color": [PHASE_COLORS[phase] for phase, _ in runs], "edgecolor": SOFT, "linewidth": 1}
    bars = band.barh(0, lengths, 1, np.cumsum(lengths) - lengths, **look)
    band.bar_label(bars, names, label_type="center", fontsize=12, color=INK, clip_on=True)
    band.set_ylim(-0.5, 0.5)


def _runs(phases: Sequence[str]) -> list[tuple[str, int]]:
    """Return (phase, points) for each stretch; very short ones join the one before, the first the next."""
    runs: list[tuple[str, int]] = []
    for phase, group in groupby(phases):
        length = len(list(group))
        name, before = runs[-1] if runs else (phase, 0)
        if phase == name or length < NARROW * len(phases):
            runs[-1:] = [(name, before + length)]
        elif before < NARROW * len(phases):
            runs[-1:] = [(phase, before + length)]
        else:
            runs.append((phase, length))
    return runs
