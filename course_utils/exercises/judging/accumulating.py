"""Judging gradient accumulation: the step of the whole batch, with the memory of one part."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..engine import wrong

Answer = Callable[..., Any]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
IGNORED = -100  # cross_entropy leaves out samples with this label


class Wide(nn.Module):
    """A classifier of 16 numbers that keeps 48 KiB of activations a row, and notes how many rows it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, 4096), nn.Tanh(), nn.Sigmoid(), nn.Tanh(), nn.Linear(4096, 5)
        )
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return self.layers(x)


@dataclass(frozen=True)
class Batch:
    """A model and data to try an answer on; some samples may have no label."""

    model: Wide
    x: torch.Tensor
    y: torch.Tensor
    size: int

    @property
    def valid(self) -> int:
        """Return the number of samples with a label."""
        return int((self.y != IGNORED).sum())

    def backward(self, model: nn.Module, loss: Loss) -> None:
        """Add the gradients of the losses of all parts, one after the other."""
        for part_x, part_y in zip(self.x.split(self.size), self.y.split(self.size), strict=True):
            loss(model(part_x), part_y).backward()

    def gradient(self, loss: Loss) -> torch.Tensor:
        """Return the gradient of the losses of all parts together, for the model as it is."""
        model = copy.deepcopy(self.model)
        model.zero_grad()
        self.backward(model, loss)
        return flat(parameter.grad for parameter in model.parameters())

    def right(self) -> torch.Tensor:
        """Return the gradient of the mean loss over all samples with a label."""
        return self.gradient(lambda out, y: _sum(out, y) / self.valid)


def flat(tensors: Any) -> torch.Tensor:
    """Return some tensors as one long one."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def agree(one: torch.Tensor, two: torch.Tensor, relative: float = 1e-4) -> bool:
    """Tell whether two gradients are the same but for rounding."""
    return bool((one - two).norm() <= relative * two.norm())


def _sum(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(out, y, reduction="sum", ignore_index=IGNORED)


def _mean(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(out, y, ignore_index=IGNORED)


def try_accumulation(
    answer: Answer, n: int, size: int, gpu: torch.device, unlabelled: tuple[int, ...] = ()
) -> None:
    """Judge a step on n samples, `size` at a time, where some samples have no label."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(n)  # the GPU's random numbers belong to the lesson
        x, y = torch.randn(n, 16), torch.randint(5, (n,))
        y[list(unlabelled)] = IGNORED
        batch = Batch(Wide().to(gpu), x.to(gpu), y.to(gpu), size)
    right, steps = batch.right(), []
    stale = torch.full_like(right, right.abs().mean().item())  # what an earlier step has left in .grad
    before = flat(batch.model.parameters())
    _leave(batch.model, stale)
    optimizer = torch.optim.SGD(batch.model.parameters(), lr=1.0)
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    peak = peak_of(lambda: answer(batch.model, optimizer, batch.x, batch.y, size), gpu)
    sizes = batch.model.sizes
    found = before - flat(batch.model.parameters())
    if steps:
        load_flat(batch.model, before)
    if not _spares_unlabelled(sizes, batch):
        _judge_parts(sizes, n, size)
    _judge_steps(len(steps))
    _judge_gradient(found, right, stale, batch)
    _judge_peak(peak, batch, gpu)


def _leave(model: nn.Module, gradient: torch.Tensor) -> None:
    """Leave an old gradient in the parameters."""
    for parameter, part in zip(model.parameters(), pieces(model, gradient), strict=True):
        parameter.grad = part.clone()


def pieces(model: nn.Module, vector: torch.Tensor) -> list[torch.Tensor]:
    """Cut a vector into tensors of the shapes of a model's parameters."""
    sizes = [parameter.numel() for parameter in model.parameters()]
    parts = zip(vector.split(sizes), model.parameters(), strict=True)
    return [part.view(parameter.shape) for part, parameter in parts]


def load_flat(model: nn.Module, vector: torch.Tensor) -> None:
    """Give a model parameters from a vector."""
    with torch.no_grad():
        for parameter, part in zip(model.parameters(), pieces(model, vector), strict=True):
            parameter.copy_(part)


def peak_of(run: Callable[[], Any], gpu: torch.device) -> int:
    """Return how many bytes more than before a call has allocated at its peak."""
    torch.cuda.reset_peak_memory_stats(gpu)
    before = torch.cuda.memory_allocated(gpu)
    run()
    return torch.cuda.max_memory_allocated(gpu) - before


def _spares_unlabelled(sizes: list[int], batch: Batch) -> bool:
    """Tell whether small enough parts left out no more than the samples that have no label."""
    return max(sizes, default=0) <= batch.size and batch.valid <= sum(sizes) < len(batch.x)


def _judge_parts(sizes: list[int], n: int, size: int) -> None:
    """Compare the parts that the model saw with those it should see."""
    expected = [min(size, n - start) for start in range(0, n, size)]
    if sorted(sizes) == sorted(expected):
        return
    if sizes == [len(part) for part in torch.arange(n).chunk(size)]:
        wrong("chunk", "chunk() takes the number of parts. Wanted are parts of a given size: split().")
    if not sizes:
        wrong("nothing", "The model was never called.")
    if max(sizes) > size:
        wrong("whole", f"The model saw {max(sizes)} samples at once, where {size} were asked for.")
    if sum(sizes) < n:
        wrong("dropped", f"Of {n} samples the model saw {sum(sizes)}. The last part may be smaller.")
    wrong("parts", f"{n} samples, {size} at a time: the model saw parts of {sizes}.")


def _judge_steps(steps: int) -> None:
    """Ask for one step of the optimizer."""
    if steps == 0:
        wrong("no_step", "The optimizer has not taken its step.")
    if steps > 1:
        wrong("steps", f"The optimizer took {steps} steps. All parts together are one batch, and one step.")


def _judge_gradient(found: torch.Tensor, right: torch.Tensor, stale: torch.Tensor, batch: Batch) -> None:
    """Compare the gradient that was stepped along with the right one, and with the usual wrong ones."""
    if agree(found, right):
        return
    if agree(found - stale, right):
        wrong("stale", "What an earlier step had left in .grad was added to this one's gradient.")
    count, n = math.ceil(len(batch.x) / batch.size), len(batch.x)
    for key, loss, hint in (
        ("no_division", _mean, "The gradient is several times too long: the parts' means were added up."),
        ("summed", _sum, "The gradient is that of a sum. The plain loss is a mean: over how many?"),
        (
            "parts_alike",
            lambda out, y: _mean(out, y) / count,
            "Each part counts alike, so the single sample in a small part counts more than the others.",
        ),
        (
            "all_samples",
            lambda out, y: _sum(out, y) / n,
            "It divides by all samples. Those without a label are not in the plain step's mean.",
        ),
        (
            "all_samples",
            lambda out, y: _mean(out, y) * len(y) / n,
            "It weights the parts by their samples. Those without a label are not in the plain step's mean.",
        ),
    ):
        if agree(found, batch.gradient(loss)):
            wrong(key, hint)
    _judge_direction(found, batch)


def _judge_direction(found: torch.Tensor, batch: Batch) -> None:
    """Find a gradient that belongs to the last part alone; call any other simply wrong."""
    start = (len(batch.x) - 1) // batch.size * batch.size
    last = Batch(batch.model, batch.x[start:], batch.y[start:], batch.size)
    if torch.cosine_similarity(found, last.right(), dim=0) > 0.9999:
        wrong("last_only", "Only the last part has left its gradient. Where are gradients set to zero?")
    wrong("other", "The step is not the one that the plain loss of the whole batch takes.")


def _judge_peak(peak: int, batch: Batch, gpu: torch.device) -> None:
    """Compare the memory with what the parts need one by one."""
    batch.model.zero_grad()
    needed = peak_of(lambda: batch.backward(batch.model, _sum), gpu)
    if peak > 1.2 * needed:
        wrong(
            "late",
            f"The gradient is right, but the peak is {peak / 2**20:.1f} MiB where {needed / 2**20:.1f} would "
            "do: the activations of several parts were there at once.",
        )
