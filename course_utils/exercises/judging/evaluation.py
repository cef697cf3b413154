"""Judging a function that evaluates a classifier: right numbers, computed on the GPU, copies counted."""

from typing import Any

import torch
from torch import nn

from ..engine import close, wrong
from .placement import CopyCounter

_cross_entropy = nn.functional.cross_entropy


class _Watched(nn.Module):
    """A classifier of 3 x 16 x 16 images that remembers the mean of each image it sees, on its device.

    Its weights are more bytes than the images: it does not pay to bring the model to the data.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 10))
        self.means: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.means.append(x.detach().flatten(1).float().mean(1))
        return self.layers(x)


def count_copies(answer: Any, sizes: tuple[int, ...], seed: int, gpu: torch.device) -> CopyCounter:
    """Judge what an answer returns for new data, and count the copies it makes.

    Args:
        answer: takes a model on `gpu`, batches on the CPU and `gpu`; returns mean loss and accuracy.
        sizes: of the batches.
        seed: of images, labels and model.
        gpu: the device to compute on.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = _Watched()
        images = [torch.randint(256, (size, 3, 16, 16), dtype=torch.uint8) for size in sizes]
        labels = [torch.randint(10, (size,)) for size in sizes]
        logits = [model(batch / 255) for batch in images]
        labels[0] = logits[0].argmax(1)  # so that some are right
        unscaled = _cross_entropy(model(torch.cat(images).float()), torch.cat(labels)).item()
    model.means.clear()
    model.to(gpu)
    batches = [(one.clone(), two.clone()) for one, two in zip(images, labels, strict=True)]
    with CopyCounter() as counter:
        found = answer(model, batches, gpu)
    _are_numbers(found)
    losses = [_cross_entropy(*pair).item() for pair in zip(logits, labels, strict=True)]
    _is_loss(found[0], losses, sizes, unscaled)
    accuracy = (torch.cat(logits).argmax(1) == torch.cat(labels)).float().mean().item()
    if not close(found[1], accuracy, 1e-4):
        text = f"The accuracy is {found[1]:.4f} and should be {accuracy:.4f}: hits, divided by images."
        wrong("accuracy", text)
    _saw_all(model, torch.cat(images), gpu)
    return counter


def _saw_all(model: _Watched, images: torch.Tensor, gpu: torch.device) -> None:
    """See that a model ran on `gpu` with all of `images`, scaled to 0 ... 1."""
    text = "The numbers are right. But the model must see every image, on the device it was given."
    if not model.means or any(means.device != gpu for means in model.means):
        wrong("elsewhere", text)
    seen, wanted = torch.cat(model.means).cpu(), (images / 255).flatten(1).mean(1)
    if (wanted[:, None] - seen).abs().amin(1).max() > 1e-4:
        wrong("elsewhere", text)


def _are_numbers(found: Any) -> None:
    """See that an answer returned two Python numbers."""
    if not isinstance(found, tuple | list) or len(found) != 2:
        wrong("pair", "Return two numbers: the mean loss and the accuracy.")
    if not all(type(number) in (float, int) for number in found):
        wrong("tensor", "Return two Python numbers. A tensor on the device has yet to be fetched.")


def _is_loss(found: float, losses: list[float], sizes: tuple[int, ...], unscaled: float) -> None:
    """Compare a mean loss with the right one and with two usual wrong ones."""
    loss = sum(one * size for one, size in zip(losses, sizes, strict=True)) / sum(sizes)
    if close(found, loss, 1e-4):
        return
    if close(found, sum(losses) / len(losses), 1e-4):
        text = "This is the mean of batch means. The last batch is smaller: each image should count alike."
        wrong("batch_means", text)
    if close(found, unscaled, 1e-3):
        wrong("scaling", "The images must still be divided by 255, on the CPU or on the device.")
    wrong("loss", f"The mean loss is {found:.4f} and should be {loss:.4f}.")
