"""Judging a communication hook of DDP: the bytes it sends, and how the training with it ends."""

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from ..trying import mistake_if
from .ranks import on_ranks
from .vectors import agree, flat

STEPS, ROWS, BATCH = 160, 512, 32
ENOUGH = 0.95  # of the way down that the loss goes with a plain all-reduce
Hook = Callable[..., Any]


def share_sent(answer: Hook, world: int) -> float:
    """Train with a hook; return the bytes that the busiest rank sends, as a share of the plain all-reduce's.

    Raises:
        Mistake: where the ranks drift apart, or the training does not go nearly as well as with the latter.
    """
    plain, found = _plain(world), on_ranks(world, _train, answer)
    share = max(result["sent"] for result in found) / plain[0]["sent"]
    apart = not all(agree(result["weights"], found[0]["weights"], 1e-3) for result in found)
    what = "what they return is not the same on all of them" if share else "nothing is sent"
    mistake_if(apart, "apart", world=world, what=what)
    mean = torch.stack([result["own"] for result in found]).mean(0)
    times = float(found[0]["returned"] @ mean / (mean @ mean))
    mistake_if(not 0.1 < times < 1.3, "scale", world=world, times=times)
    for rank, (one, other) in enumerate(zip(plain, found, strict=True)):
        first, aim, last = one["before"], one["after"], other["after"]
        facts = {"first": first, "aim": aim, "last": last, "reached": (first - last) / (first - aim)}
        mistake_if(not facts["reached"] >= ENOUGH, "worse", world=world, rank=rank, **facts)
    return share


def _train(hook: Hook) -> dict[str, Any]:
    """Train on this rank's samples; return the loss before and after, and the weights.

    Also the bytes that were `sent`, and the sums of its `own` gradients and of what the hook `returned`.
    """
    torch.manual_seed(7)
    teacher = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10))  # the same on each rank
    x = torch.randn(ROWS, 32, generator=torch.Generator().manual_seed(1_000 + dist.get_rank()))
    y = (3 * teacher(x)).argmax(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    model = DistributedDataParallel(net, bucket_cap_mb=0.05)
    before = cross_entropy(net(x), y).item()
    for _ in range(2):  # after the first backward DDP sorts its buckets anew; then they stay
        cross_entropy(model(x[:BATCH]), y[:BATCH]).backward()
    own, returned = defaultdict(int), defaultdict(int)  # by a bucket's number

    # DDP asks for these annotations
    def talk(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        own[bucket.index()] += bucket.buffer().clone()
        future = hook(state, bucket)
        value = future.wait() if isinstance(future, torch._C.Future) else future
        if value is future or getattr(value, "shape", None) != bucket.buffer().shape:
            raise TypeError("The hook has to return a future of one tensor, of the shape of bucket.buffer().")
        returned[bucket.index()] += value.float().clone()
        return future

    model.register_comm_hook({}, talk)
    calls = dist.group.WORLD.calls
    calls.clear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, STEPS)  # so that it ends quietly
    for step in range(STEPS):
        rows = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
        optimizer.zero_grad()
        cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return {
        "before": before,
        "after": cross_entropy(net(x), y).item(),
        "weights": flat(net.parameters()),
        "sent": sum(count for _, count in calls),
        "own": flat(own[bucket] for bucket in sorted(own)),
        "returned": flat(returned[bucket] for bucket in sorted(returned)),
    }


@cache
def _plain(world: int) -> list[dict[str, Any]]:
    """Train with the plain all-reduce: it comes out the same each time."""
    return on_ranks(world, _train, lambda state, bucket: allreduce_hook(dist.group.WORLD, bucket))
