"""The judge of a training epoch: what it shows the network, whether it learns, and how fast it is."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from course_utils.machine.timing import synchronize

from ..trying import Mistake, mistake_if
from .watching import Marks, Watched, easy_pictures, first_loop, marked_pictures, read_marks


def judge_epoch(answer: Callable[..., Any]) -> None:
    """Let an answer train a watched network on marked pictures, and ask what it has seen and done."""
    pictures, labels = marked_pictures(seed=5)
    model, criterion = Watched(0, keep_inputs=True), nn.CrossEntropyLoss()
    device = next(model.parameters()).device
    data = pictures.to(device), labels.to(device), criterion, model.optimizer
    before = [parameter.detach().clone() for parameter in model.parameters()]
    said = answer(model, *data)
    _check_count(model, len(labels))
    marks = read_marks(model.inputs)
    _check_training(model, marks, labels)
    if any(torch.equal(a, b.detach()) for a, b in zip(before, model.parameters(), strict=True)):
        raise Mistake("frozen")
    _check_variety(marks)
    loss = criterion(torch.cat(model.logits).float().cpu(), labels[marks.numbers]).item()
    said = said[0] if isinstance(said, tuple) else said
    rounding = 1e-4 if model.logits[0].dtype == torch.float32 else 1e-2  # autocast has fewer digits
    if said is None or not math.isclose(float(said), loss, rel_tol=rounding):
        raise Mistake("mean", loss=loss, said=said)
    model.forget()
    answer(model, *data)
    mistake_if(torch.equal(read_marks(model.inputs).numbers, marks.numbers), "again")


def _check_training(model: Watched, marks: Marks, labels: torch.Tensor) -> None:
    """Ask that every batch was trained on, each picture once, with its own label and fresh gradients."""
    mistake_if(max(batch.abs().max().item() for batch in model.inputs) > 10, "range")
    mistake_if(not model.steps or len(model.gradients) != len(model.logits), "untrained")
    mistake_if(len(marks.numbers.unique()) != len(labels), "repeats")
    mistake_if(not torch.equal(model.targets(), labels[marks.numbers]), "labels")
    mistake_if(model.uses_old_gradients(), "zero_grad")


def _check_count(model: Watched, pictures: int) -> None:
    """Ask that every picture was seen."""
    mistake_if(model.rows != pictures, "count", rows=model.rows, pictures=pictures)


def _check_variety(marks: Marks) -> None:
    """Ask for a random order, and for a shift and a mirror of its own for each picture."""
    mistake_if(torch.equal(marks.numbers, marks.numbers.sort().values), "order")
    mistake_if(any(len(flip) >= 16 and len(flip.unique()) == 1 for flip in marks.mirrored), "mirror")
    mistake_if(any(len(place) >= 8 and len(place.unique()) == 1 for place in marks.places), "shift")


def race(answer: Callable[..., Any], epochs: int = 10) -> float:
    """Train with an answer and, beside it, with the first loop; return how many times as fast it is."""
    pictures, labels = easy_pictures(1_024, seed=0)
    criterion, slow, fast = nn.CrossEntropyLoss(), Watched(1), Watched(1)
    device = next(fast.parameters()).device
    first, data = first_loop(pictures, labels), (pictures.to(device), labels.to(device))
    slow_seconds, fast_seconds = [], []
    for epoch in tqdm(range(epochs), "trying your epoch", leave=False, file=sys.stdout):
        if epoch < 2:
            slow_seconds.append(_seconds(lambda: first(slow, criterion, slow.optimizer), device))
        fast.forget()
        fast_seconds.append(_seconds(lambda: answer(fast, *data, criterion, fast.optimizer), device))
        _check_count(fast, len(labels))
    if fast.accuracy() < 0.9:
        key = "steps" if len(fast.steps) < 5 else "learns"
        raise Mistake(key, accuracy=fast.accuracy(), steps=len(fast.steps), epochs=epochs)
    return min(slow_seconds) / min(fast_seconds)  # the best of each: whatever else runs only adds time


def _seconds(epoch: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    epoch()
    synchronize(device)
    return time.perf_counter() - start
