"""Judging the fewest operations: train on drawings, reach an accuracy, every operation counted."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from course_utils.data.standin import make_standin

from ..engine import Score, wrong

TRAIN, TEST, WANTED = 1000, 1000, 0.55
PAR = 9.4  # GFLOP
_HEAVY = (
    "_cdist",
    "_euclidean_dist",
    "_fft",
    "linalg_",
    "_linalg",
    "mkldnn_rnn",
    "mv",
    "dot",
    "vdot",
    "lstm",
    "gru",
    "_pdist",
)
_LARGE = 10_000  # numbers: below, an operation that nobody counts is small


@cache
def drawings(train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the stand-in drawings: float32 pictures (n, 3, 32, 32) around 0, and labels (n,) int64."""
    data, labels = make_standin(train, TRAIN if train else TEST)
    pictures = torch.from_numpy(data).permute(0, 3, 1, 2).float().sub_(120).div_(60).contiguous()
    return pictures, torch.tensor(labels)


class Operations(TorchDispatchMode):
    """Counts in a `with` block, with the formulas of `torch.utils.flop_counter`, which is slower at it.

    Attributes:
        flop: multiplications and additions.
        numbers: how many went through operations that have no formula, counted at the largest tensor.
        heavy: the name of an operation without a formula that does much for each number, if there was one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = self.numbers = 0
        self.heavy = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation; one that is made of others, as in inference mode, by its parts."""
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None:
            self.flop += formula(*args, **kwargs, out_val=result)
        elif not _is_view(func):
            largest = _largest((args, result))
            name = func._schema.name.partition("::")[2]
            self.numbers += largest
            self.heavy = name if largest > _LARGE and name.startswith(_HEAVY) else self.heavy
        return result


@cache
def _is_view(func: Any) -> bool:
    """Tell whether an operation returns memory that was there, and writes nothing."""
    infos = [value.alias_info for value in func._schema.returns]
    return any(info is not None and not info.is_write for info in infos)


def _largest(value: Any) -> int:
    """Return how many numbers the largest tensor has, also inside lists."""
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0)
    return value.numel() if isinstance(value, torch.Tensor) else 0


def judge_operations(answer: Callable[..., Any]) -> Score:
    """Let an answer train, test what it returns; return the GFLOP of both together."""
    names = torch.tensor([3, 8, 5, 0, 7, 9, 1, 6, 2, 4])  # the classes' numbers, as only this judge has them
    (pictures, labels), (unseen, answers) = drawings(True), drawings(False)
    print("Training with your function; this takes some seconds.", flush=True)
    with Operations() as counted:
        torch.default_generator.manual_seed(0)
        model = answer(pictures.clone(), names[labels])
        if not callable(model):
            wrong(
                "returned",
                f"It should return a model to be called with pictures; it returned {model!r}.",
            )
        if isinstance(model, torch.nn.Module):
            model.eval()
        with torch.no_grad():
            scores = model(unseen.clone())
    if tuple(getattr(scores, "shape", ())) != (TEST, 10):
        wrong("shape", f"For {TEST} pictures the model should return scores of shape {(TEST, 10)}.")
    _judge_counts(counted)
    chosen, right = scores.argmax(1), names[answers]
    _judge_accuracy((chosen == right).float().mean().item(), (chosen == answers).float().mean().item())
    return Score(counted.flop / 1e9, "GFLOP", PAR)


def _judge_counts(counted: Operations) -> None:
    """See that the operations are of a kind that the counter counts."""
    if counted.heavy:
        wrong(
            "unseen",
            f"It uses {counted.heavy}, whose operations PyTorch's counter does not know. Do without it, or "
            "write it as a matrix product.",
        )
    if counted.numbers > counted.flop:
        wrong(
            "unseen",
            f"The counter saw {counted.flop / 1e9:.2f} GFLOP, and {counted.numbers / 1e9:.2f} billion "
            "numbers went through operations that it does not count. A product as multiply and sum?",
        )


def _judge_accuracy(accuracy: float, by_old_names: float) -> None:
    """Ask for the accuracy, by the classes' numbers of this judge and not by those they have elsewhere."""
    if by_old_names > max(0.2, accuracy + 0.1):
        wrong(
            "known",
            f"It finds {by_old_names:.0%} of the classes by the numbers that they have elsewhere, and "
            f"{accuracy:.0%} by those it was given: it was trained before. Learn from what is handed in.",
        )
    if accuracy < 0.2:
        wrong("untrained", f"It gets {accuracy:.0%} right; a blind guess gets 10%. Is the network trained?")
    if accuracy < WANTED:
        wrong("accuracy", f"It gets {accuracy:.1%} of the test pictures right; {WANTED:.0%} are asked for.")
