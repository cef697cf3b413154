"""Watching an epoch for waits: every number that is read from the GPU, every tensor that is copied."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import nn

from ..trying import Mistake, Seen, mistake_if
from .recorder import recording
from .vectors import flat

BATCH = 8


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
