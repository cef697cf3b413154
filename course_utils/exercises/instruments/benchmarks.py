"""Judging a benchmark by traps: a pretended GPU with its own clock, networks with good and bad luck."""

from collections.abc import Callable, Sequence
from random import Random
from statistics import mean
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from ..trying import Mistake, mistake_if, same
from .pretend import LAUNCH, Queues

COMPILING, TESTING = 30.0, 4.0  # pretended seconds: of the first epoch at all, of each test
_PICTURES, _TESTS = range(40), range(40, 50)


class Network:
    """A network whose accuracy is known in advance, falls in the end, and is the luck of its seed."""

    def __init__(self) -> None:
        self.seed = torch.initial_seed()
        luck = Random(self.seed).random()
        self.best, self.seconds = 0.5 + 0.1 * luck, 1.0 + luck  # the seconds of an epoch
        self.epochs, self.tested = 0, list[float]()

    def accuracy(self) -> float:
        """Return the accuracy after the epochs so far."""
        return self.best + (0.3, 0.37, 0.34, 0.32, 0.33, 0.31)[min(self.epochs, 5)]


class Laboratory:
    """What a benchmark is handed: networks, an epoch, a test, and pictures; every use is noted.

    Args:
        epochs: how long a network that is tested may have learned.

    Attributes:
        networks: all of them, in the order they were made.
    """

    def __init__(self, epochs: int) -> None:
        self.queues, self.networks, self.compiled = Queues(1), list[Network](), False
        self.train, self.test = (TensorDataset(torch.tensor(part)) for part in (_PICTURES, _TESTS))
        self.epochs = epochs

    def new_model(self) -> Network:
        """Return a network that has learned nothing."""
        self.networks.append(Network())
        return self.networks[-1]

    def train_epoch(self, model: Network, pictures: Dataset) -> None:
        """Put an epoch's work into the GPU's queue, and return at once."""
        seen = sorted(int(picture) for (picture,) in pictures)
        mistake_if(not set(seen).isdisjoint(_TESTS), "test_pictures")
        mistake_if(seen != list(_PICTURES), "part")
        self.queues.now += LAUNCH + (0.0 if self.compiled else COMPILING)
        self.compiled = True
        self.queues.free[0] = max(self.queues.free[0], self.queues.now) + model.seconds
        model.epochs += 1

    def accuracy(self, model: Network, pictures: Dataset) -> float:
        """Wait for the GPU, test, and return the share of right answers."""
        mistake_if({int(picture) for (picture,) in pictures} != set(_TESTS), "tested_on")
        mistake_if(model.epochs > self.epochs, "warm_up", learned=model.epochs, epochs=self.epochs)
        self.queues.wait()
        self.queues.now += TESTING
        model.tested.append(model.accuracy())
        return model.tested[-1]


def judge_benchmark(answer: Callable[..., Any], seeds: Sequence[int], epochs: int) -> None:
    """Let an answer measure, with several seeds and epochs."""
    lab, before = Laboratory(epochs), torch.initial_seed()
    with lab.queues.instead(getattr(answer, "__globals__", {})):
        said = answer(lab.new_model, lab.train_epoch, lab.accuracy, lab.train, lab.test, seeds, epochs)
    try:
        accuracy, seconds = map(float, said)
    except (TypeError, ValueError):
        raise Mistake("returned", said=said) from None
    measured = [network for network in lab.networks if network.tested and network.epochs == epochs]
    mistake_if(len(measured) < len(seeds), "seeds", seeds=len(seeds), measured=len(measured))
    mistake_if(len({network.seed for network in measured} - {before}) < len(seeds), "same_seed")
    _judge_accuracy(accuracy, measured)
    _judge_seconds(seconds, [epochs * network.seconds for network in measured])


def _judge_accuracy(said: float, measured: list[Network]) -> None:
    """Ask for the mean of the final accuracies."""
    final = [network.accuracy() for network in measured]
    best = [max(network.tested) for network in measured]
    if same(said, mean(final)):
        return
    mistake_if(any(same(said, 100 * value) for value in (mean(final), max(final))), "percent")
    mistake_if(any(same(said, value) for value in final), "lucky")
    mistake_if(same(said, max(best)) or same(said, mean(best)), "best_epoch")
    raise Mistake("accuracy", said=said, mean=mean(final))


def _judge_seconds(said: float, true: list[float]) -> None:
    """Ask for the mean of the training times."""

    def is_about(seconds: float) -> bool:
        return abs(said - seconds) < 0.001  # launches take time, too

    right = mean(true)
    if is_about(right):
        return
    mistake_if(any(map(is_about, true)), "fastest")
    mistake_if(is_about(sum(true)), "sum")
    mistake_if(said < 0.1 * min(true), "launch")
    mistake_if(COMPILING / len(true) <= said - right < 2 * COMPILING, "compile")
    mistake_if(any(is_about(right + tests * TESTING) for tests in range(1, 9)), "testing")
    mistake_if(said > right, "before")
    raise Mistake("short", said=said, mean=right)
