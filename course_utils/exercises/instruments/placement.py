"""What judges of placement need: GPUs to try an answer on, real or virtual."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from course_utils.virtual import virtual_gpus


@contextmanager
def some_gpus(needed: int = 1, most: int = 8) -> Iterator[list[torch.device]]:
    """Yield at most `most` GPUs, real or virtual; where there are fewer than `needed`, virtual ones."""
    with ExitStack() as stack:
        if torch.cuda.device_count() < needed:
            stack.enter_context(virtual_gpus(count=most))
        yield [torch.device("cuda", index) for index in range(min(most, torch.cuda.device_count()))]


@contextmanager
def two_devices() -> Iterator[tuple[torch.device, torch.device]]:
    """Yield two devices to try an answer on: two GPUs, real or virtual, or the one there is and the CPU.

    After the block random numbers go on as if none had been drawn, and the current GPU is that of before.
    """
    with torch.random.fork_rng(devices=[]), some_gpus() as gpus, torch.cuda.device(0):
        yield tuple([*gpus, torch.device("cpu")][:2])
