"""Judging an epoch that never waits for the GPU: every number that is read, every tensor that is copied."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from ..engine import close, wrong
from .accumulating import agree, flat
from .placement import CopyCounter

BATCH, LEARNING_RATE = 8, 0.1
_HINTS = {
    "print": "a tensor is printed: its numbers have to come from the GPU first",
    "if": "Python asks whether something is true, and waits for the answer: think of `if`",
    "number": "a number is fetched: think of .item(), float() and f-strings",
    "cpu": "results are brought to the CPU: add them up where they are",
    "to_gpu": "a tensor is made on the CPU and copied to the GPU: do it once, before the loop",
    "size": "an operation has to tell Python how large its result is, as x[mask] and nonzero() do",
    "synchronize": "synchronize() waits for the GPU to finish",
}
_SIZES = ("nonzero", "masked_select", "_unique2", "index")


class Waits(CopyCounter):
    """Counts, by kind, where Python waits for a GPU inside a `with` block: the keys of `_HINTS`.

    Attributes:
        found: kind to number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self._kind = "number"

    def __enter__(self) -> "Waits":
        for owner in (torch.cuda, torch.accelerator):
            self._patches.enter_context(patch.object(owner, "synchronize", self._synchronize))
        super().__enter__()
        return self

    def _synchronize(self, *_: Any) -> None:
        self._add("synchronize")

    def _add(self, kind: str) -> None:
        self.found[kind] = self.found.get(kind, 0) + 1

    def _watch(self, owner: Any, name: str, note: Callable[[tuple[Any, ...], Any], None]) -> None:
        def noted(args: tuple[Any, ...], result: Any) -> None:
            to_gpu = any(getattr(leaf, "is_cuda", False) for leaf in (result,))
            self._kind = "print" if name == "__repr__" else "to_gpu" if to_gpu else "cpu"
            note(args, result)

        super()._watch(owner, name, noted)

    def _look(self, func: Any, args: Any) -> None:
        name = func._schema.name.partition("::")[2]
        on_gpu = [arg for arg in args if isinstance(arg, torch.Tensor) and arg.is_cuda]
        self._kind = "to_gpu"
        if name == "_local_scalar_dense" and on_gpu:
            self._kind = "if" if on_gpu[0].dtype == torch.bool else "number"
        elif name == "copy_":
            self._kind = "to_gpu" if args[0].is_cuda else "cpu"
        elif on_gpu and name in _SIZES and (name != "index" or _has_mask(args[1])):
            self._add("size")
        super()._look(func, args)

    def _note(self, nbytes: int) -> None:
        self._add(self._kind)
        super()._note(nbytes)


def _has_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)


class Epoch:
    """One epoch of an answer on a GPU: what it returned, what it waited for, where the parameters went."""

    def __init__(self, answer: Callable[..., Any], batches: int, gpu: torch.device, *, bad: bool = False):
        samples = batches * BATCH - 3  # the last batch is smaller
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(batches)
            pictures = torch.randint(256, (samples, 3, 8, 8)).float()
            labels = torch.randint(10, (samples,))
            self.model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).to(gpu)
        if bad:
            pictures[samples // 2] = float("nan")
        self.samples, self.devices = samples, set()
        self.model.register_forward_hook(lambda _, __, scores: self.devices.add(scores.device.type))
        optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        data = pictures.to(gpu), labels.to(gpu)
        self.printed = io.StringIO()
        with Waits() as waits, redirect_stdout(self.printed):
            self.said = answer(self.model, optimizer, *data, BATCH)
        self.found = waits.found
        self.parameters = flat(self.model.parameters()).cpu()


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
    """Compare epochs of 4 and 13 batches: what is waited for in every step must be gone."""
    short, long = (Epoch(answer, batches, gpu) for batches in (4, 13))
    _judge_result(short, Epoch(plain_epoch, 4, gpu))
    _judge_result(long, Epoch(plain_epoch, 13, gpu))
    for kind, hint in _HINTS.items():
        if (count := long.found.get(kind, 0)) > short.found.get(kind, 0):
            wrong(kind, f"In an epoch of 13 batches Python still waits {count} times where {hint}.")
    if sum(long.found.values()) > 8:
        wrong("many", f"Once per epoch is fine, but there are {sum(long.found.values())} places that wait.")
    try:
        Epoch(answer, 4, gpu, bad=True)
    except ValueError:
        return
    wrong("nan_lost", "A loss was not a number, and nobody heard of it. Look at all losses at the end, once.")


def _judge_result(run: Epoch, plain: Epoch) -> None:
    """Ask for the same training, on the GPU, and the same two numbers."""
    if run.devices == {"cpu"}:
        wrong("elsewhere", "It trains on the CPU. Then nothing waits for the GPU, and nothing uses it.")
    if not agree(run.parameters, plain.parameters):
        wrong(
            "training", "The parameters are not those of the epoch as it was. Is each batch still trained on?"
        )
    try:
        loss, accuracy = (float(value) for value in run.said)
        right = [float(value) for value in plain.said]
    except (TypeError, ValueError):
        wrong("returned", f"It should return two numbers, loss and accuracy, and returned {run.said!r}.")
    if not close(loss, right[0], 1e-4):
        wrong("loss", f"The mean of the batches' losses is {right[0]:.4f}, and it says {loss:.4f}.")
    if not close(accuracy, right[1], 1e-4):
        wrong("accuracy", f"The share of right answers is {right[1]:.4f}, and it says {accuracy:.4f}.")
