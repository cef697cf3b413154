"""The judge of a training epoch: what it shows the network, whether it learns, and how fast it is."""

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from tqdm import tqdm

from course_utils.data.cifar10 import PictureSet
from course_utils.machine.timing import Stopwatch

from ..trying import Mistake, Seen, mistake_if

SIDE, LEVELS, STEP = 32, 18, 13  # 18 x 18 marked pictures, told apart by 18 values of green and of blue
EPOCHS, LEARNED = 10, 0.5  # of the race; the first loop's mean loss is near 0 by then
Epoch = Callable[..., Any]


class Watched:
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
        middle = torch.cat(self.inputs)[:, 1:, SIDE // 2, SIDE // 2].cpu()
        low, high = middle.min(0).values, middle.max(0).values  # whatever they were scaled to
        levels = ((middle - low) / (high - low).clamp(min=1e-9) * (LEVELS - 1)).round().long()
        return levels[:, 0] + LEVELS * levels[:, 1]


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
    number, place = torch.arange(LEVELS**2), torch.arange(SIDE)
    pictures = torch.empty(LEVELS**2, SIDE, SIDE, 3, dtype=torch.uint8)
    pictures[..., 0] = 60 + 2 * place + 3 * place[:, None]
    pictures[..., 1:] = STEP * torch.stack([number % LEVELS, number // LEVELS], 1)[:, None, None]
    return pictures, torch.randint(10, (LEVELS**2,))


def judge_epoch(answer: Epoch) -> None:
    """Let an answer train a watched network on marked pictures, and ask what it has seen and done."""
    (pictures, labels), criterion, seen = _marked_pictures(), nn.CrossEntropyLoss(), Watched()
    device = seen.net[-1].bias.device
    before = [parameter.detach().clone() for parameter in seen.net.parameters()]
    said = answer(seen.net, pictures.to(device), labels.to(device), criterion, seen.optimizer)
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
        _judge_variety(batch[:, 0, SIDE // 2])
    loss = criterion(torch.cat(seen.logits).float().cpu(), labels[numbers]).item()
    rounding = 1e-4 if seen.logits[0].dtype == torch.float32 else 1e-2  # autocast has fewer digits
    if said is None or not math.isclose(_loss(said), loss, rel_tol=rounding):
        raise Mistake("mean", loss=loss, said=said)
    seen.inputs.clear()
    answer(seen.net, pictures.to(device), labels.to(device), criterion, seen.optimizer)
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
    patterns = nn.functional.interpolate(torch.cat([blocks, blocks.flip(3)], 3), SIDE, mode="bilinear")
    noisy = patterns.permute(0, 2, 3, 1)[labels] + 0.15 * torch.randn(size, SIDE, SIDE, 3)
    return (255 * noisy).clamp(0, 255).to(torch.uint8), labels


def _first_loop(pictures: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Return an epoch of the lesson's first loop."""
    variants = [transforms.RandomCrop(32, padding=2, padding_mode="edge"), transforms.RandomHorizontalFlip()]
    numbers = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
    steps = transforms.Compose([*variants, *numbers])
    kept = PictureSet(pictures.numpy(), labels.tolist(), source="exercise", train=True, transform=steps)
    loader, (net, optimizer) = DataLoader(kept, batch_size=64, shuffle=True), _network()
    device = net[-1].bias.device

    def epoch() -> None:
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x.to(device)), y.to(device)).backward()
            optimizer.step()

    return epoch


def race(answer: Epoch) -> Seen:
    """Train with an answer and, beside it, with the first loop; see how many times as fast it is."""
    pictures, labels = _easy_pictures(1_024)
    first, (net, optimizer) = _first_loop(pictures, labels), _network()
    device, said = net[-1].bias.device, None
    pictures, labels = pictures.to(device), labels.to(device)
    slow, fast = Stopwatch(device), Stopwatch(device)
    for epoch in tqdm(range(EPOCHS), "trying your epoch", leave=False, file=sys.stdout):
        if epoch < 2:
            with slow(f"epoch {epoch}"):
                first()
        with fast(f"epoch {epoch}"):
            said = answer(net, pictures, labels, nn.CrossEntropyLoss(), optimizer)
    mistake_if(not _loss(said) < LEARNED, "learns", loss=_loss(said), epochs=EPOCHS)
    # the best of each: whatever else runs only adds time
    return Seen(None, score=min(slow.seconds.values()) / min(fast.seconds.values()))
