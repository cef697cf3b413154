"""`python3 -m course_utils bench`: what virtual GPUs and the ledger cost, what lesson 04's faster loop gains.

Every figure is a ratio of two things measured in turn in the same run, so that a busy machine slows both.
The network and the two loops are taken from lesson 04's notebook: what is measured is what the reader sees.
"""

import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from authors.lesson_code import lesson_code
from course_utils import load_cifar10, track_memory, virtual_gpus
from course_utils.lessons import ROOT

LESSON = "04_cifar_training_loop"
TAKEN = ("Net", "gather", "train_epoch_first", "train_epoch_fast")


def ratio(
    first: Callable[[], object], second: Callable[[], object], rounds: int, clock: Callable[[], float]
) -> float:
    """Return the median of first's time over second's, measured in turn after one warm-up of each."""
    first(), second()
    times = []
    for _ in range(rounds):
        start = clock()
        first()
        middle = clock()
        second()
        times.append((middle - start) / (clock() - middle))
    return statistics.median(times)


def training_step(
    net: type[nn.Module], device: str, batch: int, parallel: bool = False
) -> Callable[[], None]:
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


@contextmanager
def one_thread_and_gpus() -> Iterator[type[nn.Module]]:
    """Have one thread and virtual GPUs inside a `with` block; yield lesson 04's network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with virtual_gpus(8):
            yield lesson_code(LESSON, ["Net"])["Net"]
    finally:
        torch.set_num_threads(threads)


def virtual_cost(batch: int, parallel: bool, rounds: int) -> float:
    """Return CPU time of a step on virtual GPUs over a step on the plain CPU, with one thread."""
    with one_thread_and_gpus() as net:
        steps = [training_step(net, "cuda:0", batch, parallel), training_step(net, "cpu", batch)]
        return ratio(*steps, rounds, time.process_time)


def ledger_cost(batch: int, rounds: int) -> float:
    """Return CPU time of a step on a virtual GPU inside `track_memory` over one outside, with one thread."""
    with one_thread_and_gpus() as net:
        step = training_step(net, "cuda:0", batch)

        def tracked() -> None:
            with track_memory():
                step()

        return ratio(tracked, step, rounds, time.process_time)


def loop_gain(pictures: int, rounds: int) -> float:
    """Return pictures per second of lesson 04's faster loop over its first loop, on the CPU."""
    lesson = lesson_code(LESSON, TAKEN)
    train_set, _ = load_cifar10(train_size=pictures, test_size=10, download=False)
    mean, deviation = [0.5] * 3, [0.25] * 3
    lesson |= {"MEAN": mean, "STD": deviation}
    tools = lesson["transforms"]
    train_set.transform = tools.Compose(
        [
            tools.RandomCrop(32, padding=2, padding_mode="edge"),
            tools.RandomHorizontalFlip(),
            tools.ToTensor(),
            tools.Normalize(mean, deviation),
        ]
    )
    loader = lesson["DataLoader"](train_set, batch_size=64, shuffle=True)
    data = torch.from_numpy(train_set.data), torch.tensor(train_set.targets)
    criterion, models = nn.CrossEntropyLoss(), [lesson["Net"]() for _ in range(2)]
    models[1] = models[1].to(memory_format=torch.channels_last)
    first_steps, fast_steps = (torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9) for model in models)

    def first() -> None:
        lesson["train_epoch_first"](models[0], loader, criterion, first_steps, torch.device("cpu"))

    def fast() -> None:
        lesson["train_epoch_fast"](models[1], *data, criterion, fast_steps, batch_size=256)

    return ratio(first, fast, rounds, time.perf_counter)


def import_milliseconds(rounds: int) -> tuple[float, bool]:
    """Return the milliseconds `import course_utils` takes in a new Python, and whether it loads torch."""
    code = (
        "import sys, time; start = time.perf_counter(); import course_utils;"
        "print((time.perf_counter() - start) * 1e3, 'torch' in sys.modules)"
    )
    outputs = [subprocess.check_output([sys.executable, "-c", code], cwd=ROOT).split() for _ in range(rounds)]
    return statistics.median(float(ms) for ms, _ in outputs), outputs[0][1] == b"True"


def main(options: Namespace) -> int:
    """Measure and print one line a figure: what, how much, the target."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads where not said otherwise")
    one = virtual_cost(128, False, options.rounds)
    print(f"one virtual GPU / plain CPU, a step at batch 128, one thread: {one:.2f} times (target 1.2)")
    eight = virtual_cost(256, True, options.rounds)
    print(f"DataParallel on 8 / plain CPU, a step at batch 256, one thread: {eight:.2f} times (target 2)")
    ledger = ledger_cost(128, options.rounds)
    print(f"a step inside track_memory / outside, at batch 128, one thread: {ledger:.2f} times (target 1.5)")
    gain = loop_gain(options.pictures, 3)
    print(f"lesson 04, faster loop / first loop: {gain:.1f} times the pictures per second (target 3)")
    milliseconds, loads_torch = import_milliseconds(5)
    torch_too = "with torch" if loads_torch else "without torch"
    print(f"import course_utils: {milliseconds:.0f} ms, {torch_too} (target 50, without)")
    return 0
