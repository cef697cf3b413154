"""Judging the fewest operations: train on drawings, reach an accuracy, every operation counted."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from course_utils.data.standin import make_standin
from course_utils.memory.labels import tensors_in

from ..trying import Mistake, mistake_if

TRAIN, TEST, WANTED = 1000, 1000, 0.55
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
        elif not func.is_view:
            largest = max((tensor.numel() for tensor in tensors_in((args, result))), default=0)
            name = func._schema.name.partition("::")[2]
            self.numbers += largest
            self.heavy = name if largest > _LARGE and name.startswith(_HEAVY) else self.heavy
        return result


def judge_operations(answer: Callable[..., Any]) -> float:
    """Let an answer train, test what it returns; return the GFLOP of both together."""
    names = torch.tensor([3, 8, 5, 0, 7, 9, 1, 6, 2, 4])  # the classes' numbers, as only this judge has them
    (pictures, labels), (unseen, answers) = drawings(True), drawings(False)
    print("Training with your function; this takes some seconds.", flush=True)
    with Operations() as counted:
        torch.default_generator.manual_seed(0)
        model = answer(pictures.clone(), names[labels])
        mistake_if(not callable(model), "returned", said=model)
        if isinstance(model, torch.nn.Module):
            model.eval()
        with torch.no_grad():
            scores = model(unseen.clone())
    mistake_if(tuple(getattr(scores, "shape", ())) != (TEST, 10), "shape", pictures=TEST)
    _judge_counts(counted)
    chosen, right = scores.argmax(1), names[answers]
    _judge_accuracy((chosen == right).float().mean().item(), (chosen == answers).float().mean().item())
    return counted.flop / 1e9


def _judge_counts(counted: Operations) -> None:
    """See that the operations are of a kind that the counter counts."""
    mistake_if(counted.heavy, "heavy", name=counted.heavy)
    if counted.numbers > counted.flop:
        raise Mistake("unseen", gflop=counted.flop / 1e9, billions=counted.numbers / 1e9)


def _judge_accuracy(accuracy: float, by_old_names: float) -> None:
    """Ask for the accuracy, by the classes' numbers of this judge and not by those they have elsewhere."""
    mistake_if(by_old_names > max(0.2, accuracy + 0.1), "known", elsewhere=by_old_names, accuracy=accuracy)
    mistake_if(accuracy < 0.2, "untrained", accuracy=accuracy)
    mistake_if(accuracy < WANTED, "accuracy", accuracy=accuracy)
