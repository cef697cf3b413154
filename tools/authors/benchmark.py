"""`python3 -m course_utils bench`: what virtual GPUs and the ledger cost, what lesson 04's faster loop gains.

Every figure is a ratio of two things measured in turn in the same run, so that a busy machine slows both.
The network and the two loops are taken from lesson 04's notebook: what is measured is what the reader sees.
"""

import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable

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


def cost(batch: int, rounds: int, *, parallel: bool = False, ledger: bool = False) -> float:
    """Return CPU time of a step on virtual GPUs over one on the plain CPU, with one thread.

    With `ledger` both are on a virtual GPU, the first inside `track_memory`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with virtual_gpus(8):
            net = lesson_code(LESSON, ["Net"])["Net"]
            step = training_step(net, "cuda:0", batch, parallel)

            def tracked() -> None:
                with track_memory():
                    step()

            pair = (tracked, step) if ledger else (step, training_step(net, "cpu", batch))
            return ratio(*pair, rounds, time.process_time)
    finally:
        torch.set_num_threads(threads)


def loop_gain(pictures: int, rounds: int) -> float:
    """Return pictures per second of lesson 04's faster loop over its first loop, on the CPU."""
    lesson = lesson_code(LESSON, TAKEN)
    train_set, _ = load_cifar10(train_size=pictures, test_size=10, download=False)
    lesson |= {"MEAN": [0.5] * 3, "STD": [0.25] * 3}
    tools = lesson["transforms"]
    train_set.transform = tools.Compose(
        [
            tools.RandomCrop(32, padding=2, padding_mode="edge"),
            tools.RandomHorizontalFlip(),
            tools.ToTensor(),
            tools.Normalize(lesson["MEAN"], lesson["STD"]),
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


def import_time(rounds: int) -> str:
    """Say how many milliseconds `import course_utils` takes in a new Python, and whether it loads torch."""
    code = (
        "import sys, time; start = time.perf_counter(); import course_utils;"
        "print((time.perf_counter() - start) * 1e3, 'with' if 'torch' in sys.modules else 'without')"
    )
    command = [sys.executable, "-c", code]
    outputs = [subprocess.check_output(command, cwd=ROOT, text=True).split() for _ in range(rounds)]
    return f"{statistics.median(float(ms) for ms, _ in outputs):.0f} ms, {outputs[0][1]} torch"


def main(options: Namespace) -> int:
    """Measure and print one line a figure: what, how much, the target."""
    rounds = options.rounds
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads where not said otherwise")
    one = cost(128, rounds)
    print(f"one virtual GPU / plain CPU, a step at batch 128, one thread: {one:.2f} times (target 1.2)")
    eight = cost(256, rounds, parallel=True)
    print(f"DataParallel on 8 / plain CPU, a step at batch 256, one thread: {eight:.2f} times (target 2)")
    ledger = cost(128, rounds, ledger=True)
    print(f"a step inside track_memory / outside, at batch 128, one thread: {ledger:.2f} times (target 1.5)")
    gain = loop_gain(options.pictures, 3)
    print(f"lesson 04, faster loop / first loop: {gain:.1f} times the pictures per second (target 3)")
    print(f"import course_utils: {import_time(5)} (target 50, without)")
    return 0
