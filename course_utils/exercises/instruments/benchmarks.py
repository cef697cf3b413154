"""Judging a benchmark by traps: a pretended GPU with its own clock, networks with good and bad luck."""

from collections.abc import Callable, Sequence
from random import Random
from statistics import mean
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from ..trying import Mistake, mistake_if
from .pretend import Queues

COMPILING, TESTING = 30.0, 4.0  # pretended seconds: of the first epoch at all, of each test
_TRAIN, _TEST = range(40), range(40, 50)  # the pictures: each is a number


class Network:
    """A network whose seed decides how long an epoch takes, and its accuracy after each of them."""

    def __init__(self) -> None:
        self.seed = torch.initial_seed()
        luck = Random(self.seed).random()
        self.seconds, self.epochs = 1.0 + luck, 0
        self.accuracies = [0.1 * luck + share for share in (0.8, 0.87, 0.84, 0.82, 0.83)]  # falls in the end


def judge_benchmark(answer: Callable[..., Any], seeds: Sequence[int], epochs: int) -> None:
    """Let an answer measure, with several seeds and at most 4 epochs."""
    queues, tested, before = Queues(1), set[Network](), torch.initial_seed()

    def train_epoch(model: Network, pictures: Dataset) -> None:
        seen = sorted(int(picture) for (picture,) in pictures)
        mistake_if(not set(seen).isdisjoint(_TEST), "test_pictures")
        mistake_if(seen != list(_TRAIN), "part")
        queues.work(0, model.seconds, first=COMPILING)()
        model.epochs += 1

    def accuracy(model: Network, pictures: Dataset) -> float:
        mistake_if({int(picture) for (picture,) in pictures} != set(_TEST), "tested_on")
        mistake_if(model.epochs > epochs, "warm_up", learned=model.epochs, epochs=epochs)
        queues.wait()
        queues.now += TESTING
        tested.add(model)
        return model.accuracies[model.epochs]

    train, test = (TensorDataset(torch.tensor(part)) for part in (_TRAIN, _TEST))
    with queues.instead(getattr(answer, "__globals__", {})):
        said = answer(Network, train_epoch, accuracy, train, test, seeds, epochs)
    measured = [network for network in tested if network.epochs == epochs]
    mistake_if(len(measured) < len(seeds), "seeds", seeds=len(seeds), measured=len(measured))
    mistake_if(len({network.seed for network in measured} - {before}) < len(seeds), "same_seed")
    _judge_numbers(said, measured, epochs)


def _judge_numbers(said: Any, measured: list[Network], epochs: int) -> None:
    """Ask for the mean of the final accuracies, and for that of the training times."""
    try:
        share, seconds = map(float, said)
    except (TypeError, ValueError):
        raise Mistake("returned", said=said) from None
    final = [network.accuracies[epochs] for network in measured]
    best = [max(network.accuracies[: epochs + 1]) for network in measured]
    percent, best_epoch = [100 * mean(final), 100 * max(final)], [max(best), mean(best)]
    known = {"percent": percent, "lucky": final, "best_epoch": best_epoch}
    _judge(share, mean(final), known, "accuracy")
    times = [epochs * network.seconds for network in measured]
    right, compiling = mean(times), COMPILING / len(times)
    tests = [right + TESTING * count for count in range(1, 9)]
    known = {"fastest": times, "sum": [sum(times)], "launch": [0.0, compiling], "testing": tests}
    more = "compile" if seconds - right > compiling - 1 else "before"
    _judge(seconds, right, known, more if seconds > right else "short")


def _judge(said: float, right: float, known: dict[str, list[float]], other: str) -> None:
    """Ask for a number; of a wrong one, name the mistake that comes to it."""
    if not abs(said - right) < 0.001:  # launches take time, too
        keys = (key for key, values in known.items() if min(abs(said - value) for value in values) < 0.001)
        raise Mistake(next(keys, other), said=said, mean=right)
