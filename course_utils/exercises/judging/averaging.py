"""The judge of a mean loss over batches of unequal size."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ..engine import close, wrong


def judge_mean(answer: Callable[..., Any]) -> None:
    """Ask for the loss of all samples at once, on each device, however they are cut into batches."""
    torch.manual_seed(0)
    for device in ("cpu", torch.accelerator.current_accelerator(check_available=True) or "cpu"):
        for size, batch_size in ((10, 4), (7, 5), (12, 3)):
            _check_mean(answer, device, size, batch_size)
        _check_mean(answer, device, 11, 4, drop_last=True)
        _check_mean(answer, device, 9, 4, smoothing=0.3)


def _check_mean(
    answer: Callable[..., Any],
    device: Any,
    size: int,
    batch_size: int,
    *,
    drop_last: bool = False,
    smoothing: float = 0.0,
) -> None:
    """Compare an answer with the loss of all samples at once, and with what usual mistakes return."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 10)).eval()  # in train() mode it says something else
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
    x, y = 5 * torch.randn(size, 6), torch.randint(10, (size,))
    loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, drop_last=drop_last)
    with torch.no_grad():
        means = [criterion(model(part), target).item() for part, target in loader]
        sizes = [len(target) for _, target in loader]
        right = criterion(model(x[: sum(sizes)]), y[: sum(sizes)]).item()
        plain = nn.functional.cross_entropy(model(x[: sum(sizes)]), y[: sum(sizes)]).item()
    said = answer(model.to(device), loader, criterion, device)
    if model.training:
        wrong("train", "The model came in eval() mode and is in train() mode now. Leave it as it is.")
    if said is None:
        wrong("nothing", "The function returns nothing.")
    if not isinstance(said, int | float | torch.Tensor):
        wrong("number", f"The function should return a number, and returned a {type(said).__name__}.")
    if getattr(said, "requires_grad", False):
        wrong("graph", "The result still drags the graph of every batch along. Return the bare number.")
    if close(value := float(said), right, 1e-4):
        return
    total = right * sum(sizes)
    if close(value, total, 1e-4):
        wrong("sum", "That is the sum over all samples. Divide it by how many there are.")
    if close(value, total / size, 1e-4):
        wrong("drop_last", "This loader drops its short last batch. Divide by the samples you have seen.")
    if close(value, sum(means) / len(means), 1e-4):
        wrong("means", f"That is the mean of means: of batches of {sizes}, the last one counts too much.")
    if close(value, sum(means) / size, 1e-4):
        wrong("dataset", "A sum of means, divided by the number of samples: far too small. Make sums first.")
    if close(value, sum(means) * batch_size / sum(sizes), 1e-4):
        wrong("batch_size", f"Every batch is weighted by {batch_size}, but their sizes are {sizes}.")
    if close(value, total / len(sizes), 1e-4):
        wrong("batches", "You divide by the number of batches. The sum goes over samples: count those.")
    if close(value, means[0], 1e-4) and len(sizes) > 1:
        wrong("first", "That is the first batch alone. Does the function return inside the loop?")
    if close(value, means[-1], 1e-4):
        wrong("last", "That is the last batch alone.")
    if smoothing and close(value, plain, 1e-4):
        wrong("criterion", "Use the criterion that is handed in, not one of your own.")
    wrong("other", f"For batches of {sizes} it returned {value:.3f}; the mean of all samples is {right:.3f}.")
