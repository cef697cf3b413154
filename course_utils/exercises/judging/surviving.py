"""Judging a training step that survives out-of-memory errors, which are real ones of the GPU's allocator."""

import math
import sys
from collections.abc import Callable, Container
from typing import Any

import torch
from torch import nn

from ..engine import wrong
from .accumulating import agree, flat, load_flat

MIB = 2**20
_MOST_CALLS = 300


class _Endless(BaseException):
    """Ends an answer that would try for ever; it is no Exception, so that answers do not catch it."""


class Hungry(nn.Module):
    """A classifier of 16 numbers that keeps 64 KiB of activations a row, and runs out of memory when told.

    Args:
        fits: how many rows fit.
        trips: numbers of calls, from 1, that run out of memory whatever their size.
        breaks: an error that the first call raises.
    """

    def __init__(self, fits: int, trips: Container[int] = (), breaks: Exception | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 64), nn.Linear(64, 5)
        self.fits, self.trips, self.breaks = fits, trips, breaks
        self.sizes: list[int] = []
        self.inside = False
        self.entry: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(self.sizes) > _MOST_CALLS:
            raise _Endless
        self.entry.append(torch.cuda.memory_allocated(x.device))
        self.inside |= sys.exc_info()[0] is not None
        if self.breaks is not None and len(self.sizes) == 1:
            raise self.breaks
        scores = self.score(x)
        if len(x) > self.fits or len(self.sizes) in self.trips:
            torch.empty(2**50, dtype=torch.uint8, device=x.device)  # more than any card has
        return scores

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores, whatever fits."""
        wide = self.first(x).repeat(1, 256).tanh()
        return self.last(wide.view(len(x), 256, 64).mean(1))


class Try:
    """One call of an answer on `n` rows, beginning with parts of `size`.

    Attributes:
        model: with its notes, and the parameters that it had before.
        returned: what the answer returned.
        error: what it raised, None for nothing.
        taken: the step as a vector, and `right`, what it should be.
        steps: how many the optimizer took.
    """

    def __init__(self, answer: Callable[..., Any], n: int, size: int, gpu: torch.device, **model: Any):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(n)  # the GPU's random numbers belong to the lesson
            self.model = Hungry(**model).to(gpu)
            self.x, self.y = torch.randn(n, 16).to(gpu), torch.randint(5, (n,)).to(gpu)
        self.size = size
        self.right = self.gradient(lambda scores, y: _cross_entropy(scores, y, reduction="sum") / n, n)
        before, count = flat(self.model.parameters()), []
        optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        optimizer.register_step_post_hook(lambda *_: count.append(1))
        self.returned = self.error = None
        try:
            self.returned = answer(self.model, optimizer, self.x, self.y, size)
        except (Exception, _Endless) as error:
            self.error = error
        self.taken, self.steps = before - flat(self.model.parameters()), len(count)
        load_flat(self.model, before)

    def gradient(self, loss: Callable[[Any, Any], torch.Tensor], size: int) -> torch.Tensor:
        """Return the gradient that the losses of parts add up to, for the model as it was at first."""
        parts = zip(self.x.split(size), self.y.split(size), strict=True)
        total = sum(loss(self.model.score(x), y) for x, y in parts)
        return flat(torch.autograd.grad(total, list(self.model.parameters())))


_cross_entropy = nn.functional.cross_entropy


def judge_survivor(answer: Callable[..., Any], gpu: torch.device) -> None:
    """Judge a step that halves its parts until they fit."""
    _passes_other_errors(answer, gpu)
    _gives_up(answer, gpu)
    halved = Try(answer, 103, 64, gpu, fits=20)
    _begins_free(halved)
    _judge_step(halved, 16)
    _judge_step(Try(answer, 30, 30, gpu, fits=100), 30)
    _judge_step(Try(answer, 40, 20, gpu, fits=100, trips={2}), 10, after_a_part=True)


def _passes_other_errors(answer: Callable[..., Any], gpu: torch.device) -> None:
    """See that an error which is not out-of-memory arrives where the step was called."""
    for error in (RuntimeError("CUDA error: an illegal memory access was encountered"), ValueError("mine")):
        run = Try(answer, 8, 8, gpu, fits=100, breaks=error)
        if run.error is not error:
            wrong("swallow", f"The model raised {error!r}, and nobody heard of it. It caught too much.")


def _gives_up(answer: Callable[..., Any], gpu: torch.device) -> None:
    """See that an answer ends with an out-of-memory error where not even one sample fits."""
    run = Try(answer, 6, 4, gpu, fits=0)
    if isinstance(run.error, _Endless):
        wrong("endless", "Where not even one sample fits, it tries again and again, and never ends.")
    if run.error is None:
        wrong("silent", "Where not even one sample fits, it says nothing, and nothing has been learned.")
    if not isinstance(run.error, torch.OutOfMemoryError):
        wrong(
            "zero",
            f"Where not even one sample fits, it fails with {type(run.error).__name__}. The half of 1 is 0, "
            "and parts of 0 are none. Let the out-of-memory error arrive.",
        )


def _begins_free(run: Try) -> None:
    """See that each try begins with the memory that the first one had."""
    if run.error is not None:
        raise run.error
    if max(run.model.entry) - run.model.entry[0] < MIB // 2:
        return
    kept = (max(run.model.entry) - run.model.entry[0]) / MIB
    text = f"A second try begins with {kept:.1f} MiB of the failed one still on the card."
    if run.model.inside:
        wrong("inside", f"{text} It begins inside the except block, where the error is alive.")
    wrong("kept", f"{text} Some name still holds the error, or the loss of the failed try.")


def _judge_step(run: Try, size: int, after_a_part: bool = False) -> None:
    """Judge what was returned, and the step that was taken."""
    if run.error is not None:
        raise run.error
    if run.steps != 1:
        wrong("steps", f"The optimizer took {run.steps} steps for one batch. It should be one.")
    if not agree(run.taken, run.right):
        _tell_apart(run, size, after_a_part)
    if run.returned != size or isinstance(run.returned, bool):
        wrong("returned", f"Parts of {size} fit in the end, and it returned {run.returned!r}.")


def _tell_apart(run: Try, size: int, after_a_part: bool) -> None:
    """Name the mistake behind a wrong step."""
    if after_a_part:
        wrong("left", "A part had been computed before a try failed, and its gradient was counted again.")
    count = math.ceil(len(run.x) / size)
    if agree(run.taken, run.gradient(lambda scores, y: _cross_entropy(scores, y) / count, size)):
        wrong("parts_alike", "Each part counts alike, also the last and smaller one.")
    if agree(run.taken, run.gradient(_cross_entropy, size)):
        wrong("no_division", "The means of the parts are added up: the gradient is several times too long.")
    if sum(rows for rows in run.model.sizes if rows <= run.model.fits) < len(run.x):
        wrong("batch", "Part of the batch was dropped. A step should learn from every sample of it.")
    wrong("other", "The step is not the one that the mean loss of the whole batch takes.")
