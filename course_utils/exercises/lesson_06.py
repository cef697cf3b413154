"""The trials of lesson 06: what keeps memory, and steps that get by with less."""

import gc
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .instruments.golfing import golf_job, judge_golf
from .instruments.placement import some_gpus
from .instruments.vectors import agree, flat, peak_of
from .lesson import Lesson
from .trying import Mistake, Seen, mistake_if

__all__ = ["golf_job"]

lesson = Lesson("06")
summary = lesson.summary
globals().update(lesson.exercises)

KIB, MIB = 2**10, 2**20
IGNORED = -100  # cross_entropy leaves out samples with this label


@contextmanager
def _gpu() -> Iterator[torch.device]:
    """Yield a GPU to measure on, where nothing waits to be collected."""
    with some_gpus() as gpus:
        gc.collect()
        yield gpus[0]


# ---- section 2: a log ----------------------------------------------------------------------------------
_ROWS = 64
_LIMIT = 32 * KIB  # 64 rows keep 768 KiB of activations; a loss for each batch and some scores are fine


def _batch(gpu: torch.device, labels: int = _ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch; it is damaged if it has not a label for each of its rows."""
    return torch.randn(_ROWS, 64).to(gpu), torch.randint(10, (labels,)).to(gpu)


def _kept(log: type, model: nn.Module, gpu: torch.device, good: int, damaged: int = 0) -> int:
    """Return the bytes that stay on the GPU after some batches, as long as the log lives."""
    before = torch.cuda.memory_allocated(gpu)
    made = log()
    for labels in [_ROWS - 1] * damaged + [_ROWS] * good:
        made.batch(model, *_batch(gpu, labels))
    gc.collect()  # what nobody can reach is no leak
    return torch.cuda.memory_allocated(gpu) - before


@lesson.trial(right=None)
def ValidationLog(log: type) -> None:
    """See what of every batch, the last one and damaged ones stays on the GPU, and what the log says."""
    with _gpu() as gpu:
        layers = [nn.Linear(64, 1024), nn.Tanh(), nn.Sigmoid(), nn.Tanh(), nn.Linear(1024, 10)]
        model = nn.Sequential(*layers).to(gpu)
        few, many = _kept(log, model, gpu, 2), _kept(log, model, gpu, 10)
        mistake_if(many - few > 8 * _LIMIT, "losses", kib=(many - few) / 8 / KIB)
        mistake_if(many > _LIMIT, "last", kib=many / KIB)
        failed = _kept(log, model, gpu, 1, damaged=3)
        mistake_if(failed > _LIMIT, "error", kib=failed / 3 / KIB)
        _judge_log(log(), model, gpu)


def _judge_log(log: Any, model: nn.Module, gpu: torch.device) -> None:
    """See that the log still says what it is there for."""
    batches = [_batch(gpu), _batch(gpu), _batch(gpu)]
    for x, y in (*batches[:2], _batch(gpu, _ROWS - 1), batches[2]):
        log.batch(model, x, y)
    with torch.no_grad():
        scores = [model(x) for x, _ in batches]
        losses = [cross_entropy(s, y).item() for s, (_, y) in zip(scores, batches, strict=True)]
    mean = log.mean()
    if not isinstance(mean, float | torch.Tensor) or abs(float(mean) - sum(losses) / 3) > 1e-3:
        raise Mistake("mean", losses=", ".join(f"{loss:.3f}" for loss in losses), mean=mean)
    texts = [str(item) for item in log.failed] if isinstance(log.failed, list) else []
    mistake_if(len(texts) != 1 or "batch_size" not in texts[0], "failed")
    wanted = scores[-1].cpu()
    mistake_if(not isinstance(log.last, torch.Tensor) or log.last.shape != wanted.shape, "scores")
    mistake_if(not torch.allclose(log.last.detach().cpu(), wanted, atol=1e-5), "scores")
    log.batch(model, *_batch(gpu, _ROWS - 1))
    mistake_if(log.last is None or not torch.allclose(log.last.detach().cpu(), wanted, atol=1e-5), "not_good")


# ---- section 3: gradients added up ---------------------------------------------------------------------
class _Wide(nn.Module):
    """A classifier of 16 numbers that keeps 48 KiB of activations a row, and notes how many rows it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, 4096), nn.Tanh(), nn.Sigmoid(), nn.Tanh(), nn.Linear(4096, 5)
        )
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return self.layers(x)


@lesson.trial([(10, 3, ()), (7, 10, ()), (203, 40, ()), (23, 5, (0, 1, 2, 9, 22)), (12, 4, (4, 5, 6, 7, 11))])
def accumulate(answer: Callable[..., Any], n: int, size: int, unlabelled: tuple[int, ...]) -> torch.Tensor:
    """See the step that is taken with n samples; some have no label."""
    steps: list[int] = []
    with _gpu() as gpu:
        model, x, y = _Wide().to(gpu), torch.randn(n, 16), torch.randint(5, (n,))
        y[list(unlabelled)] = IGNORED
        x, y, before = x.to(gpu), y.to(gpu), flat(model.parameters())
        right = flat(torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters())))
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)  # what an earlier step has left
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        model.sizes.clear()
        peak = peak_of(lambda: answer(model, optimizer, x, y, size), gpu)
        sizes, step = list(model.sizes), before - flat(model.parameters())
        model.zero_grad()
        needed = peak_of(lambda: cross_entropy(model(x[:size]), y[:size], reduction="sum").backward(), gpu)
    _judge_parts(sizes, n, size, n - len(unlabelled))
    mistake_if(len(steps) != 1, "steps" if steps else "no_step", steps=len(steps))
    mistake_if(agree(step, right) and peak > 1.2 * needed, "late", peak=peak / MIB, needed=needed / MIB)
    return step.cpu()


def _judge_parts(sizes: list[int], n: int, size: int, labelled: int) -> None:
    """See the parts that went through the model; samples without a label may be left out."""
    expected = [min(size, n - start) for start in range(0, n, size)]
    spares = max(sizes, default=0) <= size and labelled <= sum(sizes) < n
    if spares or sorted(sizes, reverse=True) == expected:
        return
    mistake_if(sizes == [len(part) for part in torch.arange(n).chunk(size)], "chunk")
    mistake_if(max(sizes, default=0) > size, "whole", most=max(sizes))
    raise Mistake("dropped" if sum(sizes) < n else "parts", sizes=sizes, rows=sum(sizes))


# ---- section 4: a step that survives -------------------------------------------------------------------
_MOST_CALLS = 300


class _Endless(BaseException):
    """Ends an answer that would try for ever; it is no Exception, so that answers do not catch it."""


class _Hungry(nn.Module):
    """A classifier of 16 numbers that keeps 64 KiB of activations a row, and runs out of memory when told.

    Args:
        fits: how many rows fit.
        trips: numbers of calls, from 1, that run out of memory whatever their size.
        breaks: an error that the first call raises.
    """

    def __init__(self, fits: int, trips: Container[int], breaks: Exception | None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 64), nn.Linear(64, 5)
        self.fits, self.trips, self.breaks = fits, trips, breaks
        self.inside, self.sizes, self.entry = False, list[int](), list[int]()

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

    def kept(self) -> float:
        """Return the MiB of a failed try that were still there when a later one began."""
        return (max(self.entry) - self.entry[0]) / MIB


@lesson.trial(
    [
        (8, 8, 100, (), partial(RuntimeError, "CUDA error: an illegal memory access was encountered"), None),
        (8, 8, 100, (), partial(ValueError, "mine"), None),
        (6, 4, 0, (), None, None),
        (103, 64, 20, (), None, 16),
        (30, 30, 100, (), None, 30),
        (40, 20, 100, (2,), None, 10),
    ],
    right=lambda seen, best: seen[0] == best[0] and agree(seen[1], best[1]),
)
def careful_step(
    answer: Callable[..., Any],
    n: int,
    size: int,
    fits: int,
    trips: tuple[int, ...],
    broken: Callable[[], Exception] | None,
    reached: int | None,
) -> Any:
    """See what becomes of errors, and which step is taken in the end, with parts of `reached`."""
    steps, error, returned = [], None, None
    breaks = broken() if broken else None  # made anew: an error holds what it came through
    with _gpu() as gpu:
        model, x, y = _Hungry(fits, trips, breaks).to(gpu), torch.randn(n, 16), torch.randint(5, (n,))
        x, y, before = x.to(gpu), y.to(gpu), flat(model.parameters())
        right = flat(torch.autograd.grad(cross_entropy(model.score(x), y), list(model.parameters())))
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        try:
            returned = answer(model, optimizer, x, y, size)
        except (Exception, _Endless) as raised:
            error = raised
        step = before - flat(model.parameters())
    _judge_errors(error, breaks, reached)
    if reached is None:
        return 0, torch.zeros(1)
    if model.kept() > 0.5:
        raise Mistake("inside" if model.inside else "kept", mib=model.kept())
    mistake_if(len(steps) != 1, "steps", steps=len(steps))
    if agree(step, right) and (returned != reached or isinstance(returned, bool)):
        raise Mistake("returned", reached=reached, returned=returned)
    dropped = sum(rows for rows in model.sizes if rows <= fits) < n
    return dropped, step.cpu()


def _judge_errors(error: BaseException | None, breaks: Exception | None, reached: int | None) -> None:
    """See that errors arrive: another one than out-of-memory, and out-of-memory where nothing fits."""
    mistake_if(error is not breaks and breaks is not None, "swallow", error=breaks)
    if error is breaks is not None:
        return
    if reached is not None and error is not None:
        raise error
    mistake_if(isinstance(error, _Endless), "endless")
    mistake_if(reached is None and error is None, "silent")
    if reached is None and not isinstance(error, torch.OutOfMemoryError):
        raise Mistake("zero", error=type(error).__name__)


# ---- Your turn -----------------------------------------------------------------------------------------
@lesson.trial(right=None)
def smallest_step(answer: Callable[..., Any]) -> Seen:
    """See the step that is taken beside the plain one, and the MiB at its peak."""
    with _gpu() as gpu:
        return Seen(None, score=judge_golf(answer, gpu))
