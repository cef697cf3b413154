"""Pretended hardware answers as the real one, moves its clock by work alone, and leaves nothing behind."""

import threading
import time
import timeit

import pytest
import torch

from course_utils.exercises.instruments.pretend import LAUNCH, Queues, machine

REAL = (time.perf_counter, time.sleep, timeit.default_timer, torch.cuda.synchronize, torch.cuda.Event)


def now() -> tuple[object, ...]:
    return time.perf_counter, time.sleep, timeit.default_timer, torch.cuda.synchronize, torch.cuda.Event


@pytest.mark.parametrize(
    ("kind", "count", "compiled", "found", "cuda"),
    [
        (None, 0, None, None, 0),
        ("cuda", 0, "cuda", None, 0),
        ("cuda", 2, "cuda", "cuda", 2),
        ("mps", 1, "mps", "mps", 0),
        ("xpu", 1, "xpu", "xpu", 0),
    ],
)
def test_a_machine_answers_by_its_build_and_its_devices(kind, count, compiled, found, cuda):
    before = torch.accelerator.is_available, torch.cuda.device_count
    with machine(kind, count):
        assert torch.accelerator.current_accelerator() == (compiled and torch.device(compiled))
        assert torch.accelerator.current_accelerator(check_available=True) == (found and torch.device(found))
        assert torch.cuda.device_count() == cuda
        assert torch.cuda.is_available() == (cuda > 0)
        assert torch.backends.mps.is_available() == (kind == "mps")
        if not count:
            with pytest.raises(RuntimeError, match="none is available"):
                torch.accelerator.current_device_index()
    assert before == (torch.accelerator.is_available, torch.cuda.device_count)


def test_a_launch_is_short_and_waiting_is_long():
    queues = Queues(2)
    work = queues.work(1, 0.5)
    with queues.instead({}):
        start = time.perf_counter()
        work()
        launched = time.perf_counter()
        torch.cuda.synchronize()  # of cuda:0, which has nothing to do
        assert time.perf_counter() - start == pytest.approx(LAUNCH, rel=0.01)
        torch.accelerator.synchronize(torch.device("cuda:1"))
        assert time.perf_counter() - launched == pytest.approx(0.5, rel=0.01)
        with pytest.raises(ValueError, match="got: cpu"):
            torch.cuda.synchronize("cpu")


def test_a_mac_waits_for_its_own_gpu_and_knows_no_cuda():
    queues = Queues(1, kind="mps")
    work = queues.work(0, 0.5)
    with queues.instead({}):
        for wait in (torch.mps.synchronize, lambda: torch.accelerator.synchronize(torch.device("mps:0"))):
            start = time.perf_counter()
            work()
            wait()
            assert time.perf_counter() - start == pytest.approx(0.5, rel=0.01)
        with pytest.raises(AssertionError, match="not compiled with CUDA"):
            torch.cuda.synchronize()


def test_events_measure_the_queue_of_the_current_gpu():
    queues = Queues(2, backlog=3.0)
    with queues.instead({}), torch.cuda.device("cuda:1"):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        queues.work(1, 0.5)()
        end.record()
        with pytest.raises(RuntimeError, match="must be completed"):
            start.elapsed_time(end)
        end.synchronize()
        assert start.elapsed_time(end) == pytest.approx(500)


def test_everything_is_put_back_also_after_an_error():
    own = {"clock": time.perf_counter, "other": 1}

    def fail() -> None:
        with Queues(1).instead(own):
            assert not set(now()) & set(REAL)
            assert own["clock"] is not REAL[0]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert now() == REAL
    assert own == {"clock": time.perf_counter, "other": 1}
    assert time.perf_counter in timeit.timeit.__defaults__


def test_other_threads_keep_the_true_clock():
    seen = []
    with Queues(1).instead({}):
        thread = threading.Thread(target=lambda: seen.append(time.time()))
        thread.start()
        thread.join()
        assert time.time() < 1e4 < seen[0]
