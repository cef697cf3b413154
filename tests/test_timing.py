"""Timing waits for the device on both sides; a device with a fake clock makes every number exact."""

from types import SimpleNamespace

import pytest
import torch

from course_utils import measure
from course_utils.machine import timing
from course_utils.machine.timing import Stopwatch, Timing, format_seconds, synchronize


class FakeDevice:
    """Work is queued at once and only takes time when somebody waits for it, as on a GPU."""

    def __init__(self) -> None:
        self.now = self.queued = 0.0
        self.launches = 0

    def launch(self, seconds: float) -> None:
        self.launches += 1
        self.queued += seconds

    def wait(self, device: object) -> None:
        self.now += self.queued
        self.queued = 0.0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    fake = FakeDevice()
    monkeypatch.setattr(timing, "synchronize", fake.wait)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: fake.now))
    return fake


def test_measure_waits_for_the_work(gpu: FakeDevice) -> None:
    gpu.launch(100.0)  # earlier work must not be charged to what is measured
    result = measure(lambda: gpu.launch(2.0), "cuda", repeats=3, warmup=2)
    assert result == 2.0
    assert result.times == (2.0, 2.0, 2.0)
    assert (result.iqr, result.calls) == (0.0, 1)
    assert gpu.launches == 1 + 2 + 1 + 3  # earlier, warm-up, sizing, repeats


def test_measure_groups_short_calls(gpu: FakeDevice) -> None:
    result = measure(lambda: gpu.launch(0.001), "cuda", repeats=2, warmup=1)
    assert result.calls == 10
    assert result == pytest.approx(0.001)


def test_measure_leaves_the_warm_up_out(gpu: FakeDevice) -> None:
    durations = iter([50.0, 50.0, 1.0, 1.0, 2.0, 9.0])
    assert measure(lambda: gpu.launch(next(durations)), "cuda", repeats=3, warmup=2) == 2.0


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"warmup": 0}])
def test_measure_refuses_to_measure_nothing(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="repeats and warmup of at least 1"):
        measure(lambda: None, **wrong)


def test_measure_on_the_cpu() -> None:
    x = torch.ones(8)
    assert measure(lambda: x + 1, repeats=2) > 0


def test_a_timing_is_a_float_that_prints_its_spread() -> None:
    times = Timing([0.003, 0.001, 0.002, 0.005], calls=5)
    assert times == 0.0025
    assert times / 2 == 0.00125
    assert times.iqr == pytest.approx(0.00175)
    assert str(times) == repr(times) == f"{times}" == "2.5 ms (IQR 1.75 ms, 4 x 5 calls)"
    assert f"{times:.1f}" == "0.0"
    assert repr(Timing([2.0])) == "2 s (IQR 0 ns, 1 x 1 call)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1234.5, "1234 s"),
        (61.25, "61.2 s"),
        (1.5, "1.5 s"),
        (0.0123, "12.3 ms"),
        (0.9999, "1 s"),
        (0.0009996, "1 ms"),
        (4.2e-5, "42 us"),
        (3e-8, "30 ns"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_synchronize_on_the_cpu_does_nothing() -> None:
    synchronize("cpu")
    synchronize(torch.device("cpu"))


def test_synchronize_passes_an_accelerator_on(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    synchronize("cuda:1")
    synchronize(torch.device("mps"))
    assert waited == ["cuda:1", torch.device("mps")]


def test_stopwatch_charges_work_to_its_own_section(gpu: FakeDevice) -> None:
    watch = Stopwatch("cuda")
    gpu.launch(100.0)
    for _ in range(2):
        with watch("forward"):
            gpu.launch(1.0)
        with watch("backward"):
            gpu.launch(3.0)
    assert watch.seconds == {"forward": 2.0, "backward": 6.0}
    assert str(watch) == "forward        2 s   25%\nbackward       6 s   75%"


def test_stopwatch_lets_errors_through_and_keeps_the_time(gpu: FakeDevice) -> None:
    watch = Stopwatch("cuda")

    def fail() -> None:
        with watch("data"):
            gpu.now += 0.5
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert watch.seconds == {"data": 0.5}


def test_an_unused_stopwatch_prints() -> None:
    assert str(Stopwatch()) == ""
