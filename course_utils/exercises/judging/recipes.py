"""Judging pieces of a fast recipe: the schedule of the learning rate, mirroring in turn, whitening."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..engine import wrong

Answer = Callable[..., Any]
START = 0.2  # of the highest learning rate, in the first step


# ---- the triangle --------------------------------------------------------------------------------------
def judge_triangle(answer: Answer) -> None:
    """Ask for the learning rates of several trainings."""
    for pictures, batch, epochs, top, peak in (
        (1000, 10, 3, 1.0, 0.25),
        (1030, 100, 20, 0.4, 0.23),
        (50, 64, 40, 2.0, 0.5),
    ):
        found = answer(pictures, batch, epochs, top, peak)
        if found is None or not hasattr(found, "__iter__"):
            wrong("list", f"It should return a list of learning rates, and returned {found!r}.")
        rates = torch.tensor([float(rate) for rate in found], dtype=torch.float64)
        _judge_length(len(rates), pictures, batch, epochs)
        _judge_rates(rates / top, peak)


def _judge_length(found: int, pictures: int, batch: int, epochs: int) -> None:
    each = -(-pictures // batch)
    if found == each * epochs:
        return
    said = f"It returns {found} learning rates for {each * epochs} steps."
    if found == pictures // batch * epochs or found == pictures * epochs // batch:
        wrong("last_batch", f"{said} The last batch of an epoch may be smaller, and is a step all the same.")
    if found == each:
        wrong("one_epoch", f"{said} Those are the steps of one epoch.")
    if found == epochs:
        wrong("epochs", f"{said} There is one for each epoch. The learning rate changes in every step.")
    wrong("length", f"{said} One for each step of each epoch is asked for.")


def _judge_rates(rates: torch.Tensor, peak: float) -> None:
    """Compare learning rates, as shares of the highest, with the triangle, give or take a step."""
    steps = len(rates)
    step = torch.arange(steps, dtype=torch.float64)
    up, down = START + (1 - START) * step / (peak * steps), (steps - step) / ((1 - peak) * steps)
    right = torch.minimum(up, down)
    slack = 1.6 / steps * max((1 - START) / peak, 1 / (1 - peak))
    off = (rates - right).abs()
    if off.max() <= slack:
        return
    highest = int(rates.argmax())
    if rates.max() < 1 - 2 * slack or rates.max() > 1 + slack:
        wrong("top", f"Its highest value is {rates.max():.3g} times `top`, and should be `top`.")
    if rates.min() < -1e-9:
        wrong("negative", "Some learning rates are negative: such a step climbs the loss.")
    if abs(highest - peak * steps) > 2:
        wrong("peak", f"It is highest in step {highest} of {steps}, and should be there at {peak:.0%}.")
    if off[0] > slack:
        wrong("start", f"It begins at {rates[0]:.2g} times `top`, and should begin at {START} times.")
    if off[-1] > slack:
        wrong("end", f"It ends at {rates[-1]:.2g} times `top`, and should end near 0.")
    wrong("straight", "Ends and peak are right. Between them it should be two straight lines.")


# ---- mirroring in turn ---------------------------------------------------------------------------------
def judge_flip(answer: Answer) -> None:
    """Ask for the batches of four epochs, in different orders."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(8)
        pictures, first = torch.randn(40, 3, 32, 32), torch.rand(40) < 0.5
        orders = [torch.randperm(40) for _ in range(4)]
    for epoch, order in enumerate(orders):
        for rows in order.split(16):
            _judge_mirrored(answer, pictures, rows, first, epoch)


def _judge_mirrored(
    answer: Answer, pictures: torch.Tensor, rows: torch.Tensor, first: torch.Tensor, epoch: int
) -> None:
    batch, given, drawn = pictures[rows], pictures[rows], first.clone()
    found = answer(batch, rows, drawn, epoch)
    if not isinstance(found, torch.Tensor) or found.shape != given.shape:
        wrong("shape", f"It should return a batch of shape {tuple(given.shape)}.")
    if not torch.equal(batch, given) or not torch.equal(drawn, first):
        wrong("in_place", "It changes what it was handed. Return a new batch, and leave `first` as it is.")
    flipped = [torch.equal(one, two.flip(2)) for one, two in zip(found, given, strict=True)]
    plain = [torch.equal(one, two) for one, two in zip(found, given, strict=True)]
    if any(torch.equal(one, two.flip(1)) for one, two in zip(found, given, strict=True)):
        wrong("upside_down", "Some pictures stand on their heads. Left and right are the last axis.")
    if not all(a or b for a, b in zip(flipped, plain, strict=True)):
        wrong("other", "Some pictures are neither what they were nor mirrored.")
    said = torch.tensor(flipped)
    if torch.equal(said, first[rows] ^ (epoch % 2 == 1)):
        return
    if torch.equal(said, first[rows]):
        wrong(
            "same", f"In epoch {epoch} the same pictures are mirrored as in epoch 0. They should take turns."
        )
    if torch.equal(said, ~first[rows] ^ (epoch % 2 == 1)):
        wrong("inverted", "In epoch 0 `first` says which pictures are mirrored; here it is the others.")
    if torch.equal(said, first[: len(rows)] ^ (epoch % 2 == 1)):
        wrong(
            "rows", "It takes the first numbers of `first`. The batch holds other pictures: those of `rows`."
        )
    if all(flipped) or all(plain):
        wrong("batch", "It mirrors all pictures of a batch or none. Each picture has a turn of its own.")
    wrong("turns", f"In epoch {epoch} it mirrors other pictures than those whose turn it is.")


# ---- whitening -----------------------------------------------------------------------------------------
def judge_whitening(answer: Answer) -> None:
    """Ask for filters for patches of two sizes, and look at their outputs for fresh pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(9)
        for size in (2, 3):
            filters = _filters(answer, _smooth_pictures(400), size)
            fresh = _smooth_pictures(400)
            outputs = nn.functional.conv2d(fresh, filters).transpose(0, 1).flatten(1)
            patches = nn.functional.unfold(fresh, size).transpose(0, 1).flatten(1)
            _judge_covariance(outputs.cov(), torch.linalg.eigvalsh(patches.cov()))
        grey = _smooth_pictures(100)[:, :1].expand(-1, 3, -1, -1)
        filters = _filters(answer, grey, 2)
    if filters.abs().max() > 300:
        wrong(
            "zero",
            "In grey pictures the colours agree, so some directions have no variance, and their filters "
            f"become as large as {filters.abs().max():.0e}: divided by nearly 0. Add 5e-4 before the root.",
        )


def _smooth_pictures(count: int) -> torch.Tensor:
    """Return pictures (count, 3, 12, 12) around 0, in which colours and neighbours are alike.

    Left is unlike right, and rows are unlike columns: filters that mix these up do not whiten.
    """
    noise, grey = torch.randn(count, 3, 12, 12), torch.randn(count, 1, 14, 14)
    smoothing = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    filters = torch.stack([smoothing, smoothing.flip(0) / 2, smoothing.T.flip(1) / 3])
    return 0.5 * noise + nn.functional.conv2d(grey, filters[:, None])


def _filters(answer: Answer, pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Return an answer's filters, if they have the right shape."""
    found, count = answer(pictures.clone(), size), 3 * size**2
    shape = tuple(getattr(found, "shape", ()))
    if shape == (2 * count, 3, size, size):
        wrong("negatives", f"These are {2 * count} filters. Without the negatives {count} are asked for.")
    if shape != (count, 3, size, size):
        wrong(
            "shape",
            f"Filters of shape {(count, 3, size, size)} are asked for; it returned {shape or found!r}.",
        )
    if not found.isfinite().all():
        wrong("nan", "Some filters are not finite: a variance of about 0 may come out a little below 0.")
    return found.detach().float()


def _judge_covariance(covariance: torch.Tensor, before: torch.Tensor) -> None:
    """Compare the outputs' covariance with that of uncorrelated numbers of variance 1.

    Args:
        covariance: of the outputs.
        before: variances of the patches along their own directions, from the smallest.
    """
    variances = covariance.diagonal()
    scale = variances.clamp(min=1e-12).sqrt()
    correlation = (covariance / scale / scale[:, None]).fill_diagonal_(0).abs().max()
    if correlation > 0.15:
        wrong(
            "correlated",
            f"Two outputs are still alike: a correlation of {correlation:.2f}. eigh returns the directions "
            "as columns, and a filter is one direction, in the order (colour, row, column).",
        )
    found, text = variances.sort().values, "The outputs are uncorrelated, but their variances are not all 1: "
    for key, values, hint in (
        ("unscaled", before, "they are still those of the patches."),
        ("root", 1 / before, "a filter twice as long has four times the variance. Divide by the root."),
        ("multiplied", before**2, "the large ones have become larger. Divide by the root of the variance."),
    ):
        if (found / values.sort().values).log().abs().max() < 0.3:
            wrong(key, text + hint)
    if (found - 1).abs().max() > 0.15:
        wrong("scale", f"{text}they go from {found[0]:.2g} to {found[-1]:.2g}.")
