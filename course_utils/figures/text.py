"""A figure in words, for those who do not see it: the alternative text of each picture that a notebook shows.

The notebook stores it, and `in_words` puts it into exported pages. JupyterLab 4.6 does not hand it on to
screen readers, so the lessons also say in words what a picture shows.
"""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

NBCONVERTS = 'alt="No description has been provided for this image"'  # it does not read a picture's own text
MOST_BARS, MOST_CHARACTERS = 16, 1000


def with_words(figure: Figure) -> tuple[dict[str, Any], dict[str, Any]]:
    """What IPython asks a formatter for: no data of its own, and facts about the picture."""
    try:
        return {}, {"image/png": {"alt": describe(figure)}}
    except Exception:  # a reader may draw anything: no words are better than a traceback above the picture
        return {}, {}


def in_words(page: str, notebook: Mapping[str, Any]) -> str:
    """Give the pictures in `page`, made of `notebook` by nbconvert, the texts that are stored beside them."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    texts = (picture["metadata"].get("image/png", {}).get("alt", "a picture") for picture in pictures)
    return re.sub(NBCONVERTS, lambda _: f'alt="{html.escape(next(texts, "a picture"))}"', page)


def describe(figure: Figure) -> str:
    """Return titles, labels and values of a figure, as one paragraph of at most 1,000 characters.

    A curve is given by its first, last and highest point, bars by their lengths. A figure with words of its
    own, in an attribute `in_words`, keeps them.
    """
    own = getattr(figure, "in_words", "")
    text = own or ". ".join(filter(None, _parts(figure))) or "An empty figure"
    return text if len(text) < MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 4]} ..."


def _parts(figure: Figure) -> Iterator[str]:
    """Yield what is above all axes, then pictures by their titles, then each of the other axes."""
    yield figure.get_suptitle()
    if pictures := [axes for axes in figure.axes if axes.images]:
        titles = "; ".join(filter(None, map(_title, pictures))).replace("\n", ", ")
        yield ": ".join(filter(None, [f"{len(pictures)} pictures", titles]))
    for axes in figure.axes:
        if not axes.images:
            x, y = axes.get_xlabel(), axes.get_ylabel()
            about = f"{y} against {x}" if x and y else x or y
            shown = [*_bars(axes), *_curves(axes)] or [text.get_text() for text in axes.texts]
            yield ": ".join(filter(None, [_title(axes), about, "; ".join(filter(None, shown))]))


def _title(axes: Axes) -> str:
    return next(filter(None, map(axes.get_title, ("left", "center", "right"))), "")


def _label(artist: Any) -> str:
    """The label that somebody gave to a curve or a group of bars; those of matplotlib begin with "_"."""
    label = str(artist.get_label())
    return "" if label.startswith("_") else label


def _curves(axes: Axes) -> Iterator[str]:
    """Where each curve with a label begins and ends; a line across the whole plot only has a height."""
    for line in filter(_label, axes.lines):
        x, y = line.get_xdata(orig=False), line.get_ydata(orig=False)
        if not len(y):
            continue
        first, last = (f"{_number(y[end])} at {_number(x[end])}" for end in (0, -1))
        across = line.get_transform() != axes.transData
        ends = f"at {_number(y[0])}" if across else f"from {first} to {last}"
        highest = f", at most {_number(max(y))}" if max(y) > 1.05 * max(y[0], y[-1]) else ""
        yield f"{_label(line)} {ends}{highest}"


def _bars(axes: Axes) -> list[str]:
    """Name and length of each bar; where it begins and ends, if it has no label and begins above zero."""
    words, bars = [], 0
    for group in axes.containers:
        shown, label = [], _label(group)
        for name, (start, end) in _spans(axes, group).items():
            between = f"{_number(start)} to {_number(end)}"
            shown.append(f"{name} {between if start and not label else _number(end - start)}")
        words += [": ".join(filter(None, [label, ", ".join(shown)]))] if shown else []
        bars += len(shown)
    return words if bars <= MOST_BARS else []


def _spans(axes: Axes, group: Any) -> dict[str, tuple[float, float]]:
    """Where the bars at each named place begin and end; those on top of each other count as one."""
    spans: dict[str, tuple[float, float]] = {}
    for bar in getattr(group, "patches", ()):  # other containers, as of error bars, have none
        x, y = bar.get_bbox().intervalx, bar.get_bbox().intervaly
        flat = group.orientation == "horizontal"
        name = _tick(axes.yaxis, y.mean()) if flat else _tick(axes.xaxis, x.mean())
        start, end = x if flat else y
        known = spans.get(name, (start, end))
        spans[name] = min(start, known[0]), max(end, known[1])
    return spans


def _tick(axis: Any, place: float) -> str:
    """The name that an axis gives to a place."""
    places = axis.get_majorticklocs()
    names = zip(places, axis.get_major_formatter().format_ticks(places), strict=True)
    return next((name for at, name in names if abs(at - place) < 1e-6), _number(place))


def _number(value: float) -> str:
    """Three digits, and more where a whole number has them."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
