"""Every figure of a lesson also comes in words."""

import base64
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbconvert import HTMLExporter
from start.runner import execute, repeatable_environment

from course_utils.figures import text as figure_text
from course_utils.figures.text import describe, in_words


@pytest.fixture
def axes() -> Iterator[plt.Axes]:
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_curves_are_told_by_their_ends(axes: plt.Axes) -> None:
    axes.plot([1, 2, 5], [2.27, 2.0, 1.317], label="training")
    axes.plot([1, 2], [3, 4])  # no label, no words
    axes.plot([1, 2, 3], [0, 1200.4, 2], label="memory")
    axes.axhline(10, label="guessing")
    axes.set(title="Loss", xlabel="epoch", ylabel="mean loss")
    axes.figure.suptitle("Learning curves")
    memory = "memory from 0 at 1 to 2 at 3, at most 1,200"
    words = f"Loss: mean loss against epoch: training from 2.27 at 1 to 1.32 at 5; {memory}; guessing at 10"
    assert describe(axes.figure) == f"Learning curves. {words}"


def test_names_and_days_instead_of_numbers_are_told_by_their_place(axes: plt.Axes) -> None:
    axes.plot(["Monday", "Tuesday"], [3, 4], label="rain")
    assert describe(axes.figure) == "rain from 3 at 0 to 4 at 1"


def test_a_figure_that_cannot_be_told_is_shown_without_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_text, "describe", lambda figure: 1 / 0)
    assert figure_text.with_words(plt.Figure()) == ({}, {})


def test_bars_are_told_by_name_and_length(axes: plt.Axes) -> None:
    axes.barh(["bird", "cat"], [47.2, 5541])
    axes.set(xlabel="accuracy (%)")
    assert describe(axes.figure) == "accuracy (%): bird 47.2, cat 5,541"


def test_stacked_bars_and_bars_that_begin_later(axes: plt.Axes) -> None:
    axes.bar(["a", "b"], [1, 2], label="state")
    axes.bar(["a", "b"], [3, 4], bottom=[1, 2], label="inputs")
    axes.bar(["a"], [5], bottom=4)
    assert describe(axes.figure) == "state: a 1, b 2; inputs: a 3, b 4; a 4 to 9"


def test_bars_on_top_of_each_other_in_one_call_count_as_one(axes: plt.Axes) -> None:
    axes.bar(["cuda:0"] * 3, 1, bottom=range(3))
    axes.bar([], 1)
    assert describe(axes.figure) == "cuda:0 3"


def test_many_bars_are_told_by_what_is_written_at_them(axes: plt.Axes) -> None:
    axes.bar(range(17), 1)
    axes.text(0, 1, "rows 0-16")
    assert describe(axes.figure) == "rows 0-16"


def test_pictures_are_told_by_their_titles() -> None:
    figure, both = plt.subplots(2)
    for one, title in zip(both, ("cat\nsays dog", ""), strict=True):
        one.imshow(np.zeros((2, 2)))
        one.set_title(title)
    assert describe(figure) == "2 pictures: cat, says dog"
    plt.close(figure)


def test_a_long_text_is_cut_and_an_empty_figure_says_so() -> None:
    assert describe(plt.Figure()) == "An empty figure"
    figure = plt.Figure()
    figure.suptitle("word " * 1000)
    assert len(describe(figure)) == 1000


def test_a_figure_with_words_of_its_own_keeps_them(axes: plt.Axes) -> None:
    axes.figure.in_words = "cpu: x"
    assert describe(axes.figure) == "cpu: x"


def test_a_notebook_stores_the_words_as_alternative_text(tmp_path: Path) -> None:
    source = "from course_utils.figures import style\nstyle.use_style()\nimport matplotlib.pyplot as plt\n"
    source += "plt.bar(['a'], [2])\nplt.title('Two')\nplt.show()"
    cells = [nbformat.v4.new_code_cell(source, id="plot")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    execute(notebook, tmp_path, repeatable_environment())
    (output,) = notebook.cells[0].outputs
    assert output.metadata["image/png"]["alt"] == "Two: a 2"
    page = in_words(HTMLExporter().from_notebook_node(notebook)[0], notebook)
    assert 'alt="Two: a 2"' in page
    assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
