"""`python3 -m course_utils bench`: what virtual GPUs and the ledger cost, what lesson 04's faster loop gains.

Every figure is a ratio of two things measured in turn in the same run, so that a busy machine slows both.
The network and the two loops are taken from lesson 04's notebook: what is measured is what the reader sees.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from timeit import timeit

import torch
from torch import nn

from authors.recording_parts import taken
from course_utils import track_memory, virtual_gpus

Run = Callable[[], object]
CLOCK = time.perf_counter if sys.platform == "win32" else time.process_time  # there it ticks at 16 ms


def ratio(first: Run, second: Run, rounds: int, clock: Callable[[], float]) -> float:
    """Return the median of first's time over second's, measured in turn after one warm-up of each."""
    first()
    second()
    pairs = ([timeit(run, timer=clock, number=1) for run in (first, second)] for _ in range(rounds))
    return statistics.median(one / other for one, other in pairs)


def training_step(net: type[nn.Module], device: str, batch: int, *, parallel: bool = False) -> Run:
    """Return one training step of the lesson's network on random pictures."""
    torch.manual_seed(0)
    model = net().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model = nn.DataParallel(model) if parallel else model
    x, y = torch.rand(batch, 3, 32, 32).to(device), torch.randint(10, (batch,)).to(device)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def costs(net: type[nn.Module], rounds: int) -> Iterator[str]:
    """Say how many times the CPU time a step takes on a virtual GPU, on eight, and inside a ledger."""
    with virtual_gpus(8):
        one, eight = training_step(net, "cuda:0", 128), training_step(net, "cuda:0", 256, parallel=True)
        figures = [
            ("one virtual GPU / CPU, a step at batch 128", 1.15, one, training_step(net, "cpu", 128)),
            ("DataParallel on 8 / CPU, a step at batch 256", 1.5, eight, training_step(net, "cpu", 256)),
            ("a step inside track_memory / outside, at batch 128", 1.5, track_memory()(one), one),
        ]
        for name, target, *pair in figures:
            times = ratio(*pair, rounds, CLOCK)
            yield f"{name}, one thread: {times:.2f} times (target {target})"


def main(rounds: int = 30, pictures: int = 10_000) -> int:
    """Measure and print one line a figure: what, how much, the target."""
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads where not said otherwise")
    os.environ.setdefault("COURSE_DATA", "standin")  # a download is no part of it
    sizes = {"TRAIN_SIZE": pictures, "TEST_SIZE": 10, "TIMED_SIZE": pictures}
    lesson = taken("training_loop", device=torch.device("cpu"), **sizes)
    torch.set_num_threads(1)
    print(*costs(lesson["Net"], rounds), sep="\n")
    torch.set_num_threads(threads)
    first, *_, fast = lesson["rungs"].values()
    gain = ratio(first, fast, 3, time.perf_counter)
    print(f"lesson 04, faster loop / first loop: {gain:.1f} times the pictures per second (target 3)")
    return 0
