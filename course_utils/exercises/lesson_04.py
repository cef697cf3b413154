"""The trials of lesson 04: a repaired network, a mean loss, a run that resumes, a faster epoch."""

import re
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from .instruments.racing import judge_epoch, race
from .lesson import Lesson
from .trying import Mistake, Seen, mistake_if, same

lesson = Lesson("04")
globals().update(lesson.exercises, summary=lesson.summary)


# ---- a repaired network --------------------------------------------------------------------------------
def _rows(net: nn.Module, count: int) -> Seen:
    """See the shape of the scores of some pictures, or name the mistake behind an error."""
    try:
        scores = net(torch.randn(count, 3, 32, 32))
    except RuntimeError as error:
        said = str(error)  # such as "mat1 and mat2 shapes cannot be multiplied (4x1800 and 288x10)"
        mistake_if("multiplied" in said, "size", numbers=re.findall(r"(?<!mat)\d+", said))
        mistake_if("view size" in said or "is invalid for input of size" in said, "still")
        raise
    shape = tuple(getattr(scores, "shape", ()))
    if shape != (count, 10):
        return Seen("more rows" if len(shape) == 2 and shape[0] > count else "another shape", shape=shape)
    return Seen(bool(scores.min() >= 0 and torch.allclose(scores.sum(1), torch.ones(count), atol=1e-4)))


def _layers(net: nn.Module, _: int) -> Any:
    """See whether a relu stands between the layers, which are to be what they were."""
    net(torch.randn(2, 3, 32, 32))  # a lazy layer learns its size
    shapes = {tuple(parameter.shape): parameter for parameter in net.parameters()}
    mistake_if(shapes.keys() != {(8, 3, 3, 3), (8,), (10, 8 * 15 * 15), (10,)}, "layers")
    shapes[8, 3, 3, 3].zero_()
    shapes[8,].fill_(-1.0)  # relu makes 0 of it, so that only the last bias is left
    return torch.allclose(net(torch.randn(2, 3, 32, 32)), shapes[10,].expand(2, 10), atol=1e-5)


def _one_by_one(net: nn.Module, count: int) -> Any:
    """See whether the scores of a picture depend on this picture and on no other."""
    pictures = torch.randn(count, 3, 32, 32)
    scores, alone = net(pictures), torch.cat([net(picture[None]) for picture in pictures])
    return torch.allclose(scores, alone, atol=1e-4) and not torch.allclose(scores[0], scores[1])


def _wrong_size(net: nn.Module, count: int) -> Any:
    """See whether larger pictures are refused, or still give a row each."""
    try:
        return len(net(torch.randn(count, 3, 62, 62))) == count  # 8 x 30 x 30 numbers: 4 times 8 x 15 x 15
    except Exception:
        return True


@lesson.trial([(_rows, 4), (_rows, 64), (_rows, 1), (_layers, 0), (_one_by_one, 6), (_wrong_size, 5)])
def OneConv(answer: Any, look: Callable[[nn.Module, int], Any], count: int) -> Any:
    """Look at what the network makes of some pictures."""
    with torch.no_grad():
        return look((answer if isinstance(answer, nn.Module) else answer()).eval(), count)


# ---- a mean loss ---------------------------------------------------------------------------------------
@lesson.trial([(10, 4, False, 0.0), (12, 3, False, 0.0), (11, 4, True, 0.0), (9, 4, False, 0.3)])
def mean_loss(answer: Any, size: int, batch_size: int, drop_last: bool, smoothing: float) -> Seen:
    """See the loss of a model for batches of unequal size, and what became of the model."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 10)).eval()  # in train() mode it says something else
    x, y = 5 * torch.randn(size, 6), torch.randint(10, (size,))
    loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, drop_last=drop_last)
    said = answer(model.to(device), loader, nn.CrossEntropyLoss(label_smoothing=smoothing), device)
    mistake_if(not isinstance(said, int | float | torch.Tensor), "number", said=said)
    sizes, loss = [len(target) for _, target in loader], torch.as_tensor(said)
    seen = (model.training, loss.requires_grad, loss.detach().cpu().float())
    return Seen(seen, sizes=sizes, said=seen[2].item())


# ---- a run that resumes --------------------------------------------------------------------------------
class _Run:
    """A model with dropout and batch normalisation, its AdamW, its schedule, and a generator to shuffle."""

    def __init__(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)  # the GPU's random numbers belong to the lesson
        layers = nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
        self.model = nn.Sequential(*layers)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=8)
        self.shuffler = torch.Generator().manual_seed(seed + 100)
        self.parts = self.model, self.optimizer, self.schedule, self.shuffler  # what the reader is given

    def train(self, epochs: int) -> list[float]:
        """Train, and return for each epoch the losses of its batches and the loss of a measurement."""
        x, y, losses = torch.linspace(-2, 2, 120).sin().view(24, 5), torch.arange(24) % 3, []
        for _ in range(epochs):
            self.model.train()
            for rows in torch.randperm(24, generator=self.shuffler).split(8):
                self.optimizer.zero_grad()
                loss = cross_entropy(self.model(x[rows]), y[rows])
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
            self.schedule.step()
            with torch.no_grad():
                losses.append(cross_entropy(self.model.eval()(x), y).item())
        return losses

    def states(self) -> dict[str, Any]:
        """Return a copy of everything that the next loss depends on, by the key of who forgets it."""
        states = {
            "model": dict(self.model.named_parameters()),
            "buffers": dict(self.model.named_buffers()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "shuffler": self.shuffler.get_state(),
            "rng": torch.get_rng_state(),
        }
        return deepcopy(states)


@lesson.trial([(3,), (40,)])
def resume(save_run: Callable[..., Any], load_run: Callable[..., Any], seed: int) -> dict[str, list[float]]:
    """See how a run goes on after it was saved, and how another one does after it has loaded the file."""
    run = _Run(seed)
    run.train(2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.pt")
        save_run(file, *run.parts)
        mistake_if(not file.exists(), "no_file")
        try:
            torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise Mistake("pickle") from error
        saved, goes_on = run.states(), run.train(3)
        fresh = _Run(seed + 20)
        load_run(file.rename(Path(folder, "moved.pt")), *fresh.parts)
    found, resumes = fresh.states(), fresh.train(3)
    missing = [key for key, state in saved.items() if not same(found[key], state)]
    if missing and resumes != goes_on:
        raise Mistake(missing[0])
    return {"goes on": goes_on, "resumes": resumes}


# ---- a faster epoch ------------------------------------------------------------------------------------
@lesson.trial([(judge_epoch,), (race,)], right=None)
def faster_epoch(answer: Any, look: Callable[..., Seen | None]) -> Seen | None:
    """See what an epoch shows the network, and how fast it is beside the lesson's first loop."""
    return look(answer)
