"""Answers to the exercises of lesson 08."""

from course_utils.exercises import lesson_08

CONTEXT = """
import itertools
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_utils.timing import Stopwatch, synchronize
"""

ACTUAL = {"longest_bar": "'loading'", "bound_by": "'bytes'", "four_times_the_batch": "(58.1, 51.9)"}


def _guesses(name: str, **values: object) -> dict[str, str]:
    return {key: f"exercise.{name}.guess({value!r})" for key, value in values.items()}


def _changed(answer: str, *pairs: str) -> str:
    """Replace parts of an answer; every part has to be there."""
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in answer, old
        answer = answer.replace(old, new)
    return answer


def _one_line(head: str, value: str, before: str = "") -> str:
    """Return a function of one expression, and lines before it."""
    lines = "".join(f"    {line}\n" for line in before.splitlines())
    return f"def {head}:\n{lines}    return {value}\n"


def _share(value: str, before: str = "") -> str:
    return _one_line("busy_share(kernels, start, end)", value, before)


def _intensity(flop: str, numbers: str = "x.numel() + layer.weight.numel() + out.numel()") -> str:
    return _one_line("intensity(layer, x)", f"{flop} / (4 * ({numbers}))", "out = layer(x)")


def _flip(value: str, before: str = "flip = first[rows] ^ (epoch % 2 == 1)") -> str:
    return _one_line("alternating_flip(batch, rows, first, epoch)", value, before)


def _rates(value: str, before: str = "n = epochs * -(-pictures // batch)") -> str:
    return _one_line("triangle_rates(pictures, batch, epochs, top, peak)", value, before)


BUSY, BENCH, WAIT, STATIC, TRIANGLE, WHITE, FEWEST = (
    getattr(lesson_08, name).worked
    for name in (
        "busy_share",
        "honest_benchmark",
        "no_waiting",
        "static_batch",
        "triangle_rates",
        "whiten_patches",
        "fewest_operations",
    )
)
FLOP = "2 * out.numel() * layer.weight[0].numel()"
WHERE = "torch.where(flip[:, None, None, None], batch.flip(3), batch)"
FEW = _changed(
    FEWEST,
    "epochs=8",
    "epochs=2",
    "block(3, 8), block(8, 16), block(16, 32)",
    "block(3, 4), block(4, 8), block(8, 32)",
)
SYNC = "        torch.accelerator.synchronize()\n"
FOR_NEW = "for new_x, new_y in batches:"

RIGHT = {
    "busy_share": [
        _share(
            "sum(b - a for a, b in zip(times, times[1:]) if any(s <= a < b <= e for s, e in kernels))"
            " / (end - start)",
            "times = sorted({start, end, *(min(max(t, start), end) for pair in kernels for t in pair)})",
        ),
        """
def busy_share(kernels, start, end):
    marks = [(a, 1) for a, b in kernels] + [(b, -1) for a, b in kernels] + [(start, 0), (end, 0)]
    running, last, busy = 0, start, 0.0
    for when, change in sorted(marks):
        when = min(max(when, start), end)
        if running:
            busy += when - last
        running, last = running + change, when
    return torch.tensor(busy / (end - start), dtype=torch.float64)
""",
        """
def busy_share(kernels, start, end):
    merged = []
    kernels.sort(key=lambda kernel: kernel[0])
    for begin, stop in kernels:
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([begin, stop])
    spans = [(max(a, start), min(b, end)) for a, b in merged]
    return np.float64(sum(b - a for a, b in spans if b > a) / (end - start))
""",
    ],
    "intensity": [
        """
def intensity(layer, x):
    with FlopCounterMode(display=False) as counter:
        out = layer(x)
    return counter.get_total_flops() / sum(t.nbytes for t in (x, layer.weight, out))
""",
        """
def intensity(layer, x):
    n, _, h, w = x.shape
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
    h, w = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    flop = 2 * n * layer.out_channels * h * w * layer.in_channels // layer.groups * kh * kw
    weights = layer.out_channels * layer.in_channels // layer.groups * kh * kw
    return torch.tensor(flop / 4 / (x.numel() + weights + n * layer.out_channels * h * w))
""",
    ],
    "honest_benchmark": [
        """
def honest_benchmark(new_model, train_epoch, accuracy, train, test, seeds, epochs):
    results = []
    for seed in seeds:
        torch.manual_seed(seed)
        train_epoch(new_model(), train)
        model = new_model()
        torch.cuda.synchronize()
        start = time.time()
        for _ in range(epochs):
            train_epoch(model, train)
        torch.cuda.synchronize()
        seconds = time.time() - start
        results.append([accuracy(model, test), seconds])
    return torch.tensor(results, dtype=torch.float64).mean(0)
""",
        """
def honest_benchmark(new_model, train_epoch, accuracy, train, test, seeds, epochs):
    train_epoch(new_model(), train)
    accuracies, total = [], 0.0
    for seed in seeds:
        torch.manual_seed(seed)
        model = new_model()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(epochs):
            train_epoch(model, train)
        end.record()
        end.synchronize()
        total += begin.elapsed_time(end) / 1000
        accuracies.append(accuracy(model, test))
    return np.mean(accuracies), total / len(seeds)
""",
        """
def honest_benchmark(new_model, train_epoch, accuracy, train, test, seeds, epochs):
    train_epoch(new_model(), train)
    watch, right = Stopwatch("cuda"), 0
    for seed in seeds:
        torch.manual_seed(seed)
        model = new_model()
        for _ in range(epochs):
            with watch("training"):
                train_epoch(model, train)
            seen = accuracy(model, test)  # to look at, outside of the clock
        right += seen
    return {"accuracy": right / len(seeds), "seconds": watch.seconds["training"] / len(seeds)}.values()
""",
    ],
    "no_waiting": [
        _changed(
            WAIT, "return mean, right.item() / len(labels)", "return torch.tensor(mean), right / len(labels)"
        ),
        """
def no_waiting(model, optimizer, pictures, labels, size):
    centre = torch.tensor([0.5, 0.5, 0.5], device=pictures.device).view(3, 1, 1)
    total = torch.zeros(3, device=pictures.device)
    for start in range(0, len(labels), size):
        x, y = pictures[start : start + size], labels[start : start + size]
        scores = model((x / 255 - centre) / 0.25)
        loss = F.cross_entropy(scores, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            total += torch.stack([loss, (scores.argmax(1) == y).sum(), torch.ones_like(loss)])
    loss, right, count = total.tolist()
    if loss != loss:
        raise ValueError("not a number")
    print(f"loss {loss / count:.3f}")
    return loss / count, right / len(labels)
""",
        """
def no_waiting(model, optimizer, pictures, labels, size):
    all_scores, losses = [], []
    for x, y in zip((pictures / 255 - 0.5).mul(4).split(size), labels.split(size)):
        all_scores.append(model(x))
        losses.append(nn.functional.cross_entropy(all_scores[-1], y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    losses = torch.stack(losses).cpu()
    if losses.isnan().any():
        raise ValueError(f"The loss is not a number in step {int(losses.isnan().nonzero()[0])}.")
    return losses.mean(), (torch.cat(all_scores).argmax(1) == labels).float().mean()
""",
    ],
    "alternating_flip": [
        _flip(
            "torch.stack([picture.flip(-1) if f else picture for picture, f in zip(batch, flip)])",
            "flip = [bool(first[row]) != bool(epoch % 2) for row in rows.tolist()]",
        ),
        _flip(
            "batch",
            "flip = (~first if epoch % 2 else first)[rows]\n"
            "batch = batch.clone()\nbatch[flip] = batch[flip].flip(3)",
        ),
        _flip(
            "batch.gather(3, columns.expand_as(batch))",
            "columns = torch.arange(32)\n"
            "turn = (first[rows].long() + epoch)[:, None] % 2\n"
            "columns = columns + turn * (31 - 2 * columns)\n"
            "columns = columns[:, None, None, :]",
        ),
    ],
    "always_compile": [],
    "static_batch": [
        """
def static_batch(step, batches, graph):
    x, y = torch.empty_like(batches[0][0]), torch.empty_like(batches[0][1])
    x.copy_(batches[0][0]), y.copy_(batches[0][1])
    with graph.capture():
        loss = step(x, y)
    losses = torch.empty(len(batches))
    for number, batch in enumerate(batches):
        x[:], y[:] = batch
        graph.replay()
        losses[number] = loss
    return losses
""",
        _changed(STATIC, "loss.clone()", "loss.item()", "x.copy_(new_x)", "x.zero_().add_(new_x)"),
    ],
    "triangle_rates": [
        _rates("top * np.interp(np.arange(n), [0, peak * n, n], [0.2, 1, 0])"),
        _rates("list(top * np.interp(range(n), [0, int(peak * n), n - 1], [0.2, 1, 0]))"),
        """
def triangle_rates(pictures, batch, epochs, top, peak):
    steps = epochs * len(torch.arange(pictures).split(batch))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=top)
    up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.2, 1, total_iters=round(peak * steps))
    down = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=steps - round(peak * steps))
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [up, down], [round(peak * steps)])
    rates = []
    for _ in range(steps):
        rates.append(both.get_last_lr()[0])
        optimizer.step()
        both.step()
    return rates
""",
    ],
    "whiten_patches": [
        """
def whiten_patches(pictures, size):
    patches = pictures.unfold(2, size, 1).unfold(3, size, 1)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * size**2)
    patches = patches.double()
    covariance = patches.T @ patches / len(patches) + 5e-4 * torch.eye(3 * size**2)
    return torch.linalg.inv(torch.linalg.cholesky(covariance)).float().reshape(-1, 3, size, size)
""",
        """
def whiten_patches(pictures, size):
    patches = F.unfold(pictures, size).transpose(0, 1).flatten(1)
    covariance = torch.from_numpy(np.cov(patches.numpy())).float()
    directions, variances, _ = torch.linalg.svd(covariance)
    white = directions @ torch.diag((variances + 5e-4) ** -0.5) @ directions.T
    return nn.Parameter(white.view(-1, 3, size, size), requires_grad=False)
""",
        """
def whiten_patches(pictures, size):
    patches = F.unfold(pictures[:300], size).permute(0, 2, 1).reshape(-1, 3 * size**2)
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / (len(patches) - 1))
    filters = torch.stack([v / math.sqrt(max(x, 0) + 5e-4) for v, x in zip(vectors.T, values.tolist())])
    return filters.unflatten(1, (3, size, size))
""",
    ],
    "fewest_operations": [
        """
def fewest_operations(pictures, labels):
    layers, last = [nn.AvgPool2d(2)], 3
    for width in (12, 24, 48):
        layers += [nn.Conv2d(last, width, 3, padding=1), nn.BatchNorm2d(width), nn.GELU(), nn.MaxPool2d(2)]
        last = width
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))
    optimizer = torch.optim.AdamW(list(model.train().parameters()), 5e-3)
    for epoch in range(9):
        for rows in torch.randperm(len(labels)).split(40):
            x = pictures[rows] if epoch % 2 else pictures[rows].flip(3)
            loss = F.cross_entropy(model(x), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return lambda x: model.eval()(x) + model(x.flip(3))
""",
    ],
}

WRONG = {
    "longest_bar": _guesses(
        "longest_bar", forward="forward", backward="Backward", step="step", choice="the optimizer"
    ),
    "bound_by": _guesses("bound_by", operations="operations", neither="neither", choice="memory"),
    "four_times_the_batch": _guesses("four_times_the_batch", same="same", higher="higher", choice=4),
    "busy_share": {
        "twice": _share("sum(b - a for a, b in kernels) / (end - start)"),
        "window": _changed(
            BUSY, "max(begin, reached), min(stop, end)", "max(begin, reached), stop", "0, start", "0, -1e9"
        ),
        "gaps": _share(
            "(min(max(k)[1], end) - max(min(k)[0], start)) / (end - start) if k else 0", "k = kernels"
        ),
        "order": _changed(BUSY, "sorted(kernels)", "kernels"),
        "nested": _changed(
            BUSY,
            "            if begin < stop:\n".replace("            ", "        ", 1),
            "        reached = stop\n        if begin < stop:\n",
            "            reached = stop\n",
            "",
        ),
        "ends": _changed(
            BUSY,
            "return worked / (end - start)",
            "return worked / (min(max(b for a, b in kernels), end) - max(min(kernels)[0], start))",
        ),
        "percent": _changed(BUSY, "return ", "return 100 * "),
        "seconds": _changed(BUSY, " / (end - start)", ""),
        "idle": _changed(BUSY, "return ", "return 1 - "),
        "empty": _changed(BUSY, "worked, reached", "first = kernels[0]\n    worked, reached"),
        "rough": _share(
            "sum(any(a <= t < b for a, b in kernels) for t in np.linspace(start, end, 1000)) / 1000"
        ),
        "number": _changed(BUSY, "return worked / (end - start)", "print(worked)"),
        "other": _changed(BUSY, "return ", "return 0.5 * "),
        "raises": _changed(BUSY, "sorted(kernels)", "kernels.sort()"),
    },
    "intensity": {
        "macs": _intensity(FLOP[4:]),
        "numbers": _intensity(f"4 * {FLOP}"),
        "bits": _intensity(FLOP, f"8 * ({'x.numel() + layer.weight.numel() + out.numel()'})"),
        "input": _intensity(FLOP, "layer.weight.numel() + out.numel()"),
        "weights": _intensity(FLOP, "x.numel() + out.numel()"),
        "output": _intensity(FLOP, "x.numel() + layer.weight.numel()"),
        "inverse": "def intensity(layer, x):\n    out = layer(x)\n"
        f"    return 4 * (x.numel() + layer.weight.numel() + out.numel()) / ({FLOP})",
        "sides": _intensity("2 * layer.weight.numel() * len(x) * x[0, 0].numel()"),
        "groups": _intensity(
            "2 * out.numel() * layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]"
        ),
        "kernel": _intensity("2 * out.numel() * layer.weight.shape[1] * layer.kernel_size[1] ** 2"),
        "batch": _intensity(FLOP, "x.numel() + len(x) * layer.weight.numel() + out.numel()"),
        "number": "def intensity(layer, x):\n    print(layer(x).numel())",
        "other": _intensity(f"3 * {FLOP}"),
    },
    "honest_benchmark": {
        "test_pictures": _changed(BENCH, "train_epoch(model, train)", "train_epoch(model, train + test)"),
        "warm_up": _changed(
            BENCH,
            "train_epoch(new_model(), train)",
            "pass",
            "        torch.acc",
            "        train_epoch(model, train)\n        torch.acc",
        ),
        "compile": _changed(BENCH, "train_epoch(new_model(), train)", "pass"),
        "launch": _changed(BENCH, f"{SYNC}        seconds", "        seconds"),
        "before": _changed(
            BENCH, f"{SYNC}        start", "        train_epoch(new_model(), train)\n        start"
        ),
        "testing": _changed(
            BENCH,
            "        seconds.append(time.perf_counter() - start)\n"
            "        accuracies.append(accuracy(model, test))",
            "        accuracies.append(accuracy(model, test))\n"
            "        seconds.append(time.perf_counter() - start)",
        ),
        "best_epoch": _changed(
            BENCH,
            "            train_epoch(model, train)\n",
            "            train_epoch(model, train)\n            seen.append(accuracy(model, test))\n",
            "        start",
            "        seen = []\n        start",
            "accuracy(model, test))\n    return",
            "max(seen))\n    return",
        ),
        "lucky": _changed(BENCH, "sum(accuracies) / len(accuracies)", "max(accuracies)"),
        "fastest": _changed(BENCH, "sum(seconds) / len(seconds)", "min(seconds)"),
        "sum": _changed(BENCH, "sum(seconds) / len(seconds)", "sum(seconds)"),
        "seeds": _changed(BENCH, "in seeds", "in seeds[:1]"),
        "same_seed": _changed(BENCH, "manual_seed(seed)", "manual_seed(0)"),
        "unseeded": _changed(
            BENCH,
            "        torch.manual_seed(seed)\n",
            "",
            "    accuracies,",
            "    torch.manual_seed(seeds[0])\n    accuracies,",
        ),
        "percent": _changed(BENCH, "return sum(acc", "return 100 * sum(acc"),
        "tested_on": _changed(BENCH, "accuracy(model, test)", "accuracy(model, train)"),
        "part": _changed(BENCH, "train_epoch(model, train)", "train_epoch(model, list(train)[::2])"),
        "returned": _changed(BENCH, "return sum(accuracies) / len(accuracies),", "return"),
        "short": _changed(
            BENCH,
            "range(epochs)",
            "range(epochs)[1:]",
            "        start",
            "        train_epoch(model, train)\n        torch.cuda.synchronize()\n        start",
        ),
        "raises": _changed(BENCH, "time.perf_counter() - start", "time.perf_counter() - begin"),
    },
    "no_waiting": {
        "number": _changed(WAIT, "loss.detach())", "torch.tensor(loss.item()))"),
        "if": _changed(
            WAIT,
            "        optimizer.zero_grad()",
            "        assert not loss.isnan(), 'nan'\n        optimizer.zero_grad()",
        ),
        "cpu": _changed(WAIT, "(scores.argmax(1) == y)", "(scores.argmax(1).cpu() == y.cpu())"),
        "to_gpu": _changed(WAIT, "x / 255 - 0.5", "x / 255 - torch.full((3, 1, 1), 0.5).to(x.device)"),
        "print": _changed(WAIT, "        losses", "        print(loss)\n        losses"),
        "size": _changed(
            WAIT, "(scores.argmax(1) == y).sum()", "len(y[scores.argmax(1) == y])", "right.item()", "right"
        ),
        "synchronize": _changed(WAIT, "        losses", "        torch.cuda.synchronize()\n        losses"),
        "nan_lost": _changed(WAIT, "if math.isnan(mean)", "if False"),
        "loss": _changed(WAIT, "torch.stack(losses).mean()", "torch.stack(losses).sum()"),
        "accuracy": _changed(WAIT, "/ len(labels)", "/ len(losses)"),
        "training": _changed(WAIT, "        optimizer.zero_grad()\n", ""),
        "elsewhere": _changed(
            WAIT,
            "losses, right = [], 0",
            "losses, right = [], 0\n    model.cpu()\n    pictures, labels = pictures.cpu(), labels.cpu()",
        ),
        "returned": _changed(WAIT, "return mean, right", "return right"),
        "raises": _changed(WAIT, "torch.stack(losses)", "torch.stack(loss)"),
    },
    "alternating_flip": {
        "same": _flip(WHERE, "flip = first[rows]"),
        "rows": _flip(WHERE, "flip = first[:len(batch)] ^ (epoch % 2 == 1)"),
        "batch": _flip("batch.flip(3) if epoch % 2 else batch", "pass"),
        "inverted": _flip(WHERE, "flip = first[rows] ^ (epoch % 2 == 0)"),
        "upside_down": _flip(WHERE.replace("flip(3)", "flip(2)")),
        "in_place": _flip(
            "batch", "flip = first[rows] ^ (epoch % 2 == 1)\nbatch[flip] = batch[flip].flip(3)"
        ),
        "turns": _flip(WHERE, "flip = torch.rand(len(batch)) < 0.5"),
        "shape": _flip("batch[flip].flip(3)"),
        "other": _flip("torch.where(flip[:, None, None, None], batch.roll(1, 3), batch)"),
        "raises": _flip("torch.where(flip, batch.flip(3), batch)"),
    },
    "always_compile": {
        "true": 'always_compile = "true"',
        "outdated": 'always_compile = "outdated"',
        "word": "always_compile = False",
    },
    "static_batch": {
        "same_loss": _changed(STATIC, "loss.clone()", "loss"),
        "same_batch": _changed(STATIC, "x.copy_(new_x)", "x = new_x", "y.copy_(new_y)", "y = new_y"),
        "labels": _changed(STATIC, "        y.copy_(new_y)\n", ""),
        "pictures": _changed(STATIC, "x.copy_(new_x)", "x.data = new_x"),
        "overwrites": _changed(STATIC, "(part.clone() for part in batches[0])", "batches[0]"),
        "eager": _changed(STATIC, "graph.replay()", "loss = step(x, y)"),
        "captures": _changed(
            STATIC,
            "    with graph.capture():\n        loss = step(x, y)\n",
            "",
            "        graph.replay()\n",
            "        with graph.capture():\n            loss = step(x, y)\n        graph.replay()\n",
        ),
        "never": _changed(STATIC, "graph.replay()", "pass"),
        "nan": _changed(
            STATIC, "losses = []", "losses = [loss.clone()]", FOR_NEW, "for new_x, new_y in batches[1:]:"
        ),
        "late": _changed(
            STATIC,
            "        graph.replay()\n",
            "",
            f"    {FOR_NEW}\n",
            f"    {FOR_NEW}\n        graph.replay()\n",
        ),
        "replays": _changed(STATIC, "graph.replay()", "graph.replay(), graph.replay()"),
        "count": _changed(STATIC, "return losses", "return losses[-1:]"),
        "other": _changed(STATIC, "loss.clone()", "loss / len(x)"),
        "raises": _changed(STATIC, "loss = step(x, y)", "loss = step(x, y).item()"),
    },
    "triangle_rates": {
        "last_batch": _changed(TRIANGLE, "math.ceil(pictures / batch)", "(pictures // batch)"),
        "one_epoch": _changed(TRIANGLE, "epochs * math", "math"),
        "epochs": _changed(TRIANGLE, "epochs * math.ceil(pictures / batch)", "epochs"),
        "length": _changed(TRIANGLE, "range(steps)", "range(steps + 1)"),
        "start": _changed(TRIANGLE, "0.2 + 0.8 * step", "step"),
        "end": _rates("list(top * np.interp(range(n), [0, peak * n, n], [0.2, 1, 0.1]))"),
        "peak": _changed(
            TRIANGLE, "min(pair)", "min(pair)", "(peak * steps)", "(0.5 * steps)", "(1 - peak)", "0.5"
        ),
        "top": _changed(TRIANGLE, "[top * min", "[min"),
        "negative": _changed(
            TRIANGLE, "(steps - step) / ((1 - peak) * steps)", "1 - 2 * (step / steps - peak) / (1 - peak)"
        ),
        "straight": _changed(
            TRIANGLE, "min(pair) for", "(min(pair) if pair[0] < pair[1] else pair[1] ** 2) for"
        ),
        "list": _rates("None"),
        "raises": _changed(TRIANGLE, "top * min(pair)", "top(min(pair))"),
    },
    "whiten_patches": {
        "unscaled": _changed(WHITE, "(directions / (variances + 5e-4).sqrt())", "directions"),
        "root": _changed(WHITE, ".sqrt()", ""),
        "multiplied": _changed(WHITE, "directions / ", "directions * "),
        "correlated": _changed(WHITE, ".T.reshape", ".reshape"),
        "negatives": _changed(WHITE, "return ", "f = ") + "\n    return torch.cat([f, -f])",
        "zero": _changed(WHITE, "(variances + 5e-4)", "variances.abs()"),
        "nan": _changed(WHITE, "(variances + 5e-4)", "(variances - 1e-3)"),
        "scale": _changed(WHITE, "(variances + 5e-4).sqrt()", "variances.max().sqrt()"),
        "shape": _changed(WHITE, ".reshape(-1, 3, size, size)", ""),
        "raises": _changed(WHITE, "patches.T.cov()", "patches.cov(0)"),
    },
    "fewest_operations": {
        "accuracy": FEW,
        "untrained": _changed(FEW, "lr=0.1", "lr=1e-9"),
        "known": f"""
from course_utils.exercises import lesson_08
{FEWEST}

TRAINED = fewest_operations(*lesson_08.drawings())  # beforehand, where nobody counts

def fewest_operations(pictures, labels):
    return TRAINED
""",
        "unseen": """
def fewest_operations(pictures, labels):
    model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
    known = model(pictures)

    def scores(x):
        x = model(x)
        near = torch.stack([((known - row) ** 2).sum(1).topk(5, largest=False).indices for row in x])
        return F.one_hot(labels[near], 10).sum(1)

    return scores
""",
        "shape": "def fewest_operations(pictures, labels):\n    return lambda x: labels[: len(x)]",
        "returned": "def fewest_operations(pictures, labels):\n    nn.Linear(1, 1)",
        "raises": "def fewest_operations(pictures, labels):\n    return nn.Linear(10, 10)",
    },
}
