"""Judging a communication hook of DDP: the bytes it sends, and how the training with it ends."""

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from ..trying import Mistake, mistake_if
from .ranks import on_ranks
from .vectors import flat

STEPS, ROWS, BATCH = 160, 512, 32
ENOUGH = 0.95  # of the way down that the loss goes with a plain all-reduce
Sums = dict[int, Any]  # by a bucket's number


def judge_talk(answer: Callable[..., Any]) -> float:
    """Judge a hook against the plain all-reduce; return the bytes that the busiest rank sends, as a share."""
    share = _compare(answer, 2)
    _compare(answer, 3)
    return share


def _data(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the samples that one rank has, and nobody else: each is labelled by the same small network."""
    torch.manual_seed(7)
    teacher = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10))
    x = torch.randn(ROWS, 32, generator=torch.Generator().manual_seed(1_000 + rank))
    return x, (3 * teacher(x)).argmax(1)


def _train(hook: Callable[..., Any] | None) -> dict[str, Any]:
    """Train on this rank's samples; return the loss before and after, the weights, and what was sent."""
    x, y = _data(dist.get_rank())
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    model = DistributedDataParallel(net, bucket_cap_mb=0.05)
    before = cross_entropy(net(x), y).item()
    for _ in range(2):  # after the first backward DDP sorts its buckets anew; then they stay
        cross_entropy(model(x[:BATCH]), y[:BATCH]).backward()
    own, returned = defaultdict(int), defaultdict(int)
    if hook is not None:
        model.register_comm_hook({}, _watched(hook, own, returned))
    first = len(dist.group.WORLD.calls)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, STEPS)  # so that it ends quietly
    for step in range(STEPS):
        rows = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
        optimizer.zero_grad()
        cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return {
        "losses": (before, cross_entropy(net(x), y).item()),
        "weights": flat(net.parameters()),
        "sent": sum(count for _, count in dist.group.WORLD.calls[first:]),
        "own": [own[bucket] for bucket in sorted(own)],
        "returned": [returned[bucket] for bucket in sorted(returned)],
    }


def _watched(hook: Callable[..., Any], own: Sums, returned: Sums) -> Callable[..., Any]:
    """Return the hook; it adds up this rank's gradients, and what comes back."""

    # DDP asks for these annotations
    def talk(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        own[bucket.index()] += bucket.buffer().clone()
        future = hook(state, bucket)
        if not isinstance(future, torch._C.Future):
            raise TypeError(f"The hook has to return a future, and returned {type(future).__name__}.")
        value = future.wait()
        if not isinstance(value, torch.Tensor) or value.shape != bucket.buffer().shape:
            raise TypeError("The future has to hold one tensor, of the shape of bucket.buffer().")
        returned[bucket.index()] += value.float().clone()
        return future

    return talk


@cache
def _plain(world: int) -> list[dict[str, Any]]:
    """Train with the plain all-reduce: it comes out the same each time."""
    return on_ranks(world, _train, None)


def _compare(answer: Callable[..., Any], world: int) -> float:
    """Train with and without the hook, and compare how it ends; return the share of bytes."""
    plain, found = _plain(world), on_ranks(world, _train, answer)
    share = max(result["sent"] for result in found) / plain[0]["sent"]
    apart = max((result["weights"] - found[0]["weights"]).norm() for result in found)
    if not apart <= 1e-3 * found[0]["weights"].norm():
        what = "nothing is sent" if share < 1e-9 else "what they return is not the same on all of them"
        raise Mistake("apart", world=world, what=what)
    mean = torch.stack([flat(result["own"]) for result in found]).mean(0)
    times = float(flat(found[0]["returned"]) @ mean / (mean @ mean))
    mistake_if(times > 1.3, "scale", world=world, times=times)
    for rank, (one, other) in enumerate(zip(plain, found, strict=True)):
        (first, aim), last = one["losses"], other["losses"][1]
        reached = (first - last) / (first - aim)
        if not reached >= ENOUGH:
            key = "worse" if reached >= 0.1 else "no_training"
            raise Mistake(key, world=world, rank=rank, first=first, last=last, aim=aim, reached=reached)
    return share
