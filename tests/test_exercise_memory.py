"""Answers to lesson 06 that are nearly right: what stays on the card, and where the work is done."""

import pytest

import course_utils
from course_utils.exercises import lesson_06
from course_utils.exercises.exercise import NOT_YET, RIGHT

PAIRS = """
def accumulate(model, optimizer, x, y, size):
    optimizer.zero_grad()
    valid, pair = (y != -100).sum(), []
    for a, b in zip(x.split(size), y.split(size)):
        pair.append(F.cross_entropy(model(a), b, reduction="sum") / valid)
        if len(pair) == 2:
            sum(pair).backward()
            pair = []
    if pair:
        pair[0].backward()
    optimizer.step()
"""
RETAINED = """
def accumulate(model, optimizer, x, y, size):
    optimizer.zero_grad()
    valid, losses = (y != -100).sum(), []
    for a, b in zip(x.split(size), y.split(size)):
        losses.append(F.cross_entropy(model(a), b, reduction="sum") / valid)
        losses[-1].backward(retain_graph=True)
    optimizer.step()
"""
GRAPH_BEHIND_CPU_LOSSES = """
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None

    def batch(self, model, x, y):
        try:
            scores = model(x)
            self.losses.append(F.cross_entropy(scores, y).cpu())
            self.last = scores.detach()
        except ValueError as error:
            self.failed.append(str(error))

    def mean(self):
        self.losses = [loss.item() for loss in self.losses]
        return sum(self.losses) / len(self.losses)
"""
ANY_CUDA_ERROR = """
def careful_step(model, optimizer, x, y, size):
    while True:
        optimizer.zero_grad()
        try:
            for a, b in zip(x.split(size), y.split(size)):
                (F.cross_entropy(model(a), b, reduction="sum") / len(x)).backward()
            optimizer.step()
            return size
        except RuntimeError as error:
            if "CUDA" not in str(error) or size == 1:
                raise
        size //= 2
"""
ALL_GRAPHS = """
def careful_step(model, optimizer, x, y, size):
    while True:
        optimizer.zero_grad()
        losses = []
        try:
            for a, b in zip(x.split(size), y.split(size)):
                losses.append(F.cross_entropy(model(a), b, reduction="sum") / len(x))
            sum(losses).backward()
            optimizer.step()
            return size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        size //= 2
"""
SMALLEST_AT_ONCE = """
def careful_step(model, optimizer, x, y, size):
    optimizer.zero_grad()
    for a, b in zip(x.split(1), y.split(1)):
        (F.cross_entropy(model(a), b, reduction="sum") / len(x)).backward()
    optimizer.step()
    return 1
"""
GOES_ON_WHERE_IT_FAILED = """
def careful_step(model, optimizer, x, y, size):
    optimizer.zero_grad()
    done = 0
    while done < len(x):
        try:
            a, b = x[done:done + size], y[done:done + size]
            (F.cross_entropy(model(a), b, reduction="sum") / len(x)).backward()
            done += size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
    optimizer.step()
    return size
"""


def twin(device: str) -> str:
    return f"""
def smallest_step(model, optimizer, x, y):
    import copy
    other = copy.deepcopy(model).to("{device}")
    F.cross_entropy(other(x.to("{device}")), y.to("{device}")).backward()
    for one, two in zip(model.parameters(), other.parameters()):
        one.grad = two.grad.to(one.device)
    optimizer.step()
"""


TWO_HALF_STEPS = """
def smallest_step(model, optimizer, x, y):
    optimizer.param_groups[0]["lr"] /= 2
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.param_groups[0]["lr"] *= 2
"""
HIDES_THE_PEAK = """
from torch.cuda import reset_peak_memory_stats

def smallest_step(model, optimizer, x, y):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    reset_peak_memory_stats()
"""
STEPS_IN_EACH_PART = """
def smallest_step(model, optimizer, x, y):
    def now(parameter):
        optimizer.step()
        optimizer.zero_grad()

    hooks = [parameter.register_post_accumulate_grad_hook(now) for parameter in model.parameters()]
    for a, b in zip(x.split(64), y.split(64)):
        (F.cross_entropy(model(a), b, reduction="sum") / len(x)).backward()
    for hook in hooks:
        hook.remove()
"""
ROUNDED_STATE = """
def smallest_step(model, optimizer, x, y):
    for state in optimizer.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = state[name].bfloat16().float()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
"""

NEARLY = [
    ("accumulate", PAIRS, "late"),
    ("accumulate", RETAINED, "late"),
    ("ValidationLog", GRAPH_BEHIND_CPU_LOSSES, "losses"),
    ("careful_step", ANY_CUDA_ERROR, "swallow"),
    ("careful_step", ALL_GRAPHS, "kept"),
    ("careful_step", SMALLEST_AT_ONCE, "returned"),
    ("smallest_step", twin("cpu"), "elsewhere"),
    ("smallest_step", twin("cuda:1"), "elsewhere"),
    ("smallest_step", TWO_HALF_STEPS, "steps"),
    ("smallest_step", HIDES_THE_PEAK, "reset"),
    ("smallest_step", STEPS_IN_EACH_PART, "steps"),
    ("smallest_step", ROUNDED_STATE, "precision"),
]


def verdict(name: str, answer: str):
    made = {}
    exec(lesson_06.lesson.context + answer, made)
    with course_utils.virtual_gpus(2, "2 GiB"):
        return getattr(lesson_06, name).verdict(made[name])


@pytest.mark.parametrize(("name", "answer", "key"), NEARLY)
def test_nearly_right_is_not_right(name: str, answer: str, key: str) -> None:
    found = verdict(name, answer)
    assert (found.outcome, found.key) == (NOT_YET, key)


def test_a_step_that_goes_on_where_it_failed_is_right() -> None:
    assert verdict("careful_step", GOES_ON_WHERE_IT_FAILED).outcome == RIGHT


def test_the_par_of_the_golf_is_what_the_worked_answer_reaches() -> None:
    score = verdict("smallest_step", lesson_06.smallest_step.worked).score
    assert score.value == pytest.approx(score.par, abs=0.02)
    assert "reached" in str(score)


def test_judging_leaves_the_random_numbers_of_the_lesson_alone() -> None:
    import torch

    with course_utils.virtual_gpus(1, "2 GiB"):
        torch.manual_seed(0)
        wanted = torch.rand(2).tolist(), torch.rand(2, device="cuda").tolist()
        torch.manual_seed(0)
        for name in ("ValidationLog", "accumulate", "careful_step", "smallest_step"):
            made = {}
            exec(lesson_06.lesson.context + getattr(lesson_06, name).worked, made)
            assert getattr(lesson_06, name).verdict(made[name]).outcome == RIGHT
        assert (torch.rand(2).tolist(), torch.rand(2, device="cuda").tolist()) == wanted
