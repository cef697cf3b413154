"""The exercises of lesson 06: what memory is there when, what keeps it, and how a step gets by with less."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from . import progress
from .engine import Score, exercise, myth, wrong
from .judging.accumulating import try_accumulation
from .judging.golfing import golf_job, judge_golf
from .judging.leaking import judge_log
from .judging.placement import some_gpus
from .judging.surviving import judge_survivor

__all__ = ["golf_job", "summary"]

summary = partial(progress.summary, "06")


@contextmanager
def _gpu() -> Iterator[torch.device]:
    """Yield a GPU to measure on, where nothing waits to be collected."""
    with some_gpus() as gpus:
        gc.collect()
        yield gpus[0]


# ---- section 1: where every megabyte goes --------------------------------------------------------------
@exercise(
    kind="predict",
    minutes=2,
    difficulty="easy",
    stub="exercise.first_step.guess(...)",
    solution="exercise.first_step.guess(24)",
    reasoning="Adam keeps two averages for each parameter, of 12 MiB each, and makes them in the first step.",
    hints=(
        "How many numbers are there in three matrices of 1024 x 1024, and how many bytes has each?",
        "The parameters are 12 MiB. What does Adam keep for each of them, and from when on?",
    ),
    why="The optimizer's state comes with the first step, so a first forward that fits proves little.",
    choices=(0, 8, 12, 24, 36),
)
def first_step(guess: Any, actual: float) -> None:
    """By how many MiB does the memory in use grow in the first optimizer.step()?"""
    if isinstance(guess, bool) or not isinstance(guess, int | float):
        wrong("number", "Give a number of MiB.")
    came = actual or 24.0  # 0 where PyTorch keeps no count
    if abs(guess - came) <= 1:
        return
    if guess == 0:
        wrong("before", f"It grew by {came:.1f} MiB. It was making the optimizer that took nothing.")
    if guess in (4, 8):
        wrong("one_layer", f"That is one layer of three. In all it was {came:.1f} MiB.")
    if guess == 12:
        wrong("one_average", f"That is one average for each parameter. Adam keeps two: {came:.1f} MiB.")
    if guess in (36, 48):
        wrong("all", f"Parameters and gradients were there before. The step itself left {came:.1f} MiB.")
    wrong("other", f"It was {came:.1f} MiB: two averages for each of 3 x 1024 x 1024 parameters.")


# ---- section 2: allocated, reserved --------------------------------------------------------------------
_COLUMNS = ("allocated", "reserved", "both", "neither")


@exercise(
    kind="predict",
    minutes=1,
    difficulty="easy",
    stub="exercise.emptied.guess(...)",
    solution='exercise.emptied.guess("reserved")',
    reasoning="del has freed the tensor, so nothing more can leave the first column; empty_cache gives the "
    "segment in which it lay back to the driver.",
    hints=(
        "After del big no name holds the tensor. Which column counts tensors that live?",
        "empty_cache returns segments in which nothing lives. Which column counts segments?",
    ),
    why="empty_cache moves memory from PyTorch's reserve to the driver, and frees no tensor.",
    choices=_COLUMNS,
)
def emptied(guess: Any, actual: str) -> None:
    """After del big, which number falls when torch.cuda.empty_cache() is called?"""
    said = guess.strip().lower() if isinstance(guess, str) else guess
    if said not in _COLUMNS:
        wrong("choice", 'Choose one of "allocated", "reserved", "both" and "neither".')
    if said == actual:
        return
    if said == "allocated":
        wrong(said, "A tensor is no longer allocated once nothing holds it: that was done by del, before.")
    if said == "both":
        wrong(said, "The tensor was gone before, by del. Only the segment that it lay in was still kept.")
    if said == "neither":
        wrong(said, f"It was: {actual}. A segment in which nothing lives goes back to the driver.")
    wrong("other", f"It was: {actual}.")


@exercise(
    kind="repair",
    minutes=8,
    difficulty="medium",
    stub='''
        class ValidationLog:
            """The mean loss, the scores of the last good batch, and what went wrong with damaged ones."""

            def __init__(self):
                self.losses, self.failed, self.last = [], [], None

            def batch(self, model, x, y):
                try:
                    scores = model(x)
                    self.losses.append(F.cross_entropy(scores, y))
                    self.last = scores
                except ValueError as error:
                    self.failed.append(error)

            def mean(self):
                return sum(self.losses) / len(self.losses)
    ''',
    solution='''
        class ValidationLog:
            """The mean loss, the scores of the last good batch, and what went wrong with damaged ones."""

            def __init__(self):
                self.losses, self.failed, self.last = [], [], None

            def batch(self, model, x, y):
                try:
                    with torch.inference_mode():
                        scores = model(x)
                        self.losses.append(F.cross_entropy(scores, y))
                    self.last = scores.cpu()
                except ValueError as error:
                    self.failed.append(str(error))

            def mean(self):
                return torch.stack(self.losses).mean().item()
    ''',
    reasoning="In inference mode there is no graph that a loss or the scores could hold. Of an error only "
    "the text is kept: the error itself would hold the frames it went through, with their tensors.",
    hints=(
        "Three attributes are filled, and each of them keeps something alive. Take them one by one.",
        "Which of them hold a graph? A validation needs none. What is behind an error, besides its text?",
        "torch.inference_mode() around model and loss, and str(error) instead of error.",
    ),
    why="Such a log runs for days with the memory of one batch.",
)
def ValidationLog(answer: Any) -> None:
    """Repair the log: it keeps tensors of every batch on the card."""
    with _gpu() as gpu:
        judge_log(answer, gpu)


empty_cache_helps = myth(
    "empty_cache_helps",
    "Call torch.cuda.empty_cache() between two models, or the second one may run out of memory.",
    "false",
    "PyTorch empties its cache by itself before it gives up; what tensors still hold, neither can free.",
    {
        "true": "The cell below asks for more than there is beside the cache, and never calls it.",
        "outdated": "It has always been so: the allocator counts how often it did this, as you see below.",
    },
    __name__,
)


# ---- section 3: the levers -----------------------------------------------------------------------------
@exercise(
    kind="write",
    minutes=8,
    difficulty="medium",
    stub='''
        def accumulate(model, optimizer, x, y, size):
            """One training step on the whole batch, `size` samples at a time; label -100: does not count."""
            # your lines
    ''',
    solution='''
        def accumulate(model, optimizer, x, y, size):
            """One training step on the whole batch, `size` samples at a time; label -100: does not count."""
            optimizer.zero_grad()
            counting = (y != -100).sum()
            for part_x, part_y in zip(x.split(size), y.split(size), strict=True):
                loss = F.cross_entropy(model(part_x), part_y, reduction="sum") / counting
                loss.backward()
            optimizer.step()
    ''',
    reasoning="A mean is a sum divided by a count, and sums can be taken in parts. The count is that of the "
    "whole batch, and of the samples that the mean counts.",
    hints=(
        "Four things: gradients to zero once, a backward for each part, one step, and the right division.",
        "F.cross_entropy leaves out labels of -100, also in what it divides by. So by what does the plain "
        "step divide?",
        'reduction="sum" for each part, divided by the number of labels in the whole y that are not -100; '
        "x.split(size) makes the parts.",
    ),
    why="The right division is what makes accumulation the same training, and many codes have it wrong.",
)
def accumulate(answer: Any) -> None:
    """Write a step that trains as on the whole batch, with the memory of `size` samples."""
    with _gpu() as gpu:
        judge = partial(try_accumulation, gpu=gpu)
        judge(answer, 10, 3)
        judge(answer, 7, 10)
        judge(answer, 203, 40)
        judge(answer, 23, 5, unlabelled=(0, 1, 2, 9, 22))
        judge(answer, 12, 4, unlabelled=(4, 5, 6, 7, 11))


late_backward = myth(
    "late_backward",
    "Gradient accumulation means: several small batches, and then one backward.",
    "false",
    "backward runs after each chunk, which frees its activations; only the step is taken once.",
    {
        "true": "Compare the peaks below: what does a single backward at the end save?",
        "outdated": "It was never so. A graph lives until its backward, in every version of PyTorch.",
    },
    __name__,
)
mixed_halves = myth(
    "mixed_halves",
    "Mixed precision halves the memory of parameters and gradients.",
    "false",
    "With autocast both stay float32; it is the activations that shrink.",
    {
        "true": "The first line below prints the types that they have while autocast is on.",
        "outdated": "autocast never changed them. It computes with 16-bit copies.",
    },
    __name__,
)

_GRADIENTS = ("the same", "zero", "infinite")


@exercise(
    kind="predict",
    minutes=2,
    difficulty="medium",
    stub="exercise.half_gradient.guess(...)",
    solution='exercise.half_gradient.guess("zero")',
    reasoning="Each value's share is 2 x 0.01 / 786,432 times a number below 1: less than half of float16's "
    "smallest number, so it becomes 0, and a sum of zeros is zero.",
    hints=(
        "How large is one value's share: twice the difference, divided by 786,432?",
        "The differences are at most 0.01. Compare 0.02 / 786,432 with half of float16's smallest number.",
    ),
    why="A gradient that is lost on the way never comes back, and no error tells you.",
    choices=_GRADIENTS,
)
def half_gradient(guess: Any, actual: str) -> None:
    """What is the gradient in float16, without scaling, beside that in float32?"""
    said = guess.strip().lower() if isinstance(guess, str) else guess
    if isinstance(said, int | float) and said == 0:
        said = "zero"
    if said not in _GRADIENTS:
        wrong("choice", 'Choose one of "the same", "zero" and "infinite".')
    if said == actual:
        return
    if said == "the same":
        wrong("same", f"It came out {actual}. The shares are smaller than half of float16's smallest number.")
    if said == "infinite":
        wrong(said, f"It came out {actual}. Too large is the other end: float16 ends at 65,504.")
    wrong("other", f"It came out {actual}.")


scaler_name = myth(
    "scaler_name",
    "For float16, make a torch.cuda.amp.GradScaler().",
    "outdated",
    'The scaler is for all devices now: torch.amp.GradScaler("cuda"). The old name warns.',
    {
        "true": "It works, but read what the cell below has to say about this name.",
        "false": "Not quite: it works, and for years it was the only name. What does the cell below say?",
    },
    __name__,
)


# ---- section 4: when it happens anyway -----------------------------------------------------------------
@exercise(
    kind="repair",
    minutes=10,
    difficulty="hard",
    stub='''
        def careful_step(model, optimizer, x, y, size):
            """Train on the whole batch in parts of `size`, or half of it, and so on; return the size."""
            try:
                for part_x, part_y in zip(x.split(size), y.split(size), strict=True):
                    loss = F.cross_entropy(model(part_x), part_y) / len(x.split(size))
                    loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                return size
            except RuntimeError:
                return careful_step(model, optimizer, x, y, size // 2)
    ''',
    solution='''
        def careful_step(model, optimizer, x, y, size):
            """Train on the whole batch in parts of `size`, or half of it, and so on; return the size."""
            optimizer.zero_grad()
            try:
                for part_x, part_y in zip(x.split(size), y.split(size), strict=True):
                    # no name for the loss: after a failed backward it would keep the activations
                    (F.cross_entropy(model(part_x), part_y, reduction="sum") / len(x)).backward()
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            else:
                optimizer.step()
                return size
            return careful_step(model, optimizer, x, y, size // 2)
    ''',
    reasoning="Only the out-of-memory error is caught, and it is dead when the next try begins, because that "
    "is behind the block. Each try begins with zero gradients, and at size 1 the error goes through.",
    hints=(
        "There are five faults: what it catches, where it tries again, what a failed try leaves in .grad, "
        "how parts are weighted, and what half of 1 is.",
        "RuntimeError is every error of CUDA. torch.OutOfMemoryError is the one that smaller parts can cure.",
        "Leave the except block before the next try: let it do nothing (or `raise` at size 1), and call the "
        "function again below it. Set gradients to zero at the beginning of each try.",
    ),
    why="Only a step that fails cleanly can be tried again.",
)
def careful_step(answer: Any) -> None:
    """Repair the step, so that it survives out-of-memory errors and trains as on the whole batch."""
    with _gpu() as gpu:
        judge_survivor(answer, gpu)


# ---- Your turn -----------------------------------------------------------------------------------------
@exercise(
    kind="challenge",
    minutes=20,
    difficulty="hard",
    stub='''
        def smallest_step(model, optimizer, x, y):
            """One training step on the whole batch."""
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    ''',
    solution='''
        from torch.utils.checkpoint import checkpoint_sequential


        def smallest_step(model, optimizer, x, y):
            """One training step on the whole batch, each parameter as soon as its gradient is there."""

            def step_now(parameter):
                optimizer.step()  # passes over parameters without a gradient
                optimizer.zero_grad()

            optimizer.zero_grad()
            hooks = [p.register_post_accumulate_grad_hook(step_now) for p in model.parameters()]
            scores = checkpoint_sequential(model, 3, x, use_reentrant=False)
            F.cross_entropy(scores, y).backward()
            for hook in hooks:
                hook.remove()
    ''',
    reasoning="In small parts and with foreach=False the gradients remain, 8 MiB, and two temporary tensors. "
    "To be rid of the gradients as well, step each parameter in backward: then only one gradient lives at a "
    "time, but the batch must stay whole, and checkpointing in three segments lowers its activations.",
    hints=(
        "Draw the ledger of the plain step. Where is the peak, and what is it made of?",
        'Accumulation and optimizer.param_groups[0]["foreach"] = False bring you to about 10 MiB. '
        "What is left are the gradients, all at once. Must they all be there at once?",
        "A gradient is used up once its parameter has been stepped. p.register_post_accumulate_grad_hook(f) "
        "calls f(p) in backward as soon as the gradient of p is complete; optimizer.step() passes over "
        "parameters without a gradient. Remove the hooks in the end.",
        "With the hooks the batch must stay whole, so activations count again: checkpoint_sequential(model, "
        "segments, x, use_reentrant=False) from torch.utils.checkpoint.",
    ),
    why="A peak falls only where it stands: the ledger shows the place, and each change moves it.",
)
def smallest_step(answer: Any) -> Score:
    """Take the same training step with the smallest peak."""
    with _gpu() as gpu:
        return judge_golf(answer, gpu)
