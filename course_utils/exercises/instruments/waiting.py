"""Judging an epoch that never waits for the GPU: every number that is read, every tensor that is copied."""

import io
import math
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import nn

from ..trying import Mistake, mistake_if
from .recorder import recording
from .vectors import agree, flat

BATCH, LEARNING_RATE = 8, 0.1
_KINDS = ("print", "if", "number", "cpu", "to_gpu", "size", "synchronize")


class Epoch:
    """One epoch of an answer on a GPU.

    Attributes:
        said: what the answer returned.
        waited: kinds of waiting between the first batch and the last step, each with the number of its step.
        devices: the types of the devices on which the network ran.
        parameters: of the network at the end, in one tensor.
    """

    def __init__(self, answer: Callable[..., Any], batches: int, gpu: torch.device, *, bad: bool = False):
        samples = batches * BATCH - 3  # the last batch is smaller
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(batches)
            pictures = torch.randint(256, (samples, 3, 8, 8)).float()
            labels = torch.randint(10, (samples,))
            self.model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).to(gpu)
        if bad:
            pictures[samples // 2] = float("nan")
        self.devices: set[str] = set()
        self._batches = self._steps = 0
        self.model.register_forward_hook(self._forward)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        optimizer.register_step_post_hook(self._step)
        data = pictures.to(gpu), labels.to(gpu)
        with recording(lambda: (self._batches, self._steps)) as record, redirect_stdout(io.StringIO()):
            self.said = answer(self.model, optimizer, *data, BATCH)
        self.waited = [(kind, seen) for kind, (seen, steps) in record.waits if seen and steps < self._steps]
        self.parameters = flat(self.model.parameters()).cpu()

    def _forward(self, model: nn.Module, args: Any, scores: torch.Tensor) -> None:
        self._batches += 1
        self.devices.add(scores.device.type)

    def _step(self, *_: Any) -> None:
        self._steps += 1


def plain_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pictures: torch.Tensor,
    labels: torch.Tensor,
    size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Train on every picture once; return the mean of the batches' losses and the share of right answers."""
    losses, right = [], []
    for x, y in zip(pictures.split(size), labels.split(size), strict=True):
        scores = model((x / 255 - 0.5) / 0.25)
        losses.append(nn.functional.cross_entropy(scores, y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        right.append((scores.argmax(1) == y).sum())
    return torch.stack(losses).mean().detach(), torch.stack(right).sum() / len(labels)


def judge_no_waiting(answer: Callable[..., Any], gpu: torch.device) -> None:
    """Try an answer on a short epoch and on one that is long enough for what is done now and then."""
    for batches in (4, 110):
        run = Epoch(answer, batches, gpu)
        _judge_result(run, Epoch(plain_epoch, batches, gpu))
        for kind in _KINDS:
            if steps := [step for what, step in run.waited if what == kind]:
                raise Mistake(kind, step=steps[0], batches=batches)
    try:
        Epoch(answer, 4, gpu, bad=True)
    except ValueError:
        return
    raise Mistake("nan_lost")


def _judge_result(run: Epoch, plain: Epoch) -> None:
    """Ask for the same training, on the GPU, and the same two numbers."""
    mistake_if(run.devices == {"cpu"}, "elsewhere")
    mistake_if(not agree(run.parameters, plain.parameters), "training")
    try:
        loss, accuracy = map(_number, run.said)
    except (TypeError, ValueError, RuntimeError):
        raise Mistake("returned", said=run.said) from None
    right = [_number(value) for value in plain.said]
    if not math.isclose(loss, right[0], rel_tol=1e-4):
        raise Mistake("loss", right=right[0], said=loss)
    if not math.isclose(accuracy, right[1], rel_tol=1e-4):
        raise Mistake("accuracy", right=right[1], said=accuracy)


def _number(value: Any) -> float:
    return value.item() if isinstance(value, torch.Tensor) else float(value)
