"""Judging a benchmark by traps: a pretended GPU with its own clock, networks with good and bad luck."""

from collections.abc import Callable
from statistics import mean
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from ..trying import Mistake, mistake_if, same
from .pretend import LAUNCH, Queues

COMPILING, TESTING = 30.0, 4.0  # pretended seconds: of the first epoch at all, of each test
_PICTURES, _TESTS = range(40), range(40, 50)


class Pretended:
    """A network whose accuracy is known in advance, and falls in the last epoch; the rest is luck."""

    def __init__(self) -> None:
        self.luck = torch.rand(()).item()
        self.epochs, self.tested = 0, []
        self.seconds = 1.0 + self.luck  # of an epoch

    def accuracy(self) -> float:
        """Return the accuracy after the epochs so far."""
        return 0.5 + 0.1 * self.luck + (0.3, 0.37, 0.34, 0.32, 0.33, 0.31)[min(self.epochs, 5)]


class Laboratory:
    """What a benchmark is handed: networks, an epoch, a test, and pictures; every use is noted.

    Attributes:
        models: all networks, in the order they were made.
        problem: the key of a mistake, once pictures were used that must not be.
    """

    def __init__(self) -> None:
        self.queues, self.models, self.compiled = Queues(1), [], False
        self.train, self.test = (TensorDataset(torch.tensor(part)) for part in (_PICTURES, _TESTS))
        self.problem = ""

    def new_model(self) -> Pretended:
        """Return a network that has learned nothing."""
        self.models.append(Pretended())
        return self.models[-1]

    def train_epoch(self, model: Pretended, pictures: Dataset) -> None:
        """Put an epoch's work into the GPU's queue, and return at once."""
        seen = sorted(int(picture) for (picture,) in pictures)
        if set(seen) & set(_TESTS):
            self.problem = "test_pictures"
        elif seen != list(_PICTURES):
            self.problem = "part"
        self.queues.now += LAUNCH + (0.0 if self.compiled else COMPILING)
        self.compiled = True
        self.queues.free[0] = max(self.queues.free[0], self.queues.now) + model.seconds
        model.epochs += 1

    def accuracy(self, model: Pretended, pictures: Dataset) -> float:
        """Wait for the GPU, test, and return the share of right answers."""
        if {int(picture) for (picture,) in pictures} != set(_TESTS):
            self.problem = "tested_on"
        self.queues.wait()
        self.queues.now += TESTING
        model.tested.append(model.accuracy())
        return model.tested[-1]


def judge_benchmark(answer: Callable[..., Any]) -> None:
    """Let an answer measure two times, with several seeds and epochs."""
    found = [_try(answer, seeds, epochs) for seeds, epochs in (((1, 2, 3), 4), ((3, 1, 2), 4), ((5, 8), 3))]
    mistake_if(not same(found[0], found[1]), "unseeded")


def _try(answer: Callable[..., Any], seeds: tuple[int, ...], epochs: int) -> float:
    """Judge one measurement, and return the accuracy."""
    lab = Laboratory()
    torch.default_generator.seed()  # a seed that nobody knows: an answer has to set its own
    with lab.queues.instead(getattr(answer, "__globals__", {})):
        said = answer(lab.new_model, lab.train_epoch, lab.accuracy, lab.train, lab.test, seeds, epochs)
    mistake_if(lab.problem != "", lab.problem)
    try:
        accuracy, seconds = (float(value) for value in said)
    except (TypeError, ValueError):
        raise Mistake("returned", said=said) from None
    measured = _measured(lab, len(seeds), epochs)
    _judge_accuracy(accuracy, measured)
    _judge_seconds(seconds, [epochs * model.seconds for model in measured])
    return accuracy


def _measured(lab: Laboratory, seeds: int, epochs: int) -> list[Pretended]:
    """Return the networks that were measured: one for each seed, trained as long as asked for."""
    tested = [model for model in lab.models if model.tested]
    if any(model.epochs > epochs for model in tested):
        raise Mistake("warm_up", learned=max(model.epochs for model in tested), epochs=epochs)
    measured = [model for model in tested if model.epochs == epochs]
    mistake_if(len(measured) < seeds, "seeds", seeds=seeds, measured=len(measured))
    mistake_if(len({model.luck for model in measured}) < seeds, "same_seed")
    return measured


def _judge_accuracy(said: float, measured: list[Pretended]) -> None:
    """Ask for the mean of the final accuracies."""
    final, best = (
        [pick(model) for model in measured] for pick in (Pretended.accuracy, lambda m: max(m.tested))
    )
    if same(said, mean(final)):
        return
    mistake_if(any(same(said, 100 * value) for value in (mean(final), max(final))), "percent")
    mistake_if(same(said, max(final)) or same(said, min(final)) or same(said, final[-1]), "lucky")
    mistake_if(same(said, max(best)) or same(said, mean(best)), "best_epoch")
    raise Mistake("accuracy", said=said, mean=mean(final))


def _judge_seconds(said: float, true: list[float]) -> None:
    """Ask for the mean of the training times."""
    slack = 0.01
    if abs(said - mean(true)) < slack:
        return
    mistake_if(any(abs(said - value) < slack for value in (min(true), max(true), true[-1])), "fastest")
    mistake_if(abs(said - sum(true)) < slack, "sum")
    mistake_if(said < 0.1 * min(true), "launch")
    mistake_if(COMPILING / len(true) <= said - mean(true) < 2 * COMPILING, "compile")
    if said > mean(true) and any(abs(said - mean(true) - n * TESTING) < slack for n in range(1, 9)):
        raise Mistake("testing")
    mistake_if(said > mean(true), "before")
    raise Mistake("short", said=said, mean=mean(true))
