"""Judging trainings by what they do: where an epoch waits for the GPU, and the fewest operations."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import torch
from torch import nn

from course_utils.data.standin import make_standin

from ..trying import Mistake, Seen, mistake_if
from .recorder import Record, recording
from .vectors import flat

BATCH = 8
TRAIN, TEST, WANTED = 1000, 1000, 0.55
_HEAVY = tuple("_cdist _euclidean_dist _pdist _fft linalg_ _linalg mkldnn_rnn lstm gru mv dot vdot".split())
_LARGE = 10_000  # numbers: below, an operation that nobody counts is small


def watch_epoch(answer: Callable[..., Any], gpu: torch.device, batches: int, bad: bool) -> Seen:
    """See how an answer trains a small network on a GPU for an epoch; with `bad`, a loss is no number.

    Raises:
        Mistake: Python waited between the first batch and the last step, or the answer cannot be compared.
    """
    samples = batches * BATCH - 3  # the last batch is smaller
    pictures, labels = torch.randint(256, (samples, 3, 8, 8)).float(), torch.randint(10, (samples,))
    if bad:
        pictures[samples // 2] = float("nan")
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).to(gpu)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    forwards, steps = [], []
    model.register_forward_hook(lambda layer, x, scores: forwards.append(scores.device.type))
    optimizer.register_step_post_hook(lambda *_: steps.append(len(forwards)))
    data = pictures.to(gpu), labels.to(gpu)
    try:
        with recording(lambda: (len(forwards), len(steps))) as record, redirect_stdout(io.StringIO()):
            said = answer(model, optimizer, *data, BATCH)
    except ValueError:
        if bad:
            return Seen("a ValueError")
        raise
    mistake_if(bad, "nan_lost")
    mistake_if(set(forwards) == {"cpu"}, "elsewhere")
    for kind, (step, done) in record.waits:
        mistake_if(step > 0 and done < len(steps), kind, step=step, batches=batches)
    try:
        loss, share = (torch.tensor(float(number)) for number in said)
    except (TypeError, ValueError, RuntimeError):
        raise Mistake("returned", said=said) from None
    return Seen({"loss": loss, "share": share, "parameters": flat(model.parameters()).cpu()})


@cache
def drawings(train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the stand-in drawings: float32 pictures (n, 3, 32, 32) around 0, and labels (n,) int64."""
    data, labels = make_standin(train, TRAIN if train else TEST)
    pictures = torch.from_numpy(data).permute(0, 3, 1, 2).float().sub_(120).div_(60).contiguous()
    return pictures, torch.tensor(labels)


def judge_operations(answer: Callable[..., Any]) -> float:
    """Let an answer train, test what it returns; return the GFLOP of both together."""
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
    mistake_if(tuple(getattr(scores, "shape", ())) != (TEST, 10), "shape", pictures=TEST)
    _judge_counts(record)
    chosen, right = scores.argmax(1), names[answers]
    accuracy, by_old_names = ((chosen == one).float().mean().item() for one in (right, answers))
    mistake_if(by_old_names > max(0.2, accuracy + 0.1), "known", elsewhere=by_old_names, accuracy=accuracy)
    mistake_if(accuracy < 0.2, "untrained", accuracy=accuracy)
    mistake_if(accuracy < WANTED, "accuracy", accuracy=accuracy)
    return record.flop / 1e9


def _judge_counts(record: Record) -> None:
    """See that the operations are of a kind that the counter counts."""
    unknown = [operation for operation in record.operations if operation.launch and not operation.flop]
    for operation in unknown:
        heavy = operation.numbers > _LARGE and operation.name.startswith(_HEAVY)
        mistake_if(heavy, "heavy", name=operation.name)
    gflop, billions = record.flop / 1e9, sum(operation.numbers for operation in unknown) / 1e9
    mistake_if(billions > gflop, "unseen", gflop=gflop, billions=billions)
