"""The trials of lesson 05: who gets which rows, checkpoints of wrapped models, gradients put together."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from operator import index
from typing import Any

import torch
from torch import nn

from .instruments.placement import some_gpus
from .instruments.recorder import Record, recording
from .lesson import Lesson
from .trying import Mistake, Seen, mistake_if, told

lesson = Lesson("05")
summary = lesson.summary
globals().update(lesson.exercises)

Reduce = Callable[[list[torch.Tensor]], Any]


# ---- section 1: who gets which rows --------------------------------------------------------------------
def _chunks(batch: int, gpus: int) -> list[int]:
    """Return how `DataParallel` splits a batch."""
    return [len(part) for part in torch.arange(batch).chunk(gpus) if len(part)]


def _even(batch: int, gpus: int) -> list[int]:
    """Return an even split, as `torch.tensor_split` makes it."""
    return [batch // gpus + (gpu < batch % gpus) for gpu in range(gpus)]


def _splits(batch: int) -> list[list[int]]:
    """Return the right split for this machine's GPUs and up to four others: what one might think of."""
    gpus = max(torch.cuda.device_count(), 1)
    right = _chunks(batch, gpus)
    usual = [right, _even(batch, gpus), right[::-1], [batch] * gpus, [batch]]
    few_gpus = [_chunks(batch, 2), _chunks(batch, 3)]  # with so few, the usual ones are much the same
    different = dict.fromkeys(map(tuple, usual + few_gpus))
    return sorted(map(list, list(different)[:5]))


def _read_split(guess: Any, actual: Sequence[int]) -> list[int]:
    """Read a guessed split; GPUs without rows may be left out or be 0."""
    if not isinstance(guess, list | tuple) or not all(type(size) is int and size >= 0 for size in guess):
        raise Mistake("form")
    rows, guess = list(actual), list(guess)
    while guess and not guess[-1]:
        guess.pop()
    mistake_if(sum(guess) != sum(rows), "sum", said=sum(guess), total=sum(rows))
    mistake_if(guess != rows and len(guess) >= len(rows) and guess == _even(sum(rows), len(guess)), "even")
    mistake_if(guess != rows and sorted(guess) == sorted(rows), "order")
    mistake_if(len(guess) < len(rows), "too_few", said=len(guess), parts=len(rows))
    return guess


@lesson.trial(choices=partial(_splits, 30))
def first_split(guess: Any, actual: list[int]) -> list[int]:
    return _read_split(guess, actual)


@lesson.trial(choices=partial(_splits, 10))
def last_batch(guess: Any, actual: list[int]) -> list[int]:
    return _read_split(guess, actual)


@lesson.trial([(30, 8), (10, 8), (10, 4), *product(range(1, 41), range(1, 10)), (10_007, 8), (50_000, 7)])
def split_by_hand(answer: Any, batch: int, gpus: int) -> list[int]:
    with recording() as record:
        sizes = answer(batch, gpus)
        sizes = sizes if sizes is None else list(sizes)
    mistake_if(sizes is None, "nothing")
    mistake_if(not all(hasattr(size, "__index__") for size in sizes), "whole", seen=sizes)
    mistake_if(record.calls and sizes == _chunks(batch, gpus), "torch")
    return list(map(index, sizes))


# ---- section 3: what bites people ----------------------------------------------------------------------
def _net(**layers: nn.Module) -> nn.Sequential:
    """Return a network with random numbers, also in its buffers."""
    net = nn.Sequential(OrderedDict(layers))
    for tensor in net.state_dict().values():
        tensor.copy_(torch.randint(1_000, tensor.shape))
    return net


def _plain() -> nn.Sequential:
    return _net(first=nn.Linear(3, 4), norm=nn.BatchNorm1d(4))


def _tricky() -> nn.Sequential:
    return _net(embedding=nn.Linear(3, 4), layer=nn.BatchNorm1d(4), decoder=nn.Linear(4, 2))


def _nested() -> nn.Sequential:
    return _net(inner=nn.ModuleDict({"module": nn.Linear(3, 4)}), last=nn.Linear(4, 2))


def _as_saved(saved: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return saved


def _backwards(saved: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return OrderedDict(reversed(saved.items()))


def _without_first(saved: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return OrderedDict(list(saved.items())[1:])


def _with_another(saved: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return saved | {next(iter(saved)).replace("first", "last"): torch.zeros(2)}


@lesson.trial(
    [
        (make, wrapped, change)
        for makes, change in (
            ([_plain, _tricky], _as_saved),
            ([_tricky], _backwards),
            ([_nested], _as_saved),
            ([_nested], _backwards),
            ([_plain], _without_first),
            ([_plain], _with_another),
        )
        for make, wrapped in product(makes, (True, False))
    ]
)
def load_saved(answer: Any, make: Callable[[], nn.Module], wrapped: bool, change: Callable[..., Any]) -> str:
    saved_from, model = make(), make()
    wanted = {name: tensor.clone() for name, tensor in saved_from.state_dict().items()}
    saved = nn.DataParallel(saved_from).state_dict() if wrapped else saved_from.state_dict()
    try:
        answer(model, change(saved))
    except (RuntimeError, KeyError):
        return "error"
    same = all(torch.equal(tensor.cpu(), wanted[name]) for name, tensor in model.state_dict().items())
    return "loaded" if same else "other numbers"


@lesson.trial()
def good_batch_size(answer: Any) -> int:
    samples, gpus, least = 5_000, 8, 49
    mistake_if(not hasattr(answer, "__index__") or not least <= index(answer) <= samples, "form")
    for key, rows in (("", index(answer)), ("last_", samples % index(answer))):
        sizes = _chunks(rows, gpus)
        mistake_if(1 in sizes, f"{key}single", rows=rows, sizes=sizes)
        mistake_if(0 < len(sizes) < gpus, f"{key}idle", rows=rows, sizes=sizes, parts=len(sizes))
    return index(answer)


# ---- section 5: one process per GPU --------------------------------------------------------------------
def _reduced(answer: Reduce, devices: list[torch.device], shape: tuple[int, ...]) -> tuple[Any, Record]:
    """Let an answer add up tensors, one on each device; return how they end, and what travelled."""
    tensors = [torch.randint(-(2**20), 2**20, shape).float().to(device) for device in devices]
    with recording() as traffic:
        try:
            answer(list(tensors))
        except Exception as error:
            if len(devices) == 2:
                raise
            raise Mistake("count", error=told(error)) from error
    return [(str(tensor.device), tensor.cpu().double().mul(1_000).long()) for tensor in tensors], traffic


def _some(most: int) -> range:
    """Return the numbers of GPUs to try an answer with."""
    with some_gpus(2, most) as devices:
        return range(2, len(devices) + 1)


@lesson.trial(lambda: list(product(_some(4), [(5,), (3, 4)])))
def all_reduce(answer: Reduce, count: int, shape: tuple[int, ...]) -> list[tuple[str, torch.Tensor]]:
    with some_gpus(2, most=4) as devices:
        return _reduced(answer, devices[:count], shape)[0]


def _lengths() -> list[tuple[int, int]]:
    counts = sorted({2, min(3, _some(8)[-1]), _some(8)[-1]})
    return [(n, length) for n in counts for length in (12 * n, 12 * n + 1, 101, n - 1, 1_000 * n)]


@lesson.trial(_lengths)
def fair_all_reduce(answer: Reduce, count: int, length: int) -> Seen:
    with some_gpus(2) as devices:
        try:
            ends, traffic = _reduced(answer, devices[:count], (length,))
        except RuntimeError as error:
            if length % count == 0:
                raise
            raise Mistake("remainder", error=told(error)) from error
    if traffic.host:
        return Seen((ends, "through the CPU"))
    share, least = traffic.busiest / (4 * length), 2 * (count - 1) / count
    return Seen(
        (ends, "uncounted" if share < least - 1e-9 and length % count == 0 else "counted"), score=share
    )
