"""Judging the memory golf: one training step, exact, on the card, with the smallest peak."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..trying import Mistake, mistake_if
from .recorder import Record, recording
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
    rows: list[int] = []
    handle = played[0][0][0].register_forward_hook(lambda layer, x, result: rows.append(len(x[0])))
    start = torch.cuda.memory_allocated(gpu)
    with recording(lambda: torch.cuda.memory_allocated(gpu)) as record:
        peak = peak_of(lambda: answer(*played), gpu)
    handle.remove()
    _is_honest(record, gpu, start + peak)
    before = _State(plain)
    _plain_step(*plain)
    mistake_if(_kind(played[0]) != _kind(plain[0]), "changed")
    _compare(before, _State(played), _State(plain), sum(rows))
    _goes_on(played, plain)
    return peak / 2**20


def _is_honest(record: Record, gpu: torch.device, peak: int) -> None:
    """See that all of the step was on the card, and that its peak is what PyTorch says."""
    places = [place for one in record.operations for place, numbers in one.results if numbers > _SMALL]
    elsewhere = next((place for place in places if place != gpu), None)
    mistake_if(elsewhere is not None, "elsewhere", place=elsewhere)
    mistake_if(any(operation.moment > peak for operation in record.operations), "reset")


def _kind(model: nn.Module) -> list[Any]:
    """Return the layers, and what each parameter is made of and where."""
    return [str(model), *((parameter.dtype, parameter.device) for parameter in model.parameters())]


class _State:
    """All parameters, Adam's average of the gradients, and how many steps it has counted for each of them."""

    def __init__(self, job: Job) -> None:
        states = [job[1].state[parameter] for parameter in job[0].parameters()]
        self.parameters = flat(job[0].parameters())
        self.average = flat(state["exp_avg"] for state in states)
        self.steps = [int(state["step"]) for state in states]

    def since(self, before: "_State") -> tuple[torch.Tensor, torch.Tensor, set[int]]:
        """Return the gradient of the step that was taken, the parameters' move, and the numbers of steps."""
        gradient = 10 * self.average - 9 * before.average  # Adam adds 0.1 of it to 0.9 of the average
        steps = {now - then for now, then in zip(self.steps, before.steps, strict=True)}
        return gradient, self.parameters - before.parameters, steps


def _compare(before: _State, played: _State, plain: _State, rows: int) -> None:
    """Compare steps, gradients and parameters with those of the plain step."""
    (gradient, move, steps), (right, wanted, _) = played.since(before), plain.since(before)
    mistake_if(steps == {0}, "no_step")
    mistake_if(steps != {1}, "steps")
    if not agree(gradient, right, 2e-4):
        times = (gradient @ right / (right @ right)).item()
        similar = torch.cosine_similarity(gradient, right, dim=0)
        mistake_if(rows < BATCH, "samples", rows=rows, all=BATCH)
        mistake_if(similar > 0.9999 and not 0.99 < times < 1.01, "scale", times=times)
        raise Mistake("precision" if similar > 0.98 else "gradient")
    mistake_if(not agree(move, wanted, 1e-2), "other_step")


def _goes_on(played: Job, plain: Job) -> None:
    """See that the model can be trained on as before: a backward is a backward, a step is a step."""
    model, _, x, y = played
    before, before_plain = _State(played), _State(plain)
    nn.functional.cross_entropy(model(x), y).backward()
    mistake_if(not torch.equal(_State(played).parameters, before.parameters), "left")
    _plain_step(*played)
    _plain_step(*plain)
    _, move, steps = _State(played).since(before)
    mistake_if(steps != {1} or not agree(move, _State(plain).since(before_plain)[1], 2e-2), "left")
