"""Judging, in several processes, a step that sends gradients once, and an accuracy that is exact."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from ..engine import close, wrong
from .rank_pool import Ranks, judged_ranks
from .vectors import agree, flat

ROWS, RATE = 4, 0.5


def _job(rank: int, parts: int) -> tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return the network and one rank's parts, each of `ROWS` rows."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    draw = torch.Generator().manual_seed(100 + rank)
    x = torch.randn(parts, ROWS, 6, generator=draw)
    y = torch.randint(3, (parts, ROWS), generator=draw)
    return net, list(zip(x, y, strict=True))


def _step(answer: Callable[..., Any], parts: int) -> dict[str, Any]:
    """Take the answer's step on this rank; return what the parameters have become, and what was sent."""
    net, mine = _job(dist.get_rank(), parts)
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    steps: list[int] = []
    rows: list[int] = []
    net.register_forward_hook(lambda _, x, scores: rows.append(len(scores)))
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from an earlier step
    calls = dist.group.WORLD.calls
    before = len(calls)
    with mock.patch.object(model, "no_sync", mock.Mock(wraps=model.no_sync)) as quiet:
        answer(model, optimizer, mine)
    after = flat(parameter.detach() for parameter in model.parameters())
    found = {"after": after, "calls": calls[before:], "steps": len(steps), "quiet": quiet.called}
    return found | {"rows": max(rows, default=0)}


def _moved(world: int, parts: int, ranks: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the parameters before, and how a plain step on all parts of some ranks moves them."""
    net = _job(0, parts)[0]
    jobs = [part for rank in ranks for part in _job(rank, parts)[1]]
    x, y = (torch.cat(tensors) for tensors in zip(*jobs, strict=True))
    gradient = flat(torch.autograd.grad(cross_entropy(net(x), y), list(net.parameters())))
    return flat(parameter.detach() for parameter in net.parameters()), -RATE * gradient


def judge_accumulation(answer: Callable[..., Any]) -> None:
    """Ask for the plain step on all parts of all ranks, with the gradients sent once."""
    with judged_ranks() as ranks:
        for world, parts in ((2, 3), (1, 2), (3, 1), (3, 4)):
            _check_step(ranks, answer, world, parts)


def _check_step(ranks: Ranks, answer: Callable[..., Any], world: int, parts: int) -> None:
    """Compare a step on some ranks with the plain one."""
    found = [report.value for report in ranks.run(world, _step, answer, parts)]
    start, right = _moved(world, parts, range(world))
    moves = [result["after"] - start for result in found]
    case = f"With {world} ranks and {parts} parts: " if world > 1 else f"With one rank and {parts} parts: "
    steps = {result["steps"] for result in found}
    if steps == {0}:
        wrong("no_step", f"{case}the optimizer has not taken its step.")
    if steps != {1}:
        wrong("steps", f"{case}the optimizer stepped {max(steps)} times. Once, after the last part.")
    sent = sum(count for name, count in found[0]["calls"] if name != "broadcast")  # which is DDP's own
    times = sent / (2 * (world - 1) / world * 4 * len(start)) if world > 1 else 1.0
    if not _are(moves, [right] * world):
        _explain_step(case, moves, right, world, parts)
    if found[0]["rows"] > ROWS:
        wrong("whole", f"{case}right, but {found[0]['rows']} rows go through the model at a time. They come "
              "in parts because there is not room for more than one of them.")  # fmt: skip
    if times > 1.01:
        if found[0]["quiet"]:
            wrong("forward", f"{case}right, but they were sent {times:.3g} times, in spite of no_sync. "
                  "It must hold the forward as well: that is where DDP prepares for sending.")  # fmt: skip
        wrong("sent", f"{case}right, but they were sent {times:.3g} times. Only the last backward may do so.")


def _explain_step(case: str, moves: list[torch.Tensor], right: torch.Tensor, world: int, parts: int) -> None:
    """Say why a step is not the plain one."""
    own = [_moved(world, parts, range(rank, rank + 1))[1] for rank in range(world)]
    if world > 1 and any(_are(moves, [scale * move for move in own]) for scale in (1, parts, 1 / world)):
        wrong("own", f"{case}each rank steps with its own gradient alone. The last backward must send.")
    if _are(moves, [parts * right] * world):
        wrong(
            "sum", f"{case}that is the gradient of the parts' sum, not of their mean: divide by len(parts)."
        )
    if _are(moves, [right / parts] * world):
        wrong("twice", f"{case}the gradient is divided by the number of parts twice.")
    if any(_are(moves, [scale / world * right] * world) for scale in (1, parts)):
        wrong("ranks", f"{case}you divide by the number of ranks, which DDP has done already.")
    old = RATE * torch.ones_like(right)  # the step that the gradients left over would make
    left = [(share * old, scale * right) for share in (1, 1 / world) for scale in (1, parts)]
    if any(_are([move + more for move in moves], [whole] * world) for more, whole in left):
        wrong("stale", f"{case}gradients of an earlier step are in it. Set them to zero at the beginning.")
    if not _are(moves, [moves[0]] * world):
        wrong("apart", f"{case}the ranks have different weights afterwards. What have they not shared?")
    wrong("gradient", f"{case}it is not the gradient of the mean over all parts of all ranks.")


def _are(moves: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    return all(agree(move, other, 1e-4) for move, other in zip(moves, wanted, strict=True))


# ---- accuracy ------------------------------------------------------------------------------------------
class _Scores(nn.Module):
    """A model that is right where the sample says so, and counts the samples that it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += x[:, 0].int().tolist()
        return nn.functional.one_hot(x[:, 1].long(), 3).float()


def _exam(n: int, wrong_ones: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n samples, each its number and what the model will say, and their labels."""
    y = torch.arange(n) % 3
    said = torch.tensor([(label + (number in wrong_ones)) % 3 for number, label in enumerate(y.tolist())])
    return torch.stack([torch.arange(n), said], 1).float(), y


def _measure(answer: Callable[..., Any], n: int, wrong_ones: tuple[int, ...]) -> dict[str, Any]:
    """Let the answer measure on this rank."""
    model = _Scores()
    said = answer(model, *_exam(n, wrong_ones))
    with suppress(TypeError, ValueError, RuntimeError):
        said = None if said is None else float(said)
    return {
        "said": said if isinstance(said, float) or said is None else str(type(said)),
        "asked": model.asked,
    }


def judge_accuracy(answer: Callable[..., Any]) -> None:
    """Ask for the exact share of right answers, on every rank, with the work shared out."""
    with judged_ranks() as ranks:
        for world, n, wrong_ones in (
            (2, 8, (1, 6)),
            (3, 7, (0, 4)),
            (3, 8, (1,)),
            (2, 7, (2, 4, 6)),
            (1, 5, (3,)),
            (3, 2, (1,)),
        ):
            found = [report.value for report in ranks.run(world, _measure, answer, n, wrong_ones)]
            _check_accuracy(found, n, wrong_ones)


def _check_accuracy(found: list[dict[str, Any]], n: int, wrong_ones: tuple[int, ...]) -> None:
    """Compare what the ranks say with the exact share."""
    world, exact = len(found), (n - len(wrong_ones)) / n
    case = f"{n} samples, {world} rank{'s' * (world > 1)}"
    said = [result["said"] for result in found]
    asked = [result["asked"] for result in found]
    if None in said:
        wrong(
            "nothing", f"On rank {said.index(None)} your function returns nothing. All ranks need the share."
        )
    if not all(isinstance(value, float) for value in said):
        wrong("number", f"The function should return a number, and returned {said[0]}.")
    if not all(close(value, exact, 1e-5) for value in said):
        _explain_accuracy(case, said, asked, exact, n, wrong_ones)
    if world > 1 and n >= world and any(len(rows) == n for rows in asked):
        wrong("everything", f"{case}: right, but a rank asks about all {n}. Each should do its own part.")


def _explain_accuracy(
    case: str, said: list[float], asked: list[list[int]], exact: float, n: int, wrong_ones: tuple[int, ...]
) -> None:
    """Say why an accuracy is not exact."""
    world, rows = len(said), [row for part in asked for row in part]
    right = [sum(row not in wrong_ones for row in part) for part in asked]
    own = [count / len(part) if part else float("nan") for count, part in zip(right, asked, strict=True)]
    if close(said[0], exact, 1e-5):
        wrong("one_rank", f"{case}: rank 0 is right, but not every rank: {_shares(said)}.")
    if world > 1 and any(part for part in asked) and _alike(said, own):
        wrong("own", f"{case}: each rank returns the share among its own samples: {_shares(said)}.")
    if any(value != value for value in said):
        wrong("empty", f"{case}: a rank without samples makes the share nan. Add up counts, not means.")
    if said[0] > 1:
        wrong(
            "sum", f"{case}: it says {said[0]:.4f}, and a share is at most 1. By what do you divide the sum?"
        )
    missing = set(range(n)) - set(rows)
    if missing:
        wrong("left_out", f"{case}: samples {sorted(missing)[:5]} were never asked about. All of them count.")
    if len(rows) > n:
        wrong("padding", f"{case}: {len(rows)} were asked about, so some twice. It says {said[0]:.4f}, and "
              f"{exact:.4f} is exact. Who hands out {len(rows)}?")  # fmt: skip
    if _alike(said, [sum(own) / world] * world):
        wrong(
            "means",
            f"{case}: {said[0]:.4f} is the mean of the ranks' shares, but their parts differ in size.",
        )
    wrong("other", f"{case}: it says {_shares(said)}; {exact:.4f} is exact, on every rank.")


def _alike(said: list[float], wanted: list[float]) -> bool:
    """Tell whether numbers agree, nan with nan."""
    return all(close(a, b, 1e-4) or (a != a and b != b) for a, b in zip(said, wanted, strict=True))


def _shares(said: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in said)
