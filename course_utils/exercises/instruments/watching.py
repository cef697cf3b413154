"""How an epoch is observed: pictures with a mark each, and a network that notes what it is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from course_utils.data.cifar10 import PictureSet

SIDE, LEVELS, STEP = 32, 18, 13  # 18 x 18 marked pictures, told apart by 18 values of green and of blue
LEARNING_RATE = 0.01
Epoch = Callable[..., Any]


class Watched(nn.Module):
    """The lesson's network; it notes what it is shown, what it says, and where the gradients point to.

    Attributes:
        inputs, logits, gradients: a tensor for each batch; `inputs` only if they are kept, `gradients`
            (of the logits) in the order of `backward`.
        steps: for each step of the optimizer, how many gradients there were, and the last bias' gradient.
    """

    def __init__(self, seed: int, *, keep_inputs: bool = False) -> None:
        super().__init__()
        self.net, self.keep_inputs = _network(seed), keep_inputs
        self.optimizer = torch.optim.SGD(self.parameters(), lr=LEARNING_RATE, momentum=0.9)
        self.optimizer.register_step_pre_hook(self._before_step)
        self.forget()

    def forget(self) -> None:
        """Begin new notes."""
        self.inputs: list[torch.Tensor] = []
        self.logits: list[torch.Tensor] = []
        self.gradients: list[torch.Tensor] = []
        self.steps: list[tuple[int, torch.Tensor | None]] = []

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, 10) of float pictures (n, 3, 32, 32)."""
        logits = self.net(pictures)
        if self.keep_inputs:
            self.inputs.append(pictures.detach().float().clone())
        self.logits.append(logits.detach())
        if logits.requires_grad:
            logits.register_hook(self.gradients.append)
        return logits

    def _before_step(self, *_: Any) -> None:
        gradient = self.net[-1].bias.grad
        self.steps.append((len(self.gradients), None if gradient is None else gradient.clone()))

    @property
    def rows(self) -> int:
        """How many pictures have been seen."""
        return sum(map(len, self.logits))

    def targets(self) -> torch.Tensor:
        """Return the labels that were trained for: only there the cross-entropy's gradient is negative."""
        return torch.cat([gradient.argmin(1) for gradient in self.gradients]).cpu()

    def accuracy(self) -> float:
        """Return the share of right answers in the notes."""
        return (torch.cat(self.logits).argmax(1).cpu() == self.targets()).float().mean().item()

    def uses_old_gradients(self) -> bool:
        """Tell whether some step followed other gradients than those computed since the step before."""
        begin = 0
        for end, gradient in self.steps:
            fresh = [part.float().sum(0) for part in self.gradients[begin:end]]
            if gradient is None or not fresh:
                return True
            if torch.cosine_similarity(sum(fresh), gradient.float(), 0).item() < 0.99:
                return True
            begin = end
        return False


def _network(seed: int) -> nn.Sequential:
    """Return the layers of the lesson's `Net` on the machine's accelerator, else on the CPU."""
    torch.manual_seed(seed)
    convolutions = [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU()]
    linear = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    net = nn.Sequential(*convolutions, nn.MaxPool2d(2), nn.Flatten(), *linear)
    return net.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")


def easy_pictures(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 pictures (size, 32, 32, 3) of ten symmetric patterns under noise, and their labels."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (size,), generator=draw)
    blocks = torch.rand(10, 3, 4, 2, generator=torch.Generator().manual_seed(1))
    patterns = nn.functional.interpolate(torch.cat([blocks, blocks.flip(3)], 3), SIDE, mode="bilinear")
    noise = 0.15 * torch.randn(size, SIDE, SIDE, 3, generator=draw)
    return (255 * (patterns.permute(0, 2, 3, 1)[labels] + noise)).clamp(0, 255).to(torch.uint8), labels


def marked_pictures(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 324 uint8 pictures: green and blue name the picture, red rises to the right and downwards."""
    number, place = torch.arange(LEVELS**2), torch.arange(SIDE)
    pictures = torch.empty(LEVELS**2, SIDE, SIDE, 3, dtype=torch.uint8)
    pictures[..., 0] = 60 + 2 * place + 3 * place[:, None]
    pictures[..., 1] = (STEP * (number % LEVELS))[:, None, None]
    pictures[..., 2] = (STEP * (number // LEVELS))[:, None, None]
    return pictures, torch.randint(10, (LEVELS**2,), generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Marks:
    """What marked pictures still tell after they were shuffled, shifted, mirrored and scaled.

    Attributes:
        numbers: (n,) which picture each row is.
        mirrored: for each batch (n,), whether each row is mirrored.
        places: for each batch, the red value in the middle of the rows that are not mirrored.
    """

    numbers: torch.Tensor
    mirrored: list[torch.Tensor]
    places: list[torch.Tensor]


def read_marks(batches: list[torch.Tensor]) -> Marks:
    """Read the marks of a whole epoch's batches (n, 3, 32, 32)."""
    middle = SIDE // 2
    green, blue = (_levels(torch.cat([b[:, c, middle, middle] for b in batches]).cpu()) for c in (1, 2))
    mirrored = [(batch[:, 0, middle, 8] > batch[:, 0, middle, 24]).cpu() for batch in batches]
    red = [batch[:, 0, middle, middle].cpu() for batch in batches]
    places = [values[~flip] for values, flip in zip(red, mirrored, strict=True)]
    return Marks(green + LEVELS * blue, mirrored, places)


def _levels(values: torch.Tensor) -> torch.Tensor:
    """Undo any scaling: the smallest value becomes level 0, the largest the last one."""
    low, high = values.min(), values.max()
    return ((values - low) / (high - low).clamp(min=1e-9) * (LEVELS - 1)).round().long()


def first_loop(pictures: torch.Tensor, labels: torch.Tensor) -> Epoch:
    """Return an epoch of the lesson's first loop, to be called with (model, criterion, optimizer)."""
    variants = [transforms.RandomCrop(32, padding=2, padding_mode="edge"), transforms.RandomHorizontalFlip()]
    numbers = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
    steps = transforms.Compose([*variants, *numbers])
    kept = PictureSet(pictures.numpy(), labels.tolist(), source="exercise", train=True, transform=steps)
    loader = DataLoader(kept, batch_size=64, shuffle=True)

    def epoch(model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        device = next(model.parameters()).device
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x.to(device)), y.to(device)).backward()
            optimizer.step()

    return epoch
