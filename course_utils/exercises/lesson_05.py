"""The trials of lesson 05: who gets which rows, checkpoints of wrapped models, gradients put together."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from itertools import product
from operator import index
from typing import Any

import torch
from torch import nn

from .guessing import read_guess
from .instruments.placement import filled, some_gpus
from .instruments.recorder import Record, recording
from .lesson import Lesson
from .trying import Answer, Seen, mistake_if, told

lesson = Lesson("05")
globals().update(lesson.exercises, summary=lesson.summary)


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
    thinkable = [right, _even(batch, gpus), right[::-1], [batch] * gpus, [batch]]
    thinkable += [_chunks(batch, 2), _chunks(batch, 3)]  # with few GPUs those above are much the same
    return sorted(map(list, [*dict.fromkeys(map(tuple, thinkable))][:5]))


for _name, _batch in (("first_split", 30), ("last_batch", 10)):
    lesson.exercises[_name].choices = partial(_splits, _batch)


@lesson.trial()
def first_split(guess: Any, actual: Sequence[int]) -> list[float]:
    """Read a guessed split; GPUs without rows may be left out or be 0."""
    sizes, rows = read_guess(guess, ()), sum(actual)
    while sizes and not sizes[-1]:
        sizes.pop()
    mistake_if(sum(sizes) != rows, "sum", said=sum(guess), total=rows)
    wrong = sizes != list(actual)
    mistake_if(wrong and len(sizes) >= len(actual) and sizes == _even(rows, len(sizes)), "even")
    mistake_if(wrong and sorted(sizes) == sorted(actual), "order")
    return sizes


@lesson.trial([(30, 8), (10, 8), (10, 4), *product(range(1, 41), range(1, 10)), (10_007, 8), (50_000, 7)])
def split_by_hand(answer: Any, batch: int, gpus: int) -> list[int]:
    with recording() as record:
        sizes = list(map(index, answer(batch, gpus)))
    mistake_if(record.calls and sizes == _chunks(batch, gpus), "torch")
    return sizes


# ---- section 3: what bites people ----------------------------------------------------------------------
def _net(kind: str) -> nn.Sequential:
    """Return a network with numbers of its own."""
    layers = {
        "plain": {"first": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4)},
        "letters": {"embedding": nn.Linear(3, 4), "layer": nn.BatchNorm1d(4)},  # of "module."
        "inside": {"inner": nn.ModuleDict({"module": nn.Linear(3, 4)}), "last": nn.Linear(4, 2)},
    }
    return filled(nn.Sequential(OrderedDict(layers[kind])))


_FILES: dict[str, Callable[[Any], Any]] = {  # what becomes of a state dict
    "as saved": lambda saved: saved,
    "backwards": lambda saved: OrderedDict(reversed(saved.items())),
    "one missing": lambda saved: OrderedDict(list(saved.items())[1:]),
    "one more": lambda saved: saved | {next(iter(saved)).replace("first", "last"): torch.zeros(2)},
}


@lesson.trial(list(product(_FILES, ("plain", "letters", "inside"), (True, False))))
def load_saved(answer: Any, file: str, kind: str, wrapped: bool) -> str:
    source, model = _net(kind), _net(kind)
    wanted = deepcopy(source.state_dict())
    saved = nn.DataParallel(source).state_dict() if wrapped else source.state_dict()
    try:
        answer(model, _FILES[file](saved))
    except (RuntimeError, KeyError):
        return "error"
    loaded = all(torch.equal(tensor.cpu(), wanted[name]) for name, tensor in model.state_dict().items())
    return "loaded" if loaded else "other numbers"


@lesson.trial()
def good_batch_size(answer: Any) -> int:
    samples, gpus, least = 5_000, 8, 49
    mistake_if(not hasattr(answer, "__index__") or not least <= index(answer) <= samples, "form")
    for which, rows in (("A full", index(answer)), ("The last", samples % index(answer))):
        sizes = _chunks(rows, gpus)
        facts = {"which": which, "rows": rows, "sizes": sizes, "parts": len(sizes)}
        mistake_if(1 in sizes, "single", **facts)
        mistake_if(0 < len(sizes) < gpus, "idle", **facts)
    return index(answer)


# ---- section 5: one process per GPU --------------------------------------------------------------------
def _reduced(answer: Answer, devices: list[torch.device], shape: tuple[int, ...]) -> tuple[Any, Record]:
    """Let an answer add up tensors, one on each device; return how they end, and what travelled."""
    tensors = [torch.randint(-(2**20), 2**20, shape).float().to(device) for device in devices]
    with recording() as traffic:
        try:
            answer(list(tensors))
        except Exception as error:
            mistake_if(len(devices) > 2, "count", error=told(error))
            mistake_if(shape[0] % 2 == 1, "remainder", error=told(error))
            raise
    return [(str(tensor.device), tensor.cpu().long()) for tensor in tensors], traffic


@lesson.trial(list(product((2, 3, 4), [(4,), (6, 5)])))
def all_reduce(answer: Answer, count: int, shape: tuple[int, ...]) -> list[tuple[str, torch.Tensor]]:
    with some_gpus(2) as devices:
        return _reduced(answer, devices[:count], shape)[0]


@lesson.trial([(n, length) for n in (2, 3, 8) for length in (12 * n, 12 * n + 1, 101, n - 1, 1_000 * n)])
def fair_all_reduce(answer: Answer, count: int, length: int) -> Seen:
    with some_gpus(2) as devices:
        n = len(devices[:count])  # real GPUs may be fewer
        ends, traffic = _reduced(answer, devices[:n], (length,))
    if traffic.host:
        return Seen((ends, "through the CPU"))
    moved = Counter[tuple[str, torch.device]]()
    for copy in traffic.copies:
        moved["sent", copy.source] += copy.nbytes
        moved["received", copy.target] += copy.nbytes
    share, least = max(moved.values(), default=0) / (4 * length), 2 * (n - 1) / n
    return Seen((ends, "uncounted" if share < least - 1e-9 and length % n == 0 else "counted"), score=share)
