"""The trials of lesson 08: where the time goes, what a rung of the ladder is worth, and how to tell."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from functools import cache, partial
from io import StringIO
from random import Random
from statistics import mean
from typing import Any
from unittest.mock import Mock

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from course_utils.data.standin import make_standin

from .guessing import read_guess
from .instruments.graphs import PretendGraph
from .instruments.placement import flat, some_gpus, train_step
from .instruments.pretend import Queues
from .instruments.recorder import Record, recording
from .lesson import Lesson
from .trying import Answer, Mistake, Seen, mistake_if, same

lesson = Lesson("08")
globals().update(lesson.exercises, summary=lesson.summary)


@lesson.trial()
def four_times_the_batch(guess: Any, actual: tuple[float, float]) -> str:
    """Read a guess; what came out are two accuracies in percent, where less than a point is noise."""
    if isinstance(guess, tuple):
        small, large = guess
        return "the same" if abs(large - small) < 1 else "lower" if large < small else "higher"
    return read_guess("the same" if guess == "same" else guess, four_times_the_batch.choices)


def _number(said: Any) -> float:
    """Return the number that an answer returned."""
    mistake_if(not hasattr(said, "__float__"), "number", said=said)
    return float(said)


def _two_numbers(said: Any) -> tuple[float, float]:
    """Return the two numbers that an answer returned."""
    try:
        one, two = map(float, said)
    except (TypeError, ValueError, RuntimeError):
        raise Mistake("returned", said=said) from None
    return one, two


# ---- sections 1 and 2: timelines, operations for each byte ---------------------------------------------
@lesson.trial()
def busy_share(answer: Answer, kernels: list[list[float]], start: float, end: float) -> float:
    """See the share for some kernels."""
    return _number(answer([(begin, stop) for begin, stop in kernels], start, end))


@lesson.trial()
def intensity(answer: Answer, options: dict[str, Any], shape: list[int]) -> float:
    """See the number for a convolution in float32, without a bias, and the shape of its input."""
    return _number(answer(nn.Conv2d(**options, bias=False), torch.zeros(shape)))


# ---- sections 3 to 5: rules, waiting, a graph ----------------------------------------------------------
_COMPILING, _TESTING = 30.0, 4.0  # pretended seconds: of the first epoch at all, of each test
_TRAIN, _TEST = range(40), range(40, 50)  # the pictures: each is a number


class _Network:
    """A network whose seed decides how long an epoch takes, and its accuracy after each of them."""

    def __init__(self) -> None:
        self.seed = torch.initial_seed()
        luck = Random(self.seed).random()
        self.seconds, self.epochs = 1.0 + luck, 0
        self.accuracies = [0.1 * luck + share for share in (0.8, 0.87, 0.84, 0.82, 0.83)]  # falls in the end


@lesson.trial([((1, 2, 3), 4), ((5, 8), 3)], right=None)
def honest_benchmark(answer: Answer, seeds: Sequence[int], epochs: int) -> None:
    """See what is measured of pretended networks, with several seeds and at most 4 epochs."""
    queues, tested, before = Queues(1), set[_Network](), torch.initial_seed()

    def train_epoch(model: _Network, pictures: Dataset) -> None:
        seen = sorted(int(picture) for (picture,) in pictures)
        mistake_if(not set(seen).isdisjoint(_TEST), "test_pictures")
        mistake_if(seen != list(_TRAIN), "part")
        queues.work(0, model.seconds, first=_COMPILING)()
        model.epochs += 1

    def accuracy(model: _Network, pictures: Dataset) -> float:
        mistake_if({int(picture) for (picture,) in pictures} != set(_TEST), "tested_on")
        mistake_if(model.epochs > epochs, "warm_up", learned=model.epochs, epochs=epochs)
        queues.wait()
        queues.now += _TESTING
        tested.add(model)
        return model.accuracies[model.epochs]

    train, test = (TensorDataset(torch.tensor(part)) for part in (_TRAIN, _TEST))
    gpus = range(torch.cuda.device_count())  # answers seed them, too
    with torch.random.fork_rng(devices=gpus), queues.instead(getattr(answer, "__globals__", {})):
        said = answer(_Network, train_epoch, accuracy, train, test, seeds, epochs)
    measured = [network for network in tested if network.epochs == epochs]
    mistake_if(len(measured) < len(seeds), "seeds", seeds=len(seeds), measured=len(measured))
    mistake_if(len({network.seed for network in measured} - {before}) < len(seeds), "same_seed")
    _judge_numbers(said, measured, epochs)


def _judge_numbers(said: Any, measured: list[_Network], epochs: int) -> None:
    """Ask for the mean of the final accuracies, and for that of the training times."""
    share, seconds = _two_numbers(said)
    final = [network.accuracies[epochs] for network in measured]
    best = [max(network.accuracies[: epochs + 1]) for network in measured]
    percent, best_epoch = [100 * mean(final), 100 * max(final)], [max(best), mean(best)]
    known = {"percent": percent, "lucky": final, "best_epoch": best_epoch}
    _judge(share, mean(final), known, "accuracy")
    times = [epochs * network.seconds for network in measured]
    right, compiling = mean(times), _COMPILING / len(times)
    tests = [right + _TESTING * count for count in range(1, 9)]
    known = {"fastest": times, "sum": [sum(times)], "launch": [0.0, compiling], "testing": tests}
    more = "compile" if seconds - right > compiling - 1 else "before"
    _judge(seconds, right, known, more if seconds > right else "short")


def _judge(said: float, right: float, known: dict[str, list[float]], other: str) -> None:
    """Ask for a number; of a wrong one, name the mistake that comes to it."""
    if not abs(said - right) < 0.001:  # launches take time, too
        keys = (key for key, values in known.items() if min(abs(said - value) for value in values) < 0.001)
        raise Mistake(next(keys, other), said=said, mean=right)


_SIZE = 8  # of a batch


@lesson.trial([(4, False), (110, False), (4, True)])  # the long epoch for what is done now and then
def no_waiting(answer: Answer, batches: int, bad: bool) -> Seen:
    """See what an epoch gives, and where it waits for the GPU; with `bad`, a loss is no number."""
    samples = batches * _SIZE - 3  # the last batch is smaller
    pictures, labels = torch.randint(256, (samples, 3, 8, 8)).float(), torch.randint(10, (samples,))
    if bad:
        pictures[samples // 2] = float("nan")
    with some_gpus() as (gpu, *_):
        model, forwards, steps = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).to(gpu), [], []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.register_forward_hook(lambda layer, x, scores: forwards.append(scores.device.type))
        optimizer.register_step_post_hook(lambda *_: steps.append(len(forwards)))
        data = pictures.to(gpu), labels.to(gpu)
        try:
            with recording(lambda: (len(forwards), len(steps))) as record, redirect_stdout(StringIO()):
                said = answer(model, optimizer, *data, _SIZE)
        except ValueError:
            if bad:
                return Seen("a ValueError")
            raise
        mistake_if(bad, "nan_lost")
        mistake_if(set(forwards) == {"cpu"}, "elsewhere")
        for operation in record.operations:  # those from the first batch to the last step
            step, done = operation.moment
            mistake_if(operation.wait != "" and step > 0 and done < len(steps), operation.wait, step=step)
        loss, share = map(torch.tensor, _two_numbers(said))
        return Seen({"loss": loss, "share": share, "parameters": flat(model.parameters()).cpu()})


@lesson.trial([(epoch, begin) for epoch in range(4) for begin in (0, 16, 32)])
def alternating_flip(answer: Answer, epoch: int, begin: int) -> Any:
    """See what each picture of a batch became: as it was, mirrored, or upside down."""
    pictures, first = torch.randn(40, 3, 32, 32), torch.rand(40) < 0.5
    rows = torch.stack([torch.randperm(40) for _ in range(4)])[epoch, begin : begin + 16]
    batch, drawn = pictures[rows], first.clone()
    found = answer(batch, rows, drawn, epoch)
    mistake_if(getattr(found, "shape", ()) != batch.shape, "shape", shape=tuple(batch.shape))
    mistake_if(not torch.equal(batch, pictures[rows]) or not torch.equal(drawn, first), "in_place")
    ways = list(zip(found, batch, batch.flip(3), batch.flip(2), strict=True))
    kinds = [[torch.equal(one, way) for way in others] for one, *others in ways]
    mistake_if([False] * 3 in kinds, "neither")
    return kinds


@lesson.trial()
def static_batch(answer: Answer) -> Seen:
    """See the losses of a training with a captured step, and whether the batches are what they were."""
    net, graph = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), PretendGraph()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    batches = [(torch.randn(5, 6), torch.randint(4, (5,))) for _ in range(4)]
    step, given = Mock(wraps=partial(train_step, net, optimizer)), deepcopy(batches)
    said = answer(step, batches, graph)
    mistake_if(graph.captures > 1, "captures", captures=graph.captures)
    mistake_if(not graph.captures or step.call_count > 1, "eager", steps=step.call_count)
    mistake_if(said is None or len(said) != len(given), "count", batches=len(given))
    losses = [float(loss) for loss in said]
    seen = "one loss" if len(set(losses)) == 1 else losses
    return Seen((seen, graph.replays, same(batches, given)), replays=graph.replays, batches=len(given))


# ---- section 6: rungs that change the training ---------------------------------------------------------
def _within_a_step(rates: torch.Tensor, best: torch.Tensor) -> bool:
    """Compare learning rates, give or take a step."""
    same_length = len(rates) == len(best)
    return same_length and bool((rates - best).abs().max() <= 1.6 * best.diff().abs().max())


@lesson.trial([(1000, 10, 3, 1.0, 0.25), (1030, 100, 20, 0.4, 0.23), (50, 64, 40, 2.0, 0.5)], _within_a_step)
def triangle_rates(answer: Answer, pictures: int, batch: int, epochs: int, top: float, peak: float) -> Seen:
    """See the learning rates of a training."""
    found = answer(pictures, batch, epochs, top, peak)
    mistake_if(found is None or not hasattr(found, "__iter__"), "list", found=found)
    rates = torch.tensor([float(rate) for rate in found], dtype=torch.float64)
    steps = epochs * -(-pictures // batch)
    shares = {"begins": rates[0] / top, "most": rates.max() / top, "ends": rates[-1] / top}
    return Seen(rates, steps=steps, found=len(rates), highest=int(rates.argmax()), **shares)


def _about_one(variances: Sequence[float], best: Sequence[float]) -> bool:
    return all(abs(value - 1) <= 0.15 for value in variances)


@lesson.trial([(2, False), (3, False), (2, True)], _about_one)
def whiten_patches(answer: Answer, size: int, grey: bool) -> Seen:
    """See whether the filters' outputs for fresh pictures are uncorrelated, and their variances."""
    # neighbours and colours are alike; left is unlike right, and rows are unlike columns
    smooth = nn.functional.conv2d(torch.randn(800, 1, 14, 14), 2 * torch.rand(3, 1, 3, 3))
    pictures, fresh = (smooth + 0.5 * torch.randn(800, 3, 12, 12)).split(400)
    if grey:
        pictures = pictures[:, :1].expand(-1, 3, -1, -1)
    found, count = answer(pictures.clone(), size), 3 * size**2
    shape, wanted = tuple(getattr(found, "shape", ())), (count, 3, size, size)
    mistake_if(shape == (2 * count, 3, size, size), "negatives", found=2 * count, count=count)
    mistake_if(shape != wanted, "shape", wanted=wanted, shape=shape or found)
    mistake_if(not found.isfinite().all(), "nan")
    if grey:  # the colours agree, so some directions have no variance
        mistake_if(found.abs().max() > 300, "zero", largest=found.abs().max())
        return Seen([1.0])
    outputs = nn.functional.conv2d(fresh, found.detach().float()).transpose(0, 1).flatten(1)
    correlation = outputs.corrcoef().nan_to_num().fill_diagonal_(0).abs().max().item()
    mistake_if(correlation > 0.15, "correlated", correlation=correlation)
    variances = outputs.var(1).sort().values.tolist()
    return Seen(variances, least=variances[0], most=variances[-1])


# ---- Your turn -----------------------------------------------------------------------------------------
_DRAWINGS, _WANTED = 1000, 0.55  # to train on, and as many to test; the share to get right
_HEAVY = tuple("_cdist _euclidean_dist _pdist _fft linalg_ _linalg mkldnn_rnn lstm gru mv dot vdot".split())
_LARGE = 10_000  # numbers: below, an operation that nobody counts is small


@cache
def drawings(train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the stand-in drawings: float32 pictures (n, 3, 32, 32) around 0, and labels (n,) int64."""
    data, labels = make_standin(train, _DRAWINGS)
    pictures = torch.from_numpy(data).permute(0, 3, 1, 2).float().sub_(120).div_(60).contiguous()
    return pictures, torch.tensor(labels)


@lesson.trial(right=None)
def fewest_operations(answer: Answer) -> Seen:
    """See the GFLOP that a training and a test take, and the accuracy that is reached."""
    names = torch.tensor([3, 8, 5, 0, 7, 9, 1, 6, 2, 4])  # the classes' numbers, as only this judge has them
    (pictures, labels), (unseen, answers) = drawings(True), drawings(False)
    print("Training with your function; this takes some seconds.", flush=True)
    with recording() as record:
        torch.default_generator.manual_seed(0)
        model = answer(pictures.clone(), names[labels])
        mistake_if(not callable(model), "returned", said=model)
        if isinstance(model, torch.nn.Module):
            model.eval()
        with torch.no_grad():
            scores = model(unseen.clone())
    mistake_if(tuple(getattr(scores, "shape", ())) != (_DRAWINGS, 10), "shape", pictures=_DRAWINGS)
    _judge_counts(record)
    chosen, right = scores.argmax(1), names[answers]
    accuracy, by_old_names = ((chosen == one).float().mean().item() for one in (right, answers))
    mistake_if(by_old_names > max(0.2, accuracy + 0.1), "known", elsewhere=by_old_names, accuracy=accuracy)
    mistake_if(accuracy < 0.2, "untrained", accuracy=accuracy)
    mistake_if(accuracy < _WANTED, "accuracy", accuracy=accuracy)
    return Seen(None, score=record.flop / 1e9)


def _judge_counts(record: Record) -> None:
    """See that the operations are of a kind that the counter counts."""
    unknown = [operation for operation in record.operations if operation.launch and not operation.flop]
    for operation in unknown:
        heavy = operation.numbers > _LARGE and operation.name.startswith(_HEAVY)
        mistake_if(heavy, "heavy", name=operation.name)
    gflop, billions = record.flop / 1e9, sum(operation.numbers for operation in unknown) / 1e9
    mistake_if(billions > gflop, "unseen", gflop=gflop, billions=billions)
