"""The trials of lesson 06: what keeps memory, and steps that get by with less."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .instruments.placement import flat, peak_of, some_gpus, train_step
from .instruments.recorder import recording
from .lesson import Lesson
from .trying import Answer, Mistake, Seen, agree, mistake_if, same

lesson = Lesson("06")
globals().update(lesson.exercises, summary=lesson.summary)

KIB, MIB = 2**10, 2**20


# ---- section 2: a log ----------------------------------------------------------------------------------
_ROWS = 64
_LIMIT = 32 * KIB  # 64 rows keep 768 KiB of activations; a loss for each batch and some scores are fine


@lesson.trial([([_ROWS] * 10,), ([_ROWS, 63, 63, _ROWS, 63],)])
def ValidationLog(log: Callable[[], Any], labels: list[int]) -> Seen:
    """See what a log says after batches with so many labels (fewer than rows: damaged), and what it keeps."""
    with some_gpus() as (gpu, *_):
        layers = [nn.Linear(64, 1024), nn.Tanh(), nn.Sigmoid(), nn.Tanh(), nn.Linear(1024, 10)]
        model, made, kept = nn.Sequential(*layers).to(gpu), log(), []
        batches = [(torch.randn(_ROWS, 64).to(gpu), torch.randint(10, (n,)).to(gpu)) for n in labels]
        gc.collect()
        before = torch.cuda.memory_allocated(gpu)
        for batch in batches:
            made.batch(model, *batch)
            kept.append(torch.cuda.memory_allocated(gpu) - before)
        gc.collect()  # what nobody can reach is no leak
        kept[-1] = torch.cuda.memory_allocated(gpu) - before
        says = [_plain(made.mean()), _plain(made.last)]
    whose = "nobody's" if kept[-1] <= _LIMIT else "of each" if kept[-1] > 1.5 * kept[0] else "of one"
    texts = [str(item) for item in made.failed] if isinstance(made.failed, list) else []
    return Seen([whose, *says, ["batch_size" in text for text in texts]], kib=kept[-1] / KIB)


def _plain(said: Any) -> Any:
    """Return a tensor without a graph on the CPU, one of a single number as that; anything else as it is."""
    if not isinstance(said, torch.Tensor):
        return said
    return said.detach().cpu() if said.dim() else said.item()


# ---- sections 3 and 4: gradients added up, a step that survives ----------------------------------------
_PATIENCE = 300  # calls of a model, after which all fits: an answer that would try for ever comes to its end


class _CudaError(RuntimeError, ValueError, TypeError, LookupError):
    """Caught by whoever catches anything but out of memory."""


class _Hungry(nn.Module):
    """A classifier of 16 numbers that keeps 64 KiB of activations a row, and runs out of memory when told.

    Args:
        fits: how many rows fit.
        trips: number of a call, from 1, that runs out of memory whatever its size.
        breaks: whether the first call raises another error.

    Attributes:
        sizes, entry: for each call how many rows it got, and how many bytes were allocated before.
    """

    def __init__(self, fits: int, trips: int = 0, breaks: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 64), nn.Linear(64, 5)
        self.fits, self.trips, self.breaks = fits, trips, breaks
        self.sizes, self.entry = list[int](), list[int]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        self.entry.append(torch.cuda.memory_allocated(x.device))
        if self.breaks and len(self.sizes) == 1:
            raise _CudaError("CUDA error: an illegal memory access was encountered")
        wide = self.first(x).repeat(1, 256).tanh()
        scores = self.last(wide.view(len(x), 256, 64).mean(1))
        full = len(x) > self.fits or len(self.sizes) == self.trips
        if full and len(self.sizes) <= _PATIENCE:
            torch.empty(2**50, dtype=torch.uint8, device=x.device)  # more than any card has
        return scores


@lesson.trial()
def accumulate(answer: Answer, n: int, size: int, unlabelled: list[int]) -> Seen:
    """See the step that is taken with n samples, some without a label: its parts, and its peak."""
    steps: list[int] = []
    with some_gpus() as (gpu, *_):
        model, x, y = _Hungry(fits=n).to(gpu), torch.randn(n, 16), torch.randint(5, (n,))
        y[unlabelled] = -100  # cross_entropy leaves these out
        x, y, before = x.to(gpu), y.to(gpu), flat(model.parameters())
        needed = peak_of(lambda: cross_entropy(model(x[:size]), y[:size], reduction="sum").backward(), gpu)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)  # what an earlier step has left
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        peak = peak_of(lambda: answer(model, optimizer, x, y, size), gpu)
        sizes, step = model.sizes[1:], before - flat(model.parameters())
    most, taken = max(sizes, default=0), step.cpu() if len(steps) == 1 else bool(steps)
    facts = {"sizes": sizes, "rows": sum(sizes), "most": most, "steps": len(steps)}
    too_many = len(sizes) > -(-n // size)  # samples without a label may be left out, and so need fewer parts
    seen = [too_many, most, peak > 1.2 * needed, taken]
    return Seen(seen, peak=peak / MIB, needed=needed / MIB, **facts)


@lesson.trial()
def careful_step(
    answer: Answer, n: int, size: int, fits: int, trips: int, breaks: bool, reached: int
) -> Seen:
    """See what becomes of errors, and which step is taken in the end, with parts of `reached`, if any."""
    steps, error, returned = [], None, None
    with some_gpus() as (gpu, *_):
        model, x, y = _Hungry(fits, trips, breaks).to(gpu), torch.randn(n, 16), torch.randint(5, (n,))
        before, optimizer = flat(model.parameters()), torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        gc.collect()
        try:
            returned = answer(model, optimizer, x.to(gpu), y.to(gpu), size)
        except Exception as raised:
            error = raised
        step = (before - flat(model.parameters())).cpu()
    if not reached:
        kind = "memory" if isinstance(error, torch.OutOfMemoryError) else error and "another"
        return Seen([kind, len(model.sizes) > _PATIENCE], error=type(error).__name__)
    if error is not None:
        raise error
    kept = (max(model.entry) - model.entry[0]) / MIB
    mistake_if(kept > 0.5, "kept", mib=kept)
    mistake_if(len(steps) != 1, "steps", steps=len(steps))
    dropped = sum(rows for rows in model.sizes if rows <= fits) < n
    return Seen(["dropped" if dropped else step, same(returned, reached)], returned=returned)


# ---- Your turn -----------------------------------------------------------------------------------------
_SMALL = 64  # numbers that may be elsewhere, such as Adam's count of steps
_Job = tuple[nn.Sequential, torch.optim.Optimizer, torch.Tensor, torch.Tensor]


def golf_job(gpu: torch.device | str) -> _Job:
    """Return the golf's model, its AdamW after a first step, and the batch to train on.

    The model is an `nn.Sequential` of 8 blocks, each a linear layer of 512 x 512 and a ReLU, and one linear
    layer for 10 classes; x is (256, 512), y is (256,).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the GPU's random numbers belong to the lesson
        blocks = [nn.Sequential(nn.Linear(512, 512), nn.ReLU()) for _ in range(8)]
        model = nn.Sequential(*blocks, nn.Linear(512, 10)).to(gpu)
        x, y = torch.randn(256, 512).to(gpu), torch.randint(10, (256,)).to(gpu)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)  # as is the default on CUDA
    _plain_step(model, optimizer, x, y)
    return model, optimizer, x, y


def _plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    train_step(model, optimizer, x, y)
    optimizer.zero_grad()


@lesson.trial(right=None)
def smallest_step(answer: Answer) -> Seen:
    """See the step that is taken beside the plain one, and the MiB at its peak, besides what was there."""
    with some_gpus() as (gpu, *_):
        played, plain, peaks = golf_job(gpu), golf_job(gpu), list[int]()

        def watched(model: nn.Sequential, *rest: Any) -> None:
            peaks.append(_watched_peak(partial(answer, model, *rest), gpu))
            kinds = [[str(m), *((p.dtype, p.device) for p in m.parameters())] for m in (model, plain[0])]
            mistake_if(kinds[0] != kinds[1], "changed")

        _compare(_effect(watched, played), _effect(_plain_step, plain))
        cross_entropy(played[0](played[2]), played[3]).backward()
        mistake_if(any(parameter.grad is None for parameter in played[0].parameters()), "left")
        _, move, steps = _effect(_plain_step, played)
        mistake_if(steps != {1} or not agree(move, _effect(_plain_step, plain)[1], 2e-2), "left")
        return Seen(None, score=peaks[0] / MIB)


def _watched_peak(step: Callable[[], Any], gpu: torch.device) -> int:
    """Return the bytes at a step's peak; it has to stay on the card."""
    start = torch.cuda.memory_allocated(gpu)
    with recording(lambda: torch.cuda.memory_allocated(gpu) - start) as record:
        peak = peak_of(step, gpu)
    places = [place for one in record.operations for place, numbers in one.results if numbers > _SMALL]
    elsewhere = next((place for place in places if place != gpu), None)
    mistake_if(elsewhere is not None, "elsewhere", place=elsewhere)
    mistake_if(any(operation.moment > peak for operation in record.operations), "reset")
    return peak


def _effect(step: Callable[..., None], job: _Job) -> tuple[torch.Tensor, torch.Tensor, set[int]]:
    """Take a step; return its gradient, the parameters' move, and how many steps they were counted."""

    def state() -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        states = [job[1].state[parameter] for parameter in job[0].parameters()]
        average = flat(state["exp_avg"] for state in states)
        return average, flat(job[0].parameters()), [int(state["step"]) for state in states]

    average, parameters, counts = state()
    step(*job)
    new_average, new_parameters, new_counts = state()
    gradient = 10 * new_average - 9 * average  # Adam adds 0.1 of it to 0.9 of the average
    steps = {now - then for now, then in zip(new_counts, counts, strict=True)}
    return gradient, new_parameters - parameters, steps


def _compare(played: tuple[Any, ...], plain: tuple[Any, ...]) -> None:
    """Compare the effect of a step with that of the plain one."""
    (gradient, move, steps), (right, wanted, _) = played, plain
    mistake_if(steps == {0}, "no_step")
    mistake_if(steps != {1}, "steps")
    if not agree(gradient, right, 2e-4):
        times = (gradient @ right / (right @ right)).item()
        similar = torch.cosine_similarity(gradient, right, dim=0)
        mistake_if(similar > 0.9999 and not 0.99 < times < 1.01, "scale", times=times)
        raise Mistake("precision" if similar > 0.98 else "gradient")
    mistake_if(not agree(move, wanted, 1e-2), "other_step")
