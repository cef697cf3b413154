"""The timeline: read out of a real profile, and out of one as a CUDA device would leave it."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from course_utils.figures.text import describe
from course_utils.figures.timeline import KERNELS, busy, draw_timeline, intervals


def event(name: str, start: float, end: float, on_gpu: bool = False, shadow: bool = False) -> SimpleNamespace:
    """An event as the profiler lists it; times in microseconds."""
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=start, end=end),
        device_type=DeviceType.CUDA if on_gpu else DeviceType.CPU,
        is_user_annotation=shadow,
    )


GPU_STEP = [
    event("forward", 3000, 5000),
    event("data", 1000, 3000),
    event("aten::add", 3000, 3100),
    event("forward", 3500, 7000, on_gpu=True, shadow=True),
    event("gemm", 4000, 6000, on_gpu=True),
    event("Memcpy HtoD", 3500, 4500, on_gpu=True),
    event("an annotation of a library", 1, 9000, on_gpu=True, shadow=True),
]


def recorded(events: list[SimpleNamespace]) -> SimpleNamespace:
    return SimpleNamespace(events=lambda: events)


def test_kernels_have_a_row_and_annotations_none() -> None:
    rows = intervals(recorded(GPU_STEP), ["data", "forward"])
    assert rows == {"data": [(0, 2)], "forward": [(2, 4)], KERNELS: [(2.5, 3.5), (3, 5)]}


def test_a_profile_of_the_cpu() -> None:
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        for _ in range(2):
            with record_function("forward"):
                torch.rand(64, 64) @ torch.rand(64, 64)
    rows = intervals(prof, ["forward"])
    assert list(rows) == ["forward"]
    (first, second) = rows["forward"]
    assert 0 == first[0] < first[1] <= second[0] < second[1]


def test_a_region_that_was_not_recorded() -> None:
    with pytest.raises(ValueError, match="no region 'step'"):
        intervals(recorded(GPU_STEP), ["data", "step"])


@pytest.mark.parametrize(
    ("spans", "covered"),
    [([], 0), ([(0, 1), (2, 4)], 3), ([(2, 4), (0, 3)], 4), ([(0, 9), (1, 2), (8, 10)], 10)],
)
def test_overlaps_count_once(spans: list[tuple[float, float]], covered: float) -> None:
    assert busy(spans) == covered


def test_the_figure_in_words() -> None:
    figure = draw_timeline(recorded(GPU_STEP), ["data", "forward"], "A step", "cuda:0")
    shares = "data 40% of the time in 1 pieces; forward 40% of the time in 1 pieces"
    assert describe(figure) == f"A step. 5 milliseconds: {shares}; {KERNELS} 50% of the time in 2 pieces"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["data", "forward", KERNELS]
    plt.close(figure)
