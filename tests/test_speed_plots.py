"""The roofline and the ladder: what stands in them, and what is said for those who do not see them."""

import matplotlib.pyplot as plt

from course_utils.figures.speed_plots import draw_ladder, draw_roofline
from course_utils.figures.text import describe


def test_roofline_says_how_near_each_layer_is_to_its_roof() -> None:
    points = {"conv": (100.0, 50e9), "relu": (0.125, 1e9)}
    figure = draw_roofline(points, operations=100e9, bytes_moved=10e9, title="Roofline, cpu")
    assert describe(figure) == (
        "Roofline, cpu. The roof: 100 billion operations or 10 billion bytes per second; ridge at 10. "
        "conv: 1e+02 operations per byte, 50% of its roof; relu: 0.12 operations per byte, 80% of its roof"
    )
    (axes,) = figure.axes
    roof, _, conv, relu = axes.lines
    assert list(roof.get_ydata())[1:] == [100, 100]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (*conv.get_xdata(), *conv.get_ydata(), *relu.get_ydata()) == (100, 50, 1)
    plt.close(figure)


def test_ladder_has_a_panel_for_each_machine_and_a_number_at_each_mark() -> None:
    ladder = {"0 first loop": (20.0, 0.5), "8a batch 256": (2.0, 0.25)}
    figure = draw_ladder({"cpu | drawings": ladder, "a card": {"0 first loop": (1.0, 0.5)}})
    assert describe(figure) == (
        "cpu | drawings. Seconds of training and test accuracy: 0 first loop: 20 s, 50%; "
        "8a batch 256: 2 s, 25%. a card. Seconds of training and test accuracy: 0 first loop: 1 s, 50%"
    )
    upper, lower = figure.axes
    assert [text.get_text() for text in upper.texts] == ["0", "8a"]
    assert upper.get_xscale() == "log"
    assert lower.get_title("left") == "a card"
    plt.close(figure)
