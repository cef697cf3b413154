"""The trials of lesson 02: what moves and what is saved, checkpoints, few copies."""

import contextlib
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from .guessing import read_guess
from .instruments.placement import filled, some_gpus
from .instruments.recorder import CPU, recording
from .lesson import Lesson
from .trying import Seen, mistake_if

lesson = Lesson("02")
globals().update(lesson.exercises, summary=lesson.summary)


@lesson.trial()
def who_changes(guess: Any, actual: list[str]) -> str:
    """Read a guess; what came out is the list of what changed."""
    if isinstance(guess, list | tuple):
        guess = guess[0] if len(guess) == 1 else "both" if guess else "neither"
    return read_guess(guess, who_changes.choices)


# ---- a layer with constants ----------------------------------------------------------------------------
def _look_at(look: str, layer: nn.Module, other: nn.Module, x: torch.Tensor, gpu: torch.device) -> Any:
    """See how a layer computes and moves, and how another one does with its numbers."""
    match look:
        case "before":
            found = layer(x.requires_grad_())
            return found, torch.autograd.grad(found.sum(), x) if found.requires_grad else None
        case "trained":
            return len(list(nn.Module.parameters(layer)))
        case "moved":
            return layer.to(gpu)(x.to(gpu)).cpu()
        case "in a model":
            model, on_gpu = nn.Sequential(layer).to(gpu), x.to(gpu)
            with recording() as record:
                found = model(on_gpu)
            return found.cpu(), len(record.host) > 0
        case "back":
            return layer.to(gpu).to(CPU)(x)
        case "saved":
            other.to(gpu).to(CPU).load_state_dict(layer.state_dict())
            return other(x)
        case "modes":
            return [layer.train(mode)(x) for mode in (True, False)]


@lesson.trial([(look,) for look in ("before", "trained", "moved", "in a model", "back", "saved", "modes")])
def standardize(answer: Any, look: str) -> Any:
    """Look at layers of the class; "apart" where one meets tensors on two devices."""
    mean, std, x = (torch.rand(size) + 0.5 for size in (3, 3, (4, 3)))
    layer, other = answer(mean, std), answer(torch.zeros(3), torch.ones(3))
    mistake_if(not isinstance(layer, nn.Module), "module")
    with some_gpus() as gpus:
        try:
            return _look_at(look, layer, other, x, gpus[-1])
        except RuntimeError as error:
            if "same device" not in str(error):
                raise
            return "apart"


# ---- a checkpoint --------------------------------------------------------------------------------------
# HTTPStatus.OK is a number of a class that a careful `torch.load` refuses, as it refuses all code
@lesson.trial([(7, 0, -1), (8, 0, 0), (9, 1, -1), (HTTPStatus.OK, 1, 0)])
def load_checkpoint(answer: Any, epoch: int, visible: int, writer: int) -> Any:
    """See what is loaded from a file that a GPU has written, on a machine with fewer, or with code in it."""
    with some_gpus() as gpus, TemporaryDirectory() as folder:
        saved, model = (filled(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))) for _ in range(2))
        path = Path(folder, "checkpoint.pt")
        model.to(gpus[0] if visible else CPU)
        held, home = list(model.parameters()), next(model.parameters()).device
        torch.save({"model": saved.to(gpus[writer]).state_dict(), "epoch": epoch}, path)
        with patch.multiple(torch.cuda, is_available=lambda: visible > 0, device_count=lambda: visible):
            if isinstance(epoch, HTTPStatus):
                with contextlib.suppress(Exception):
                    return answer(path, model) == epoch
                return False
            found = answer(path, model)
        now = [*model.parameters(), *model.buffers()]
        moved = any(tensor.device != home for tensor in now)
        replaced = any(one is not two for one, two in zip(held, model.parameters(), strict=True))
        return moved, replaced, [tensor.cpu() for tensor in now], isinstance(found, int) and found == epoch


# ---- few copies ----------------------------------------------------------------------------------------
@lesson.trial([((5, 3), -1), ((16,) * 8 + (8,), 0)])
def evaluate(answer: Any, sizes: tuple[int, ...], gpu: int) -> Seen:
    """See what is returned for batches of these sizes, what the model saw, and how many copies it took.

    The model's weights are more bytes than the images: it does not pay to bring the model to the data.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 10))
    images = [torch.randint(256, (size, 3, 16, 16), dtype=torch.uint8) for size in sizes]
    labels = [torch.randint(10, (size,)) for size in sizes]
    labels[0] = model(images[0] / 255).argmax(1)  # so that some are right
    means: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, x: means.append(x[0].detach().flatten(1).float().mean(1)))
    with some_gpus() as gpus:
        model.to(gpus[gpu])
        with recording() as record:
            found = answer(model, list(zip(images, labels, strict=True)), gpus[gpu])
        shown = torch.cat([torch.zeros(1), *(mean.cpu() for mean in means if mean.device == gpus[gpu])])
    wanted = (torch.cat(images) / 255).flatten(1).mean(1)
    saw_all = (wanted[:, None] - shown).abs().amin(1).max() < 1e-4
    mistake_if(not isinstance(found, tuple | list) or len(found) != 2, "pair")
    mistake_if(not all(type(number) in (float, int) for number in found), "tensor")
    counted = sum(record.host) >= sum(image.nbytes for image in images)  # no answer gets by with less
    seen = [torch.tensor(found), bool(saw_all), counted]
    return Seen(seen, score=len(record.host), kib=sum(record.host) / 1024)
