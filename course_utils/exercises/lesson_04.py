"""The trials of lesson 04: a repaired network, a mean loss, a run that resumes, a faster epoch."""

import math
import re
import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms
from tqdm import tqdm

from course_utils.data.cifar10 import PictureSet
from course_utils.machine.timing import Stopwatch

from .instruments.placement import content_of, train_step, two_devices
from .lesson import Lesson
from .trying import Answer, Mistake, Seen, mistake_if, same

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
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 10)).eval()  # in train() mode it says something else
    x, y = 5 * torch.randn(size, 6), torch.randint(10, (size,))
    loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, drop_last=drop_last)
    with two_devices() as (_, device):  # not the GPU that a hard-coded "cuda" means
        said = answer(model.to(device), loader, nn.CrossEntropyLoss(label_smoothing=smoothing), device)
        mistake_if(not isinstance(said, int | float | torch.Tensor), "number", said=said)
        loss = torch.as_tensor(said)
        seen = (model.training, loss.requires_grad, loss.detach().cpu().float())
    sizes = [len(target) for _, target in loader]
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
                losses.append(train_step(self.model, self.optimizer, x[rows], y[rows]).item())
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
def resume(save_run: Answer, load_run: Answer, seed: int) -> dict[str, list[float]]:
    """See how a run goes on after it was saved, and how another one does after it has loaded the file."""
    run = _Run(seed)
    run.train(2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.pt")
        save_run(file, *run.parts)
        mistake_if(not file.exists(), "no_file")
        mistake_if(content_of(file) is None, "pickle")
        saved, goes_on = run.states(), run.train(3)
        fresh = _Run(seed + 20)
        load_run(file.rename(Path(folder, "moved.pt")), *fresh.parts)
    found, resumes = fresh.states(), fresh.train(3)
    missing = [key for key, state in saved.items() if not same(found[key], state)]
    if missing and resumes != goes_on:
        raise Mistake(missing[0])
    return {"goes on": goes_on, "resumes": resumes}


# ---- a faster epoch ------------------------------------------------------------------------------------
_SIDE, _LEVELS, _STEP = 32, 18, 13  # 18 x 18 marked pictures, told apart by 18 values of green and of blue
_EPOCHS, _LEARNED = 10, 0.5  # of the race; the first loop's mean loss is near 0 by then


class _Watched:
    """A network and its optimizer, and what an epoch did with them.

    Attributes:
        inputs, logits: of each batch that the network was shown.
        gradients: of the logits, in the order of `backward`.
        used: how many of the gradients were there when the optimizer took its last step.
        stale: whether it took a step by others than those computed since the step before.
    """

    def __init__(self) -> None:
        self.net, self.optimizer = _network()
        self.inputs, self.logits, self.gradients = (list[torch.Tensor]() for _ in range(3))
        self.used, self.stale = 0, False
        self.net.register_forward_hook(self._forward)
        self.optimizer.register_step_pre_hook(self._before_step)

    def _forward(self, net: nn.Module, args: tuple[torch.Tensor], logits: torch.Tensor) -> None:
        self.inputs.append(args[0].detach().float().clone())
        self.logits.append(logits.detach())
        if logits.requires_grad:
            logits.register_hook(self.gradients.append)

    def _before_step(self, *_: Any) -> None:
        bias = self.net[-1].bias  # its gradient is the sum of the logits' gradients, or stale
        fresh = sum((part.float().sum(0) for part in self.gradients[self.used :]), torch.zeros_like(bias))
        there = fresh.new_zeros(10) if bias.grad is None else bias.grad
        self.stale |= torch.cosine_similarity(fresh, there, 0).item() < 0.99
        self.used = len(self.gradients)

    def numbers(self) -> torch.Tensor:
        """Read in green and blue which of the marked pictures were shown, one after the other."""
        middle = torch.cat(self.inputs)[:, 1:, _SIDE // 2, _SIDE // 2].cpu()
        low, high = middle.min(0).values, middle.max(0).values  # whatever they were scaled to
        levels = ((middle - low) / (high - low).clamp(min=1e-9) * (_LEVELS - 1)).round().long()
        return levels[:, 0] + _LEVELS * levels[:, 1]


def _network() -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Return the layers of the lesson's `Net` on the machine's accelerator, else on the CPU, and its SGD."""
    torch.default_generator.manual_seed(0)  # the GPU's random numbers belong to the lesson
    convolutions = [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU()]
    linear = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    net = nn.Sequential(*convolutions, nn.MaxPool2d(2), nn.Flatten(), *linear)
    net.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    return net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)


def _marked_pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Return 324 uint8 pictures: green and blue name the picture, red rises to the right and downwards."""
    number, place = torch.arange(_LEVELS**2), torch.arange(_SIDE)
    pictures = torch.empty(_LEVELS**2, _SIDE, _SIDE, 3, dtype=torch.uint8)
    pictures[..., 0] = 60 + 2 * place + 3 * place[:, None]
    pictures[..., 1:] = _STEP * torch.stack([number % _LEVELS, number // _LEVELS], 1)[:, None, None]
    return pictures, torch.randint(10, (_LEVELS**2,))


def _judge_epoch(answer: Answer) -> None:
    """Let an answer train a watched network on marked pictures, and ask what it has seen and done."""
    (pictures, labels), criterion, seen = _marked_pictures(), nn.CrossEntropyLoss(), _Watched()
    device = seen.net[-1].bias.device
    before = [parameter.detach().clone() for parameter in seen.net.parameters()]
    train = partial(answer, seen.net, pictures.to(device), labels.to(device), criterion, seen.optimizer)
    said = train()
    rows = sum(map(len, seen.inputs))
    mistake_if(rows != len(labels), "count", rows=rows, pictures=len(labels))
    mistake_if(max(batch.abs().max().item() for batch in seen.inputs) > 10, "range")
    mistake_if(not len(seen.logits) == len(seen.gradients) == seen.used, "untrained")
    numbers = seen.numbers()
    mistake_if(len(numbers.unique()) != rows, "repeats")
    # only there the gradient of a cross-entropy is negative
    trained_for = torch.cat([gradient.argmin(1) for gradient in seen.gradients]).cpu()
    mistake_if(not torch.equal(trained_for, labels[numbers]), "labels")
    mistake_if(seen.stale, "zero_grad")
    mistake_if(any(map(torch.equal, before, seen.net.parameters())), "frozen")
    mistake_if(torch.equal(numbers, numbers.sort().values), "order")
    for batch in seen.inputs:
        _judge_variety(batch[:, 0, _SIDE // 2])
    loss = criterion(torch.cat(seen.logits).float().cpu(), labels[numbers]).item()
    rounding = 1e-4 if seen.logits[0].dtype == torch.float32 else 1e-2  # autocast has fewer digits
    if said is None or not math.isclose(_loss(said), loss, rel_tol=rounding):
        raise Mistake("mean", loss=loss, said=said)
    seen.inputs.clear()
    train()
    mistake_if(torch.equal(seen.numbers(), numbers), "again")


def _judge_variety(red: torch.Tensor) -> None:
    """Ask for a mirror image and a shift of its own for each row (n, 32) from the middle of a picture."""
    mirrored = red[:, 8] > red[:, 24]
    places = red[~mirrored, 16]
    mistake_if(len(mirrored) >= 16 and len(mirrored.unique()) == 1, "mirror")
    mistake_if(len(places) >= 8 and len(places.unique()) == 1, "shift")


def _loss(said: Any) -> float:
    """Return the loss that an epoch returned, alone or with more beside it."""
    return float(said[0] if isinstance(said, tuple) else said)


def _easy_pictures(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 pictures (size, 32, 32, 3) of ten symmetric patterns under noise, and their labels."""
    blocks, labels = torch.rand(10, 3, 4, 2), torch.randint(10, (size,))
    patterns = nn.functional.interpolate(torch.cat([blocks, blocks.flip(3)], 3), _SIDE, mode="bilinear")
    noisy = patterns.permute(0, 2, 3, 1)[labels] + 0.15 * torch.randn(size, _SIDE, _SIDE, 3)
    return (255 * noisy).clamp(0, 255).to(torch.uint8), labels


def _first_epoch(
    net: nn.Module, pictures: torch.Tensor, labels: torch.Tensor, optimizer: torch.optim.Optimizer
) -> None:
    """Train for an epoch as the lesson's first loop does."""
    variants = [transforms.RandomCrop(32, padding=2, padding_mode="edge"), transforms.RandomHorizontalFlip()]
    numbers = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
    steps = transforms.Compose([*variants, *numbers])
    kept = PictureSet(pictures.numpy(), labels.tolist(), source="exercise", train=True, transform=steps)
    device = net[-1].bias.device
    for x, y in DataLoader(kept, batch_size=64, shuffle=True):
        train_step(net, optimizer, x.to(device), y.to(device))


def _race(answer: Answer) -> Seen:
    """Train with an answer and, beside it, with the first loop; see how many times as fast it is."""
    (pictures, labels), (first, plain), (net, optimizer) = _easy_pictures(1_024), _network(), _network()
    device, said = net[-1].bias.device, None
    given = pictures.to(device), labels.to(device), nn.CrossEntropyLoss(), optimizer
    slow, fast = Stopwatch(device), Stopwatch(device)
    for epoch in tqdm(range(_EPOCHS), "trying your epoch", leave=False, file=sys.stdout):
        if epoch < 2:
            with slow(f"epoch {epoch}"):
                _first_epoch(first, pictures, labels, plain)
        with fast(f"epoch {epoch}"):
            said = answer(net, *given)
    mistake_if(not _loss(said) < _LEARNED, "learns", loss=_loss(said), epochs=_EPOCHS)
    # the best of each: whatever else runs only adds time
    return Seen(None, score=min(slow.seconds.values()) / min(fast.seconds.values()))


@lesson.trial([(_judge_epoch,), (_race,)], right=None)
def faster_epoch(answer: Any, look: Callable[..., Seen | None]) -> Seen | None:
    """See what an epoch shows the network, and how fast it is beside the lesson's first loop."""
    return look(answer)
