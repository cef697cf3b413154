"""Two figures about speed: the roofline of a device, and a ladder of trainings with its accuracies.

The roofline follows Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for
multicore architectures", Communications of the ACM 52 (2009), https://doi.org/10.1145/1498765.1498785.
"""

from collections.abc import Mapping
from math import hypot

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

MARKERS = "os^Dvp*X"
AROUND = ((0, 15), (17, 0), (0, -16), (-17, 0), (14, 12), (14, -13), (-14, -13), (-14, 12))  # points


def draw_roofline(
    points: Mapping[str, tuple[float, float]], operations: float, bytes_moved: float, title: str
) -> Figure:
    """Draw the roof of a device, and under it one mark per layer.

    Args:
        points: for each layer (operations per byte, operations per second), all above 0.
        operations: the most operations per second that were measured on the device.
        bytes_moved: the most bytes per second, read and written together, that were measured.
        title: the figure's title.
    """
    ridge = operations / bytes_moved
    low = min(ridge, *(x for x, _ in points.values())) / 3
    high = max(ridge, *(x for x, _ in points.values())) * 4
    figure, axes = plt.subplots(figsize=(11, 5.4))
    roof = [low * bytes_moved / 1e9, operations / 1e9, operations / 1e9]
    axes.loglog([low, ridge, high], roof, color="0.2", linestyle="-")
    name = f"{operations / 1e9:,.0f} billion operations or {bytes_moved / 1e9:,.0f} billion bytes per second"
    axes.axvline(ridge, color="0.6", linewidth=1.2, linestyle=":")
    for text, side in (("limited by bytes ", "right"), (" limited by operations", "left")):
        axes.text(ridge, 0.02, text, ha=side, color="0.35", transform=axes.get_xaxis_transform())
    words = []
    for number, (layer, (intensity, speed)) in enumerate(points.items()):
        axes.plot(intensity, speed / 1e9, MARKERS[number % 8], color=f"C{number % 4}", label=layer)
        share = speed / min(operations, intensity * bytes_moved)
        words.append(f"{layer}: {intensity:.2g} operations per byte, {share:.0%} of its roof")
    axes.set(xlabel="operations per byte moved", ylabel="billion operations per second", title=title)
    axes.grid(which="major", axis="both")
    figure.legend(loc="outside right center")
    figure.in_words = f"{title}. The roof: {name}; ridge at {ridge:.3g}. " + "; ".join(words)
    return figure


def draw_ladder(ladders: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Draw each machine's rungs, seconds of training (logarithmic) against test accuracy.

    Args:
        ladders: for each machine's name {rung: (seconds, accuracy from 0 to 1)}. At a mark stands the first
            word of its rung's name, such as "8a".
    """
    figure, panels = plt.subplots(len(ladders), squeeze=False, figsize=(11, 5.4 * len(ladders)))
    words = []
    for axes, (machine, rungs) in zip(panels[:, 0], ladders.items(), strict=True):
        for number, (rung, (seconds, accuracy)) in enumerate(rungs.items()):
            axes.plot(seconds, 100 * accuracy, MARKERS[number % 8], color=f"C{number % 4}", label=rung)
        axes.set(xscale="log", xlabel="seconds of training", ylabel="test accuracy (%)", ylim=(0, 100))
        axes.set_title(machine, loc="left")
        for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis(LogFormatter(minor_thresholds=(2, 0.5)))
        axes.margins(x=0.12)
        _write_numbers(axes, rungs)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=11)
        shown = (f"{rung}: {seconds:.3g} s, {accuracy:.0%}" for rung, (seconds, accuracy) in rungs.items())
        words.append(f"{machine}. Seconds of training and test accuracy: " + "; ".join(shown))
    figure.in_words = ". ".join(words)
    return figure


def _write_numbers(axes: Axes, rungs: Mapping[str, tuple[float, float]]) -> None:
    """Write each rung's number beside its mark, on the side with most room."""
    scale = 72 / axes.figure.dpi
    places = [(seconds, 100 * accuracy) for seconds, accuracy in rungs.values()]
    marks = [tuple(scale * axes.transData.transform(place)) for place in places]
    taken = list(marks)
    for rung, place, (x, y) in zip(rungs, places, marks, strict=True):
        best = max(AROUND, key=lambda side: min(hypot(x + side[0] - a, y + side[1] - b) for a, b in taken))
        taken.append((x + best[0], y + best[1]))
        text = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 12}
        axes.annotate(rung.split()[0], place, best, **text)
