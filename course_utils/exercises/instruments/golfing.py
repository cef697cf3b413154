"""Judging the memory golf: one training step, exact, on the card, with the smallest peak."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..trying import Mistake, mistake_if
from .recorder import recording
from .vectors import agree, flat, peak_of

BATCH, WIDTH, BLOCKS = 256, 512, 8
_SMALL = 64  # numbers that may be elsewhere, such as Adam's count of steps
Job = tuple[nn.Sequential, torch.optim.Optimizer, torch.Tensor, torch.Tensor]


def golf_job(gpu: torch.device | str) -> Job:
    """Return the golf's model, its AdamW after a first step, and the batch to train on.

    The model is an `nn.Sequential` of 8 blocks, each a linear layer of 512 x 512 and a ReLU, and one linear
    layer for 10 classes; x is (256, 512), y is (256,).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the GPU's random numbers belong to the lesson
        blocks = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(BLOCKS)]
        model = nn.Sequential(*blocks, nn.Linear(WIDTH, 10)).to(gpu)
        x, y = torch.randn(BATCH, WIDTH).to(gpu), torch.randint(10, (BATCH,)).to(gpu)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)  # as is the default on CUDA
    _plain_step(model, optimizer, x, y)
    return model, optimizer, x, y


def _plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()


def judge_golf(answer: Callable[..., Any], gpu: torch.device) -> float:
    """Judge a step against the plain one; return MiB at its peak, besides what was there before."""
    played, plain = golf_job(gpu), golf_job(gpu)
    peak = 0

    def watched(model: nn.Sequential, *rest: Any) -> None:
        nonlocal peak
        start = torch.cuda.memory_allocated(gpu)
        with recording(lambda: torch.cuda.memory_allocated(gpu) - start) as record:
            peak = peak_of(lambda: answer(model, *rest), gpu)
        places = [place for one in record.operations for place, numbers in one.results if numbers > _SMALL]
        elsewhere = next((place for place in places if place != gpu), None)
        mistake_if(elsewhere is not None, "elsewhere", place=elsewhere)
        mistake_if(any(operation.moment > peak for operation in record.operations), "reset")
        kinds = [[str(one), *((p.dtype, p.device) for p in one.parameters())] for one in (model, plain[0])]
        mistake_if(kinds[0] != kinds[1], "changed")

    _compare(_effect(watched, played), _effect(_plain_step, plain))
    nn.functional.cross_entropy(played[0](played[2]), played[3]).backward()
    mistake_if(any(parameter.grad is None for parameter in played[0].parameters()), "left")
    _, move, steps = _effect(_plain_step, played)
    mistake_if(steps != {1} or not agree(move, _effect(_plain_step, plain)[1], 2e-2), "left")
    return peak / 2**20


def _effect(step: Callable[..., None], job: Job) -> tuple[torch.Tensor, torch.Tensor, set[int]]:
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
