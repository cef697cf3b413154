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
    before = _state(played)
    start = torch.cuda.memory_allocated(gpu)
    with recording(lambda: torch.cuda.memory_allocated(gpu)) as record:
        peak = peak_of(lambda: answer(*played), gpu)
    handle.remove()
    _is_honest(record, gpu, start + peak)
    moves = [_moved(before, _state(played))]
    before = _state(plain)
    right = _gradient(plain)
    _plain_step(*plain)
    moves.append(_moved(before, _state(plain)))
    _is_whole(played, plain)
    _compare(played, plain, right, sum(rows), moves)
    _goes_on(played, plain)
    return peak / 2**20


def _is_honest(record: Record, gpu: torch.device, peak: int) -> None:
    """See that all of the step was on the card, and that its peak is what PyTorch says."""
    places = [place for one in record.operations for place, numbers in one.results if numbers > _SMALL]
    elsewhere = next((place for place in places if place != gpu), None)
    mistake_if(elsewhere is not None, "elsewhere", place=elsewhere)
    mistake_if(any(operation.moment > peak for operation in record.operations), "reset")


def _state(job: Job) -> tuple[torch.Tensor, list[int]]:
    """Return all parameters as a vector, and how many steps the optimizer has counted for each."""
    model, optimizer = job[:2]
    steps = [int(optimizer.state[parameter]["step"]) for parameter in model.parameters()]
    return flat(model.parameters()).clone(), steps


def _moved(before: tuple[torch.Tensor, list[int]], after: tuple[torch.Tensor, list[int]]) -> Any:
    """Return how the parameters moved, and by how many steps."""
    counts = [two - one for one, two in zip(before[1], after[1], strict=True)]
    return after[0] - before[0], counts


def _gradient(job: Job) -> torch.Tensor:
    """Return the gradient of the whole batch."""
    model, _, x, y = job
    loss = nn.functional.cross_entropy(model(x), y)
    return flat(torch.autograd.grad(loss, list(model.parameters())))


def _averages(job: Job, name: str) -> torch.Tensor:
    """Return one of Adam's two averages as a vector."""
    return flat(job[1].state[parameter][name] for parameter in job[0].parameters())


def _is_whole(played: Job, plain: Job) -> None:
    """See that model and optimizer are what they were: the same layers, in float32, on the card."""
    for parameter, other in zip(played[0].parameters(), plain[0].parameters(), strict=True):
        if (parameter.dtype, parameter.device) != (other.dtype, other.device):
            raise Mistake("changed", what=f"A parameter has become {parameter.dtype} on {parameter.device}.")
    layers, others = (
        [type(layer) for layer in model.modules() if not list(layer.children())]
        for model in (played[0], plain[0])
    )
    mistake_if(layers != others, "changed", what="The model has other layers than before.")


def _compare(played: Job, plain: Job, right: torch.Tensor, rows: int, moves: list[Any]) -> None:
    """Compare steps, gradients (as Adam has noted them) and parameters with those of the plain step."""
    (move, counts), (wanted, _) = moves
    mistake_if(set(counts) == {0}, "no_step")
    mistake_if(set(counts) != {1}, "steps")
    noted, expected = (_averages(job, "exp_avg") for job in (played, plain))
    off = 10 * (noted - expected)  # Adam keeps 0.9 of the old average and adds 0.1 of the gradient
    if not agree(off + right, right, 2e-4):
        found = (off + right) @ right / (right @ right)
        similar = torch.cosine_similarity(off + right, right, dim=0)
        mistake_if(rows < BATCH, "samples", rows=rows, all=BATCH)
        if similar > 0.9999 and not 0.99 < found < 1.01:
            raise Mistake("scale", times=found.item())
        mistake_if(similar > 0.98, "precision")
        raise Mistake("gradient")
    mistake_if(not agree(move, wanted, 1e-2), "other_step")


def _goes_on(played: Job, plain: Job) -> None:
    """See that the model can be trained on as before: a backward is a backward, a step is a step."""
    before, others = _state(played), _state(plain)
    model, _, x, y = played
    nn.functional.cross_entropy(model(x), y).backward()
    mistake_if(not torch.equal(_state(played)[0], before[0]), "left")
    _plain_step(*played)
    _plain_step(*plain)
    move, counts = _moved(before, _state(played))
    mistake_if(set(counts) != {1} or not agree(move, _moved(others, _state(plain))[0], 2e-2), "left")
