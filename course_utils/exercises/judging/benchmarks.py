"""Judging a benchmark by traps: a pretended GPU with its own clock, networks with good and bad luck."""

from collections.abc import Callable
from statistics import mean
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from ..engine import close, wrong
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
        problem: a key and a hint, once pictures were used that must not be.
    """

    def __init__(self) -> None:
        self.queues, self.models, self.compiled = Queues(1), [], False
        self.train, self.test = (TensorDataset(torch.tensor(part)) for part in (_PICTURES, _TESTS))
        self.problem: tuple[str, str] | None = None

    def new_model(self) -> Pretended:
        """Return a network that has learned nothing."""
        self.models.append(Pretended())
        return self.models[-1]

    def train_epoch(self, model: Pretended, pictures: Dataset) -> None:
        """Put an epoch's work into the GPU's queue, and return at once."""
        seen = sorted(int(picture) for (picture,) in pictures)
        if set(seen) & set(_TESTS):
            self.problem = (
                "test_pictures",
                "It trains on pictures of the test. They are there to be unknown.",
            )
        elif seen != list(_PICTURES):
            self.problem = ("part", "An epoch is all training pictures, each once.")
        self.queues.now += LAUNCH + (0.0 if self.compiled else COMPILING)
        self.compiled = True
        self.queues.free[0] = max(self.queues.free[0], self.queues.now) + model.seconds
        model.epochs += 1

    def accuracy(self, model: Pretended, pictures: Dataset) -> float:
        """Wait for the GPU, test, and return the share of right answers."""
        if {int(picture) for (picture,) in pictures} != set(_TESTS):
            self.problem = (
                "tested_on",
                "The accuracy that counts is that on all test pictures, and only those.",
            )
        self.queues.wait()
        self.queues.now += TESTING
        model.tested.append(model.accuracy())
        return model.tested[-1]


def judge_benchmark(answer: Callable[..., Any]) -> None:
    """Let an answer measure two times, with several seeds and epochs."""
    found = [_try(answer, seeds, epochs) for seeds, epochs in (((1, 2, 3), 4), ((3, 1, 2), 4), ((5, 8), 3))]
    if not close(found[0], found[1]):
        wrong("unseeded", "Measured again, with the same seeds in another order, the accuracy is another.")


def _try(answer: Callable[..., Any], seeds: tuple[int, ...], epochs: int) -> float:
    """Judge one measurement, and return the accuracy."""
    lab = Laboratory()
    torch.default_generator.seed()  # a seed that nobody knows: an answer has to set its own
    with lab.queues.instead(getattr(answer, "__globals__", {})):
        said = answer(lab.new_model, lab.train_epoch, lab.accuracy, lab.train, lab.test, seeds, epochs)
    if lab.problem:
        wrong(*lab.problem)
    try:
        accuracy, seconds = (float(value) for value in said)
    except (TypeError, ValueError):
        wrong("returned", f"It should return two numbers, accuracy and seconds, and returned {said!r}.")
    measured = _measured(lab, len(seeds), epochs)
    _judge_accuracy(accuracy, measured)
    _judge_seconds(seconds, [epochs * model.seconds for model in measured])
    return accuracy


def _measured(lab: Laboratory, seeds: int, epochs: int) -> list[Pretended]:
    """Return the networks that were measured: one for each seed, trained as long as asked for."""
    tested = [model for model in lab.models if model.tested]
    if any(model.epochs > epochs for model in tested):
        wrong(
            "warm_up",
            f"The network that is tested has learned for {max(m.epochs for m in tested)} epochs, and "
            f"{epochs} were asked for. Warm up on a network of its own, and throw it away.",
        )
    measured = [model for model in tested if model.epochs == epochs]
    if len(measured) < seeds:
        wrong(
            "seeds", f"{seeds} seeds were asked for; networks trained to the end and tested: {len(measured)}."
        )
    if len({model.luck for model in measured}) < seeds:
        wrong("same_seed", "Some of the networks are the same. Each seed should begin one of its own.")
    return measured


def _judge_accuracy(said: float, measured: list[Pretended]) -> None:
    """Ask for the mean of the final accuracies."""
    final, best = (
        [pick(model) for model in measured] for pick in (Pretended.accuracy, lambda m: max(m.tested))
    )
    if close(said, mean(final)):
        return
    if any(close(said, 100 * value) for value in (mean(final), max(final))):
        wrong("percent", "The accuracy should be a share from 0 to 1, as accuracy() returns it.")
    if close(said, max(final)) or close(said, min(final)) or close(said, final[-1]):
        wrong("lucky", "That is the accuracy of one seed. With another one you would report another number.")
    if close(said, max(best)) or close(said, mean(best)):
        wrong(
            "best_epoch",
            "That is the best epoch's accuracy. Which epoch is best was chosen by the test pictures, so they "
            "are no test any more: take the network at the end.",
        )
    wrong("accuracy", f"It says {said:.4f}; the mean accuracy at the end is {mean(final):.4f}.")


def _judge_seconds(said: float, true: list[float]) -> None:
    """Ask for the mean of the training times."""
    slack = 0.01
    if abs(said - mean(true)) < slack:
        return
    if any(abs(said - value) < slack for value in (min(true), max(true), true[-1])):
        wrong("fastest", "Those are the seconds of one seed. The mean over all of them is asked for.")
    if abs(said - sum(true)) < slack:
        wrong("sum", "Those are the seconds of all seeds together. The mean is asked for.")
    if said < 0.1 * min(true):
        wrong("launch", "The clock was stopped while the GPU still worked: only the launches were measured.")
    if COMPILING / len(true) <= said - mean(true) < 2 * COMPILING:
        wrong("compile", "The first epoch of all, which compiles for 30 seconds, is in the time of one seed.")
    if said > mean(true) and any(abs(said - mean(true) - n * TESTING) < slack for n in range(1, 9)):
        wrong("testing", "The time of testing is in there. The seconds of the training alone are asked for.")
    if said > mean(true):
        wrong("before", "When the clock was started, the GPU was still busy with what came before.")
    wrong("short", f"It says {said:.2f} s; the epochs took {mean(true):.2f} s. A part is missing.")
