"""The trials of lesson 07: shares of the data, gradients sent once, files, accuracy, many GPUs."""

import re
import sys
import tempfile
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

from .instruments.placement import content_of, flat, train_step
from .instruments.ranks import on_ranks
from .lesson import Lesson
from .trying import Answer, Seen, agree, mistake_if, same

lesson = Lesson("07")
globals().update(lesson.exercises, summary=lesson.summary)


# ---- section 3: who reads what -------------------------------------------------------------------------
@lesson.trial()
def sampler_by_hand(answer: Answer, n: int, world: int, rank: int, epoch: int, drop_last: bool) -> Any:
    """See the samples, whether the real sampler was asked, and whether torch's random numbers moved."""
    before, walk = torch.get_rng_state(), DistributedSampler.__iter__
    with mock.patch.object(DistributedSampler, "__iter__", autospec=True, side_effect=walk) as walked:
        given = [int(number) for number in answer(n, world, rank, epoch, drop_last)]
    return given, walked.called, not torch.equal(before, torch.get_rng_state())


# ---- section 5: gradients sent once --------------------------------------------------------------------
_ROWS = 4  # of each part


def _step(answer: Answer, parts: int, case: str) -> torch.Tensor:
    """Take the answer's step on this rank; return what the parameters have become."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    torch.manual_seed(100 + dist.get_rank())
    mine = [(torch.randn(_ROWS, 6), torch.randint(3, (_ROWS,))) for _ in range(parts)]
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from an earlier step
    rows, steps, calls = [0], mock.Mock(return_value=None), dist.group.WORLD.calls
    net.register_forward_hook(lambda _, x, scores: rows.append(len(scores)))
    optimizer.register_step_post_hook(steps)
    calls.clear()
    with mock.patch.object(model, "no_sync", wraps=model.no_sync) as quiet:
        answer(model, optimizer, mine)
    after, world = flat(net.parameters()), dist.get_world_size()
    sent = sum(count for name, count in calls if name != "broadcast")  # which is DDP's own
    times = round(sent / max(2 * (world - 1) / world * after.nbytes, 1), 2)
    taken = steps.call_count
    mistake_if(taken != 1, "steps" if taken else "no_step", case=case, steps=taken)
    mistake_if(max(rows) > _ROWS, "whole", case=case, most=max(rows))
    mistake_if(times > 1.01, "forward" if quiet.called else "sent", case=case, times=times)
    return after


@lesson.trial([(2, 3), (1, 2), (3, 1), (3, 4)])
def accumulate_ddp(answer: Answer, world: int, parts: int) -> Seen:
    """See what the parameters of some ranks have become after a step, each with some parts."""
    case = f"With {world} rank{'s' * (world > 1)} and {parts} parts: "
    return Seen(on_ranks(world, _step, answer, parts, case), case=case)


# ---- section 6: files and figures ----------------------------------------------------------------------
@cache  # Python removes no audit hook
def _watched() -> dict[Path, list[tuple[int, str, bool]]]:
    """Return, for each checkpoint entered there, what is done to files beside it from now on.

    That is the rank, the audit event ("Audit events table" in Python's reference), and whether to it itself.
    """
    watched = {}

    def note(event: str, args: tuple[Any, ...]) -> None:
        if event in ("os.remove", "os.rename") or (event == "open" and set("wax+") & set(str(args[1]))):
            paths = [Path(str(arg)) for arg in args[:2]]
            for file, changes in watched.items():
                if any(path.parent == file.parent for path in paths):
                    changes.append((dist.get_rank(), event, paths[0] == file))

    sys.addaudithook(note)
    return watched


def _net(version: int) -> nn.Module:
    torch.manual_seed(version)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def _saved(answer: Answer, file: Path) -> Any:
    """Let the answer save on this rank; return what the checkpoint holds when it comes back."""
    answer(DistributedDataParallel(_net(2)), file)
    return content_of(file)


@lesson.trial([(2, False), (2, True), (1, False), (3, True)], right=None)
def save_once(answer: Answer, world: int, last_first: bool) -> None:
    """See who writes what, what the file holds, and on which ranks too early.

    A rank that does not wait for the one that writes is seen when its turn comes first, one way or the other.
    """
    # for a path that is not ASCII torch.save lets Python write, which is heard
    with tempfile.TemporaryDirectory(prefix="\N{GREEK SMALL LETTER EPSILON}poch") as folder:
        file = Path(folder).resolve() / "model.pt"
        torch.save(_net(1).state_dict(), file)  # of the epoch before
        with mock.patch.dict(_watched(), {file: (changes := [])}):
            seen = on_ranks(world, _saved, answer, file, last_first=last_first)
        state, left = content_of(file), [path.name for path in file.parent.iterdir() if path != file]
    writers = sorted({str(rank) for rank, *_ in changes})
    mistake_if(not writers, "nothing")
    mistake_if(len(writers) > 1, "every_rank", ranks=" and ".join(writers))
    own = [event for _, event, itself in changes if itself]
    mistake_if("open" in own, "half")
    mistake_if(own != [], "gap")
    mistake_if(state is None, "pickle")
    mistake_if(not isinstance(state, dict), "other", what=f"a {type(state).__name__}")
    new = _net(2).state_dict()
    mistake_if(state.keys() < new.keys(), "buffers", name=min(new.keys() - state.keys(), default=""))
    mistake_if(state.keys() == {f"module.{name}" for name in new}, "prefix")
    mistake_if(state.keys() != new.keys(), "other", what=f"{list(state)[:2]} ...")
    mistake_if(not same(state, new), "nothing")
    for rank, what in enumerate(seen):
        mistake_if(not same(what, new), "early", rank=rank)
    mistake_if(left != [], "left", name=min(left, default=""))


def _measure(answer: Answer, n: int, mistaken: tuple[int, ...]) -> tuple[float, list[int]]:
    """Let the answer measure on this rank; return what it says, and the samples that it asked about."""
    y = torch.arange(n) % 3
    said = (y + torch.tensor([number in mistaken for number in range(n)])) % 3
    x = nn.functional.one_hot(said, 3) * torch.arange(1.0, n + 1)[:, None]  # a sample is its own scores
    model, asked = nn.Identity(), []
    model.register_forward_hook(lambda _, x, scores: asked.extend(scores.sum(-1).flatten().tolist()))
    share = answer(model, x, y)
    mistake_if(share is None, "nothing", rank=dist.get_rank())
    return round(float(share), 4), [round(number) - 1 for number in asked]


@lesson.trial([(2, 8, (1, 6)), (3, 7, (0, 4)), (3, 8, (1,)), (2, 7, (2, 4, 6)), (1, 5, (3,)), (3, 2, (1,))])
def exact_accuracy(answer: Answer, world: int, n: int, mistaken: tuple[int, ...]) -> Seen:
    """See which share each rank says, and whether one asks about everything."""
    said, asked = zip(*on_ranks(world, _measure, answer, n, mistaken), strict=True)
    missing = sorted(set(range(n)).difference(*asked))
    everything = world > 1 and n >= world and n in map(len, asked)
    case, all_said = f"{n} samples, {world} rank{'s' * (world > 1)}", ", ".join(f"{one:.4f}" for one in said)
    facts = {"case": case, "said": all_said, "asked": sum(map(len, asked)), "missing": missing[:5]}
    return Seen((said, everything, bool(missing)), **facts)


# ---- section 10: many GPUs -----------------------------------------------------------------------------
@lesson.trial()
def scaled_up(answer: Answer, samples: int, batch: int, gpus: int, rate: float) -> Any:
    said = answer(samples, batch, gpus, rate)
    mistake_if(not isinstance(said, list | tuple) or len(said) != 2, "pair", seen=said)
    return said


@lesson.trial()
def gpus_needed(answer: Answer, parameters: int, block: int, memory: int) -> Any:
    said = answer(parameters, block, memory)
    mistake_if(memory <= 8 * block and said is not None, "impossible", seen=said)
    return said


@lesson.trial([(number,) for number in range(5)])
def which_tool(answer: Any, number: int) -> str:
    mistake_if(not isinstance(answer, dict) or len(answer) != 5, "form")
    said = list(answer.values())[number]
    mistake_if(said in (..., None), "gap")
    letters = re.sub("[ _-]", "", str(said).lower())
    also = {"distributeddataparallel": "ddp", "fsdp2": "fsdp", "fullyshard": "fsdp", "1gpu": "onegpu"}
    tool = also.get(letters, letters)
    mistake_if(tool not in ("onegpu", "dataparallel", "ddp", "fsdp", "modelparallel"), "word", said=said)
    return tool


# ---- Your turn -----------------------------------------------------------------------------------------
_STEPS, _SAMPLES, _BATCH = 160, 512, 32
_ENOUGH = 0.95  # of the way down that the loss goes with a plain all-reduce


def _train(hook: Answer) -> dict[str, Any]:
    """Train on this rank's samples; return the loss before and after, and the weights.

    Also the bytes that were `sent`, and the sums of its `own` gradients and of what the hook `returned`.
    """
    torch.manual_seed(7)
    teacher = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10))  # the same on each rank
    x = torch.randn(_SAMPLES, 32, generator=torch.Generator().manual_seed(1_000 + dist.get_rank()))
    y = (3 * teacher(x)).argmax(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    model = DistributedDataParallel(net, bucket_cap_mb=0.05)
    before = cross_entropy(net(x), y).item()
    for _ in range(2):  # after the first backward DDP sorts its buckets anew; then they stay
        cross_entropy(model(x[:_BATCH]), y[:_BATCH]).backward()
    own, returned = defaultdict(int), defaultdict(int)  # by a bucket's number

    # DDP asks for these annotations
    def talk(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        own[bucket.index()] += bucket.buffer().clone()
        future = hook(state, bucket)
        value = future.wait() if isinstance(future, torch._C.Future) else None
        if getattr(value, "shape", None) != bucket.buffer().shape:
            raise TypeError("The hook has to return a future of one tensor, of the shape of bucket.buffer().")
        returned[bucket.index()] += value.float().clone()
        return future

    model.register_comm_hook({}, talk)
    calls = dist.group.WORLD.calls
    calls.clear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, _STEPS)  # so that it ends quietly
    for rows in (torch.arange(_STEPS * _BATCH) % _SAMPLES).split(_BATCH):
        train_step(model, optimizer, x[rows], y[rows])
        schedule.step()
    return {
        "before": before,
        "after": cross_entropy(net(x), y).item(),
        "weights": flat(net.parameters()),
        "sent": sum(count for _, count in calls),
        "own": flat(own.values()),  # buckets come in the same order on all ranks
        "returned": flat(returned.values()),
    }


@cache
def _plain(world: int) -> list[dict[str, Any]]:
    """Train with the plain all-reduce: it comes out the same each time."""
    return on_ranks(world, _train, lambda state, bucket: allreduce_hook(dist.group.WORLD, bucket))


@lesson.trial([(3,), (2,)], right=None)
def small_talk(answer: Answer, world: int) -> Seen:
    """See how a training with the hook ends, and the busiest rank's bytes as a share of the plain ones."""
    plain, found = _plain(world), on_ranks(world, _train, answer)
    share = max(result["sent"] for result in found) / plain[0]["sent"]
    apart = not all(agree(result["weights"], found[0]["weights"], 1e-3) for result in found)
    what = "what they return is not the same on all of them" if share else "nothing is sent"
    mistake_if(apart, "apart", what=what)
    mean = torch.stack([result["own"] for result in found]).mean(0)
    times = float(found[0]["returned"] @ mean / (mean @ mean))
    mistake_if(not 0.1 < times < 1.3, "scale", times=times)
    for rank, (one, other) in enumerate(zip(plain, found, strict=True)):
        first, aim, last = one["before"], one["after"], other["after"]
        reached = (first - last) / (first - aim)
        facts = {"rank": rank, "first": first, "aim": aim, "last": last, "reached": reached}
        mistake_if(not reached >= _ENOUGH, "worse", **facts)
    return Seen(None, score=share)
