"""The trials of lesson 07: shares of the data, gradients sent once, files, accuracy, many GPUs."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

from .guessing import read_guess
from .instruments.comm_hook import judge_talk
from .instruments.listening import listening
from .instruments.ranks import hold, on_ranks
from .instruments.vectors import flat
from .lesson import Lesson
from .trying import Mistake, Seen, mistake_if, same

lesson = Lesson("07")
summary = lesson.summary
globals().update(lesson.exercises)


# ---- section 3: who reads what -------------------------------------------------------------------------
@lesson.trial()
def rank_three_gets(guess: Any, actual: list[int]) -> list[float]:
    """Read a list of sample numbers."""
    numbers = read_guess(guess, rank_three_gets.choices)
    mistake_if(numbers != actual and sorted(numbers) == sorted(actual), "order")
    return numbers


@lesson.trial(
    [  # from the simple to the odd; the last ones have fewer samples than ranks
        (12, 4, 0, 0, False),
        (12, 4, 3, 0, False),
        (12, 4, 1, 5, False),
        (10, 4, 0, 0, False),
        (10, 4, 3, 0, False),
        (11, 4, 2, 3, False),
        (10, 4, 0, 1, True),
        (10, 4, 3, 2, True),
        (12, 4, 2, 2, True),
        (7, 1, 0, 2, False),
        (3, 8, 7, 1, False),
        (2, 8, 5, 0, False),
        (3, 8, 1, 0, True),
        (50_000, 7, 6, 9, False),
    ]
)
def sampler_by_hand(
    answer: Callable[..., Any], n: int, world: int, rank: int, epoch: int, drop_last: bool
) -> Seen:
    """See a share, and whether the real sampler or torch's own generator were used."""
    before = torch.get_rng_state()
    walk = mock.Mock(side_effect=DistributedSampler.__iter__)
    with mock.patch.object(DistributedSampler, "__iter__", lambda self: walk(self)):
        given = answer(n, world, rank, epoch, drop_last)
        given = None if given is None else [int(number) for number in given]
    mistake_if(given is None, "nothing")
    touched = not torch.equal(before, torch.get_rng_state())
    case = f"sampler_by_hand(n={n}, world={world}, rank={rank}, epoch={epoch}, drop_last={drop_last})"
    shown = f"{given[:8]}{' ...' if len(given) > 8 else ''}"
    return Seen((given, walk.called, touched), case=f"{case} gives {shown}")


# ---- section 5: gradients sent once --------------------------------------------------------------------
_ROWS, _RATE = 4, 0.5


def _job(rank: int, parts: int) -> tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return the network, and one rank's parts."""
    torch.default_generator.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    torch.default_generator.manual_seed(100 + rank)
    return net, [(torch.randn(_ROWS, 6), torch.randint(3, (_ROWS,))) for _ in range(parts)]


def _plain_step(world: int, parts: int) -> torch.Tensor:
    """Return the parameters after one step on all parts of all ranks at once."""
    net = _job(0, parts)[0]
    x, y = zip(*(part for rank in range(world) for part in _job(rank, parts)[1]), strict=True)
    cross_entropy(net(torch.cat(x)), torch.cat(y)).backward()
    torch.optim.SGD(net.parameters(), lr=_RATE).step()
    return flat(net.parameters())


def _step(answer: Callable[..., Any], parts: int) -> dict[str, Any]:
    """Take the answer's step on this rank; return what the parameters have become, and what was sent."""
    net, mine = _job(dist.get_rank(), parts)
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE)
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
    sent = sum(count for name, count in calls[before:] if name != "broadcast")  # which is DDP's own
    after = flat(net.parameters())
    whole = 2 * (dist.get_world_size() - 1) / dist.get_world_size() * 4 * len(after)
    times = round(sent / whole, 2) if whole else 1.0
    facts = {"steps": len(steps), "most": max(rows, default=0), "times": times, "quiet": quiet.called}
    return facts | {"after": after}


@lesson.trial([(2, 3), (1, 2), (3, 1), (3, 4)])
def accumulate_ddp(answer: Callable[..., Any], world: int, parts: int) -> Seen:
    """See what the parameters of some ranks have become after a step, each with some parts."""
    found = on_ranks(world, _step, answer, parts)
    facts = {name: max(one[name] for one in found) for name in ("steps", "most", "times")}
    facts["case"] = f"With {world} rank{'s' * (world > 1)} and {parts} parts: "
    mistake_if(facts["steps"] != 1, "steps" if facts["steps"] else "no_step", **facts)
    after = [one["after"] for one in found]
    if not same(after, [_plain_step(world, parts)] * world):
        return Seen(after, **facts)
    mistake_if(facts["most"] > _ROWS, "whole", **facts)
    mistake_if(facts["times"] > 1.01, "forward" if found[0]["quiet"] else "sent", **facts)
    return Seen(after, **facts)


# ---- section 6: files and figures ----------------------------------------------------------------------
class _Disk:
    """Notes what each rank does to files, and lets others run on before each such thing.

    Args:
        file: the one that should be saved.
    """

    def __init__(self, file: Path, world: int) -> None:
        self.file = file
        self.done: list[list[tuple[str, bool]]] = [[] for _ in range(world)]

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if event == "open" and any(letter in str(args[1]) for letter in "wax+"):
            self._note("write", args[0])
        elif event == "os.remove":
            self._note("away", args[0])
        elif event == "os.rename":
            self._note("away", args[0])
            self._note("rename", args[1])

    def save(self, save: Callable[..., Any], state: Any, target: Any, *more: Any, **options: Any) -> None:
        """Do what torch.save does; it writes files by itself, which Python does not hear."""
        self._note("write", target)
        save(state, target, *more, **options)

    def _note(self, what: str, path: Any) -> None:
        if not isinstance(path, str | os.PathLike) or not dist.is_initialized():
            return
        path = Path(path).absolute()
        if path.parent == self.file.parent or what == "rename":
            hold()
            self.done[dist.get_rank()].append((what, path == self.file))


def _net(version: int) -> nn.Module:
    torch.manual_seed(version)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def _saved(answer: Callable[..., Any], disk: _Disk) -> Any:
    """Let the answer save on this rank; return what stands in the file then."""
    model = DistributedDataParallel(_net(2))
    with listening(disk.hear):
        answer(model, disk.file)
    return _content(disk.file)


def _content(file: Path) -> Any:
    """Return what the default torch.load makes of a file; a word where it cannot."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return "nothing"
    except Exception:  # whatever a damaged or foreign file leads to
        return "pickle"


@lesson.trial([(2,), (1,), (3,)], right=None)
def save_once(answer: Callable[..., Any], world: int) -> None:
    """See who writes what, what the file holds, and on which ranks too early."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder).resolve() / "model.pt"
        torch.save(_net(1).state_dict(), file)  # of the epoch before
        disk = _Disk(file, world)
        save = partial(disk.save, torch.save)
        with mock.patch("torch.save", save), mock.patch("torch.serialization.save", save):
            found = on_ranks(world, _saved, answer, disk)
        _judge_writing(disk.done)
        _judge_content(_content(file))
        for rank, state in enumerate(found):
            mistake_if(not _is_new(state), "early", rank=rank)
        if left := sorted(path.name for path in Path(folder).iterdir() if path != file):
            raise Mistake("left", name=left[0])


def _judge_writing(done: list[list[tuple[str, bool]]]) -> None:
    """Check who did what to files: (what, whether to the checkpoint itself) for each thing, by rank."""
    writers = [str(rank) for rank, things in enumerate(done) if {"write", "rename"} & {t for t, _ in things}]
    mistake_if(not writers, "nothing")
    if len(writers) > 1:
        raise Mistake("every_rank", ranks=" and ".join(writers))
    things = done[int(writers[0])]
    mistake_if(("write", True) in things, "half")
    mistake_if(("away", True) in things, "gap")


def _judge_content(state: Any) -> None:
    """Check what the file holds."""
    names = list(_net(2).state_dict())
    mistake_if(isinstance(state, str), state)
    mistake_if(not isinstance(state, dict), "other", what=f"a {type(state).__name__}")
    mistake_if([f"module.{name}" for name in names] == list(state), "prefix")
    missing = set(names) - set(state)
    mistake_if(set(state) < set(names), "buffers", name=min(missing, default=""))
    if set(state) != set(names):
        raise Mistake("other", what=f"{list(state)[:2]} ...")
    mistake_if(not _is_new(state), "old")


def _is_new(state: Any) -> bool:
    """Tell whether a state, perhaps with a prefix, has the numbers that were to be saved."""
    wanted = _net(2).state_dict().values()
    return isinstance(state, dict) and same(list(state.values()), list(wanted))


class _Scores(nn.Module):
    """A model that is right where the sample says so, and counts the samples that it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += x[:, 0].int().tolist()
        return nn.functional.one_hot(x[:, 1].long(), 3).float()


def _measure(answer: Callable[..., Any], n: int, mistaken: tuple[int, ...]) -> tuple[float, list[int]]:
    """Let the answer measure on this rank; return what it says, and the samples that it asked about."""
    y = torch.arange(n) % 3
    said = torch.tensor([(label + (number in mistaken)) % 3 for number, label in enumerate(y.tolist())])
    model = _Scores()
    share = answer(model, torch.stack([torch.arange(n), said], 1).float(), y)
    if share is None:
        raise Mistake("nothing", rank=dist.get_rank())
    try:
        return round(float(share), 4), model.asked
    except (TypeError, ValueError, RuntimeError) as error:
        raise Mistake("number", type=type(share).__name__) from error


@lesson.trial(
    [(2, 8, (1, 6)), (3, 7, (0, 4)), (3, 8, (1,)), (2, 7, (2, 4, 6)), (1, 5, (3,)), (3, 2, (1,))],
)
def exact_accuracy(answer: Callable[..., Any], world: int, n: int, mistaken: tuple[int, ...]) -> Seen:
    """See which share each rank says, and whether one asks about everything."""
    said, asked = zip(*on_ranks(world, _measure, answer, n, mistaken), strict=True)
    case = f"{n} samples, {world} rank{'s' * (world > 1)}"
    missing = sorted(set(range(n)).difference(*asked))
    everything = world > 1 and n >= world and n in map(len, asked)
    exact = (n - len(mistaken)) / n
    facts = {"case": case, "asked": sum(map(len, asked)), "missing": missing[:5], "exact": exact}
    return Seen(
        (said, everything, bool(missing)),
        said=", ".join(f"{one:.4f}" for one in said),
        first=said[0],
        **facts,
    )


# ---- section 10: many GPUs -----------------------------------------------------------------------------
def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@lesson.trial(
    [
        (50_000, 100, 1, 0.1),
        (50_000, 100, 5, 0.1),
        (50_000, 64, 8, 0.05),
        (1_281_167, 32, 256, 0.0125),
        (1_000, 64, 1_000, 0.01),
        (513, 64, 8, 0.4),
    ]
)
def scaled_up(answer: Callable[..., Any], samples: int, batch: int, gpus: int, rate: float) -> Seen:
    """See the steps of an epoch and the learning rate."""
    said = answer(samples, batch, gpus, rate)
    mistake_if(said is None, "nothing")
    case = f"scaled_up({samples}, {batch}, {gpus}, {rate})"
    if not isinstance(said, list | tuple) or len(said) != 2 or not all(map(_is_number, said)):
        raise Mistake("pair", case=case, seen=said)
    return Seen(said, case=case, steps=said[0], said_rate=said[1])


GIB = 2**30


@lesson.trial(
    [
        (1_000_000, 0, 16_000_000),
        (7_000_000_000, 0, 12_000_000_000),
        (70_000_000_000, 2_000_000_000, 80_000_000_000),
        (7_000_000_000, 200_000_000, 24 * GIB),
        (70_000_000_000, 900_000_000, 80 * GIB),
        (3_000, 3_000, 24_000),
        (5_000, 4_000, 24_000),
    ]
)
def gpus_needed(answer: Callable[..., Any], parameters: int, block: int, memory: int) -> Seen:
    """See the fewest GPUs, also where the numbers divide exactly, and where no number is enough."""
    said, case = answer(parameters, block, memory), f"gpus_needed({parameters:_}, {block:_}, {memory:_})"
    mistake_if(said is not None and not _is_number(said), "number", case=case, seen=said)
    mistake_if(memory <= 8 * block and said is not None, "impossible", case=case, seen=said)
    whole = said is None or hasattr(said, "__index__")
    return Seen((said, whole), case=case, said=said)


@lesson.trial([(number,) for number in range(5)])
def which_tool(answer: Any, number: int) -> str:
    """See the tool for one situation."""
    tools = ("one GPU", "DataParallel", "DDP", "FSDP", "model parallel")
    mistake_if(not isinstance(answer, dict) or len(answer) != 5, "form")
    said = list(answer.values())[number]
    mistake_if(said is ... or said is None, "gap")
    letters = "".join(letter for letter in str(said).lower() if letter not in " -_")
    names = {tool.lower().replace(" ", ""): tool for tool in tools}
    names |= {"distributeddataparallel": "DDP", "fsdp2": "FSDP", "fullyshard": "FSDP", "1gpu": "one GPU"}
    if letters not in names:
        raise Mistake("word", said=said, tools=", ".join(map(repr, tools)))
    return names[letters]


# ---- Your turn -----------------------------------------------------------------------------------------
@lesson.trial(right=None)
def small_talk(answer: Callable[..., Any]) -> Seen:
    """See how a training with the hook ends, and the share of bytes that it sends."""
    return Seen(None, score=judge_talk(answer))
