"""What a repaired network has to do: a row of scores for each picture, at any batch size."""

import re
from typing import Any

import torch
from torch import nn

from ..engine import wrong


def judge_network(net: nn.Module) -> None:
    """Ask for one 3 x 3 convolution, relu, pool and one linear layer, with a row for each picture."""
    net.eval()
    for pictures in (torch.randn(4, 3, 32, 32), torch.randn(64, 3, 32, 32), torch.randn(1, 3, 32, 32)):
        _check_scores(_scores(net, pictures), len(pictures))
    _check_layers(net)
    _check_rows(net)
    _check_wrong_size(net)


def _scores(net: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Return what the network says, or the hint for the error it raises."""
    try:
        return net(pictures)
    except NameError as error:
        if "'F'" not in str(error):
            raise
        wrong("name", "Python knows no F. Import it, or call relu by its full name.")
    except RuntimeError as error:
        if re.search(r"shape '\[[1-9]\d*, (-1|1800)\]' is invalid", str(error)):
            wrong("fixed", f"The view is told a fixed number of pictures; this time {len(pictures)} came in.")
        if "view size" in str(error) or "is invalid for input of size" in str(error):
            wrong("still", "The view still makes rows of a wrong length. What does one picture have there?")
        if match := re.search(r"cannot be multiplied \((\d+)x(\d+) and (\d+)x", str(error)):
            _explain_features(len(pictures), *map(int, match.groups()))
        raise


def _explain_features(pictures: int, rows: int, features: int, expected: int) -> None:
    """Give the hint for a linear layer that gets `rows` x `features` numbers and was made for others."""
    if rows != pictures:
        wrong("flat", f"{pictures} pictures reach fc1 as {rows} x {features} numbers, not as one row each.")
    wrong("size", f"fc1 was made for {expected} features and gets {features}. Follow the side length.")


def _check_scores(scores: Any, pictures: int) -> None:
    """Ask for raw scores (pictures, 10)."""
    shape = tuple(getattr(scores, "shape", ()))
    if len(shape) == 2 and shape[0] > pictures:
        wrong("rows", f"{pictures} pictures in, {shape[0]} rows out: the view cuts pictures into pieces.")
    if shape != (pictures, 10):
        wrong("shape", f"{pictures} pictures should give the shape ({pictures}, 10), and gave {shape}.")
    if scores.min() >= 0 and torch.allclose(scores.sum(1), torch.ones(pictures), atol=1e-4):
        wrong("softmax", "These are probabilities. CrossEntropyLoss takes logits and does softmax itself.")


def _check_layers(net: nn.Module) -> None:
    """Ask for the layers that the network had, and for the relu between them."""
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if len(convolutions) != 1 or len(linear) != 1:
        wrong("layers", "It should keep one convolution and one linear layer, with the size put right.")
    (first,), (last,) = convolutions, linear
    if first.weight.shape != (8, 3, 3, 3) or first.bias is None or last.in_features != 8 * 15 * 15:
        wrong("pool", "Now the network is bent to fit a number. Leave convolution and pool, mend the number.")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first.weight.zero_()
    first.bias.fill_(-1.0)  # relu makes 0 of it, so that only fc1's bias is left
    scores = net(torch.randn(2, 3, 32, 32))
    net.load_state_dict(before)
    if not torch.allclose(scores, last.bias.expand(2, 10), atol=1e-5):
        wrong("relu", "The relu is gone, so the network cannot use its convolution as it should.")


def _check_rows(net: nn.Module) -> None:
    """Ask that the scores of a picture depend on this picture and on no other."""
    pictures = torch.randn(6, 3, 32, 32)
    scores, alone = net(pictures), torch.cat([net(picture[None]) for picture in pictures])
    if not torch.allclose(scores, alone, atol=1e-4) or torch.allclose(scores[0], scores[1]):
        wrong("mixed", "The scores of a picture change with the pictures beside it. Which axis is the batch?")


def _check_wrong_size(net: nn.Module) -> None:
    """Ask that pictures of a wrong size are refused, or still give a row each."""
    try:
        rows = len(net(torch.randn(5, 3, 62, 62)))  # 8 x 30 x 30 numbers: four times 8 x 15 x 15
    except Exception:
        return
    if rows != 5:
        wrong(
            "view", f"Right for 32 x 32. But 5 pictures of 62 x 62 come out as {rows} rows, without an error."
        )
