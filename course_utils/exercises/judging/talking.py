"""Judging a communication hook of DDP: the bytes it sends, and how the training with it ends."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from ..engine import Score, wrong
from .accumulating import flat
from .listening import listening
from .rank_pool import Ranks, judged_ranks

STEPS, ROWS, BATCH = 120, 512, 32
PAR = 0.25
ENOUGH = 0.97  # of the way down that the loss goes with a plain all-reduce
_ELSEWHERE = (
    "open",
    "socket.connect",
    "socket.bind",
    "subprocess.Popen",
    "os.system",
    "mmap.__new__",
    "os.mkdir",
)


class _Ears:
    """Hears of files and connections that are opened while a hook runs: data may only go by collectives."""

    def __init__(self) -> None:
        self.on, self.heard = False, ""
        self._known = tuple(
            {str(Path(path).resolve()) for path in (sys.prefix, sys.base_prefix, *sys.path[1:])}
        )

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if self.on and event in _ELSEWHERE and not (event == "open" and str(args[0]).startswith(self._known)):
            self.heard = self.heard or f"{event} {args[0]}"


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
    ears, calls, state = _Ears(), dist.group.WORLD.calls, {}
    if hook is not None:
        model.register_comm_hook(state, _heard(hook, ears))
    first = len(calls)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with listening(ears.hear):
        for step in range(STEPS):
            rows = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    sent = sum(count for _, count in calls[first:])
    weights = flat(parameter.detach() for parameter in net.parameters())
    losses = before, cross_entropy(net(x), y).item()
    return {"losses": losses, "weights": weights, "sent": sent, "elsewhere": ears.heard}


def _heard(hook: Callable[..., Any], ears: _Ears) -> Callable[[Any, dist.GradBucket], torch.futures.Future]:
    """Return the hook, listened to. DDP asks for these very annotations."""

    def listened(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        ears.on = True
        try:
            future = hook(state, bucket)
            if not isinstance(future, torch._C.Future):
                raise TypeError(f"The hook has to return a future, and returned a {type(future).__name__}.")
            if not isinstance(future.value() if future.done() else future.wait(), torch.Tensor):
                raise TypeError("The future has to hold one tensor, of the bucket's size.")
            return future
        finally:
            ears.on = False

    return listened


def judge_talk(answer: Callable[..., Any]) -> Score:
    """Judge a hook against the plain all-reduce; return the bytes that the busiest rank sends, as a share."""
    with judged_ranks() as ranks:
        shares = [_compare(ranks, answer, world) for world in (2, 3)]
    return Score(shares[0], "of the plain all-reduce's bytes", PAR)


def _compare(ranks: Ranks, answer: Callable[..., Any], world: int) -> float:
    """Train with and without the hook, and compare how it ends; return the share of bytes."""
    plain, found = ([report.value for report in ranks.run(world, _train, hook)] for hook in (None, answer))
    case = f"With {world} ranks: "
    if elsewhere := next((result["elsewhere"] for result in found if result["elsewhere"]), ""):
        wrong("elsewhere", f"{case}while the hook runs, something is opened ({elsewhere[:60]}). Gradients "
              "may only travel by collectives, which are counted.")  # fmt: skip
    first, last = (sum(result["losses"][when] for result in found) / world for when in (0, 1))
    aim = sum(result["losses"][1] for result in plain) / world
    share = max(result["sent"] for result in found) / plain[0]["sent"]
    apart = max((result["weights"] - found[0]["weights"]).norm() for result in found)
    if apart > 1e-3 * found[0]["weights"].norm():
        what = "nothing is sent" if share < 1e-9 else "each rank makes something else of what it gets"
        wrong("apart", f"{case}the ranks' weights drift apart: {what}. All must step with the same gradient.")
    if not (reached := (first - last) / (first - aim)) >= ENOUGH:
        lost = f"the loss goes from {first:.3f} to {last:.3f}, and with a plain all-reduce to {aim:.3f}"
        if last > 0.9 * first or last != last:
            wrong(
                "no_training", f"{case}{lost}. Is it the mean that the hook returns, or the sum, or nothing?"
            )
        wrong("worse", f"{case}{lost}: {reached:.0%} of the way, and {ENOUGH:.0%} are asked for. What the "
              "hook leaves out must not be lost: keep it in `state` and add it the next time.")  # fmt: skip
    return share
