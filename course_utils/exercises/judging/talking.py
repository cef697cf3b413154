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
from .listening import listening
from .rank_pool import Ranks, judged_ranks
from .vectors import flat

STEPS, ROWS, BATCH = 160, 512, 32
PAR = 0.251
ENOUGH = 0.95  # of the way down that the loss goes with a plain all-reduce
_ELSEWHERE = (
    "open",
    "socket.connect",
    "socket.bind",
    "subprocess.Popen",
    "os.system",
    "mmap.__new__",
    "os.mkdir",
)


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
    watch = _Watch()
    if hook is not None:
        model.register_comm_hook({}, watch.watched(hook))
    first = len(dist.group.WORLD.calls)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, STEPS)  # so that it ends quietly
    with listening(watch.hear):
        for step in range(STEPS):
            rows = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return {
        "losses": (before, cross_entropy(net(x), y).item()),
        "weights": flat(parameter.detach() for parameter in net.parameters()),
        "sent": sum(count for _, count in dist.group.WORLD.calls[first:]),
        "elsewhere": watch.heard,
        "own": watch.totals("own"),
        "returned": watch.totals("returned"),
    }


class _Watch:
    """Watches a hook: what it opens (data may only go by collectives), and what it makes of the gradients."""

    def __init__(self) -> None:
        self.inside, self.heard = False, ""
        self._known = tuple({str(Path(path).resolve()) for path in (sys.prefix, sys.base_prefix, *sys.path)})
        self._sums: dict[tuple[str, int], torch.Tensor] = {}

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Take an audit event."""
        imports = event == "open" and str(args[0]).startswith(self._known)
        if self.inside and event in _ELSEWHERE and not imports:
            self.heard = self.heard or f"{event} {args[0]}"

    def totals(self, name: str) -> torch.Tensor:
        """Return the sum over all steps of this rank's own gradients, or of what the hook returned."""
        return flat(
            [total for key, total in sorted(self._sums.items()) if key[0] == name] or [torch.zeros(1)]
        )

    def _add(self, name: str, index: int, value: torch.Tensor) -> None:
        self._sums[name, index] = self._sums.get((name, index), 0) + value

    def watched(self, hook: Callable[..., Any]) -> Callable[[Any, dist.GradBucket], torch.futures.Future]:
        """Return the hook, watched. DDP asks for these very annotations."""

        def talk(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
            self._add("own", bucket.index(), bucket.buffer())
            self.inside = True
            try:
                future = hook(state, bucket)
                if not isinstance(future, torch._C.Future):
                    raise TypeError(f"The hook has to return a future, and returned {type(future).__name__}.")
                value = future.wait()
            finally:
                self.inside = False
            if not isinstance(value, torch.Tensor) or value.shape != bucket.buffer().shape:
                raise TypeError("The future has to hold one tensor, of the shape of bucket.buffer().")
            self._add("returned", bucket.index(), value.float())
            return future

        return talk


_plain: dict[int, list[dict[str, Any]]] = {}  # by number of ranks: it comes out the same each time


def judge_talk(answer: Callable[..., Any]) -> Score:
    """Judge a hook against the plain all-reduce; return the bytes that the busiest rank sends, as a share."""
    with judged_ranks() as ranks:
        shares = [_compare(ranks, answer, world) for world in (2, 3)]
    return Score(shares[0], "of the plain all-reduce's bytes", PAR)


def _compare(ranks: Ranks, answer: Callable[..., Any], world: int) -> float:
    """Train with and without the hook, and compare how it ends; return the share of bytes."""
    if world not in _plain:
        _plain[world] = [report.value for report in ranks.run(world, _train, None)]
    plain, found = _plain[world], [report.value for report in ranks.run(world, _train, answer)]
    case = f"With {world} ranks: "
    if elsewhere := next((result["elsewhere"] for result in found if result["elsewhere"]), ""):
        wrong("elsewhere", f"{case}while the hook runs, something is opened ({elsewhere[:60]}). Gradients "
              "may only travel by collectives, which are counted.")  # fmt: skip
    share = max(result["sent"] for result in found) / plain[0]["sent"]
    apart = max((result["weights"] - found[0]["weights"]).norm() for result in found)
    if not apart <= 1e-3 * found[0]["weights"].norm():
        what = "nothing is sent" if share < 1e-9 else "what they return is not the same on all of them"
        wrong("apart", f"{case}the ranks' weights drift apart, for {what}.")
    _check_size(case, found)
    _check_losses(case, plain, found)
    return share


def _check_size(case: str, found: list[dict[str, Any]]) -> None:
    """See that what was returned in all steps together is about as long as the mean of all gradients."""
    mean = torch.stack([result["own"] for result in found]).mean(0)
    length = float(found[0]["returned"] @ mean / (mean @ mean))
    if length > 1.3:
        wrong("scale", f"{case}what the hook returns is {length:.2g} times the mean of the ranks' gradients. "
              "The mean is the sum divided by the number of ranks, once.")  # fmt: skip


def _check_losses(case: str, plain: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    """See that the loss on each rank's own samples comes down nearly as far as with the plain all-reduce."""
    for rank, (one, other) in enumerate(zip(plain, found, strict=True)):
        (first, aim), last = one["losses"], other["losses"][1]
        reached = (first - last) / (first - aim)
        if reached >= ENOUGH:
            continue
        lost = (
            f"{case}on rank {rank}'s samples the loss goes from {first:.2f} to {last:.2f}, plain to {aim:.2f}"
        )
        if reached < 0.1 or last != last:
            wrong("no_training", f"{lost}. It hardly trains. What does the hook return?")
        wrong("worse", f"{lost}: {reached:.0%} of the way, and {ENOUGH:.0%} are asked for. What the hook "
              "leaves out must not be lost: keep it in `state` and add it the next time.")  # fmt: skip
