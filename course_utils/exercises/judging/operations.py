"""Judging the fewest operations: train on drawings, reach an accuracy, every multiplication and addition counted."""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from course_utils.data.standin import make_standin

from ..engine import Score, wrong

TRAIN, TEST, WANTED = 1000, 500, 0.6
PAR = 30.0  # GFLOP
_HEAVY = ("_cdist", "_fft", "linalg_", "_linalg", "mkldnn_rnn", "mv", "dot", "vdot", "lstm", "gru", "_pdist")
_LARGE = 10_000  # numbers: below, an operation that nobody counts is small


@cache
def drawings(train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the stand-in drawings: float32 pictures (n, 3, 32, 32) around 0, and labels (n,) int64."""
    data, labels = make_standin(train, TRAIN if train else TEST)
    pictures = torch.from_numpy(data).permute(0, 3, 1, 2).float().sub_(120).div_(60).contiguous()
    return pictures, torch.tensor(labels)


class _Uncounted(TorchDispatchMode):
    """Adds up the numbers that went through operations which PyTorch's counter does not know.

    Attributes:
        numbers: how many, counted at an operation's largest tensor.
        heavy: the name of an operation that does much for each number, if there was one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.heavy = 0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry or any(
            r.alias_info for r in func._schema.returns if not _writes(r)
        ):
            return result
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        largest = max((tensor.numel() for tensor in tensors), default=0)
        name = func._schema.name.partition("::")[2]
        if largest > _LARGE and name.startswith(_HEAVY):
            self.heavy = name
        self.numbers += largest
        return result


def _writes(value: Any) -> bool:
    return value.alias_info is not None and value.alias_info.is_write


def judge_operations(answer: Callable[..., Any]) -> Score:
    """Let an answer train, test what it returns; return the GFLOP of both together."""
    names = torch.tensor([3, 8, 5, 0, 7, 9, 1, 6, 2, 4])  # the classes' numbers, as only this judge has them
    (pictures, labels), (unseen, answers) = drawings(True), drawings(False)
    print("Training with your function; this takes some seconds.", file=sys.stdout, flush=True)
    with FlopCounterMode(display=False) as counter, _Uncounted() as rest:
        torch.default_generator.manual_seed(0)
        model = answer(pictures.clone(), names[labels])
        if not callable(model):
            wrong(
                "returned",
                f"It should return something that can be called with pictures; it returned {model!r}.",
            )
        if isinstance(model, torch.nn.Module):
            model.eval()
        with torch.no_grad():
            scores = model(unseen.clone())
    if tuple(getattr(scores, "shape", ())) != (TEST, 10):
        wrong("shape", f"For {TEST} pictures the model should return scores of shape {(TEST, 10)}.")
    chosen, right = scores.argmax(1), names[answers]
    _judge_accuracy((chosen == right).float().mean().item(), (chosen == answers).float().mean().item())
    flop = counter.get_total_flops()
    if rest.heavy:
        wrong(
            "unseen",
            f"It uses {rest.heavy}, whose operations PyTorch's counter does not know. Do without it.",
        )
    if rest.numbers > flop:
        wrong(
            "unseen",
            f"The counter saw {flop / 1e9:.2f} GFLOP, and {rest.numbers / 1e9:.2f} billion numbers went through "
            "operations that it does not know. A product written as multiply and sum is still a product.",
        )
    return Score(flop / 1e9, "GFLOP", PAR)


def _judge_accuracy(accuracy: float, by_old_names: float) -> None:
    if by_old_names > accuracy:
        wrong(
            "known",
            f"It finds {by_old_names:.0%} of the classes by the numbers that they have elsewhere, and {accuracy:.0%} "
            "by those it was given: it was trained before, on other data. Learn from what is handed in.",
        )
    if accuracy < 0.2:
        wrong("untrained", f"It gets {accuracy:.0%} right; a blind guess gets 10%. Is the network trained?")
    if accuracy < WANTED:
        wrong("accuracy", f"It gets {accuracy:.1%} of the test pictures right; {WANTED:.0%} are asked for.")
