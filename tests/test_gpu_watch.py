"""`watch_gpus` samples beside the work, never disturbs it, always ends; the readers are the test's."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

import course_utils
from course_utils.machine import gpu_watch
from course_utils.machine.gpu_table import KEYS, GpuStatus, gpu_status
from course_utils.machine.gpu_watch import GpuWatch

PATIENCE = 30.0  # s; only a broken test waits that long
SOON = 0.001


def status(used: int, utilization: int | None = None, gpus: int = 1) -> GpuStatus:
    known = {"memory.used": used, "memory.total": 100, "utilization.gpu": utilization}
    listed = [dict.fromkeys(KEYS) | {"index": index, "name": "card"} | known for index in range(gpus)]
    return GpuStatus(listed, "test")


class Reader:
    """Counts its calls, reports what it was told, and says when it has been called often enough."""

    def __init__(self, enough: int = 1, report: Callable[[], GpuStatus] = lambda: status(1)) -> None:
        self.calls, self.enough, self.report = 0, enough, report
        self.reached = threading.Event()

    def __call__(self) -> GpuStatus:
        self.calls += 1
        if self.calls >= self.enough:
            self.reached.set()
        return self.report()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "watch_gpus"] == []


def test_it_reads_while_the_block_runs() -> None:
    reader = Reader(enough=3)
    with GpuWatch(SOON, read=reader) as watch:
        assert reader.reached.wait(PATIENCE)
    assert len(watch.samples) == reader.calls >= 3
    assert all(seconds >= 0 for seconds in watch.samples)
    assert watch.problem == ""


def test_the_last_reading_is_taken_when_the_work_is_done() -> None:
    now = [1]
    reader = Reader(report=lambda: status(now[0]))
    with GpuWatch(PATIENCE, read=reader) as watch:
        assert reader.reached.wait(PATIENCE)
        now[0] = 7
    assert list(watch.series(0, "memory.used").values()) == [1, 7]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, torch.OutOfMemoryError])
def test_it_ends_and_keeps_its_readings_when_the_block_fails(kind: type[BaseException]) -> None:
    watch = GpuWatch(PATIENCE, read=Reader())
    with pytest.raises(kind, match="stop"), watch:
        raise kind("stop")
    assert watch.samples


def test_a_reader_that_fails_does_not_disturb_the_work() -> None:
    def fail() -> GpuStatus:
        raise RuntimeError("the card fell off the bus\nand more")

    reader = Reader(report=fail)
    with GpuWatch(SOON, read=reader) as watch:
        assert reader.reached.wait(PATIENCE)
        done = sum(range(10))
    assert done == 45
    assert reader.calls == 1
    assert str(watch) == "nothing was read: RuntimeError: the card fell off the bus"


def test_readings_before_a_failure_are_kept() -> None:
    answers = iter([status(5)])
    reader = Reader(enough=2, report=lambda: next(answers))
    with GpuWatch(SOON, read=reader) as watch:
        assert reader.reached.wait(PATIENCE)
    assert len(watch.samples) == 1
    assert str(watch).splitlines()[-1] == "reading ended early: StopIteration: "


def test_a_reader_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_watch, "GOODBYE", 0.01)
    release, threads = threading.Event(), []

    def hang() -> GpuStatus:
        threads.append(threading.current_thread())
        release.wait(PATIENCE)
        return status(1)

    reader = Reader(report=hang)
    with GpuWatch(SOON, read=reader):
        assert reader.reached.wait(PATIENCE)
    release.set()
    threads[0].join(PATIENCE)
    assert threads[0].daemon  # Python can end without it


def test_without_a_gpu_it_says_so() -> None:
    reader = Reader(report=lambda: GpuStatus([], "nobody"))
    with GpuWatch(SOON, read=reader) as watch:
        assert reader.reached.wait(PATIENCE)
    assert str(watch) == "nothing was read: no GPU to watch"
    assert [text.get_text() for text in watch.draw().texts] == [str(watch)]


def test_virtual_gpus_are_watched_from_the_thread() -> None:
    seen = threading.Event()

    def read() -> GpuStatus:
        found = gpu_status()
        if found.gpus[1]["memory.used"]:
            seen.set()
        return found

    with course_utils.virtual_gpus(2), GpuWatch(SOON, read=read) as watch:
        kept = torch.ones(25 * 2**20, device="cuda:1")
        assert seen.wait(PATIENCE)
        assert kept.is_cuda
    assert (watch.source, max(watch.series(1, "memory.used").values())) == ("virtual", 100)
    assert "GPU 1, Virtual GPU (CPU): memory 0 to 100 MiB, utilisation unknown" in str(watch)
    assert "GPU 0" not in str(watch)  # it stayed empty


def watched(*readings: GpuStatus) -> GpuWatch:
    watch = GpuWatch(read=lambda: None)
    watch.samples = {float(at): reading.gpus for at, reading in enumerate(readings)}
    return watch


def test_the_drawing_has_memory_and_utilisation_of_every_busy_gpu() -> None:
    watch = watched(status(10, 0, gpus=2), status(30, 90, gpus=2))
    memory, utilization = watch.draw().axes
    assert [list(line.get_ydata()) for line in memory.lines] == [[10, 30], [10, 30]]
    assert [list(line.get_ydata()) for line in utilization.lines] == [[0, 90], [0, 90]]
    assert len({(line.get_color(), line.get_marker()) for line in memory.lines}) == 2
    assert str(watch).splitlines()[1] == "GPU 0, card: memory 10 to 30 MiB, utilisation 0 to 90 %"


def test_the_drawing_says_what_is_unknown() -> None:
    figure = watched(status(10), status(30)).draw()
    memory, utilization = figure.axes
    assert len(memory.lines) == 1
    assert not utilization.lines
    assert [text.get_text() for text in utilization.texts] == ["unknown"]
    assert figure.description.splitlines()[1] == "GPU 0, card: memory 10 to 30 MiB, utilisation unknown"


def test_the_public_function_watches_what_gpu_status_reads() -> None:
    assert course_utils.watch_gpus(0.5).read is gpu_status
    assert str(course_utils.watch_gpus()) == "nothing was read: the block has not run yet"
