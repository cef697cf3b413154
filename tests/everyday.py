"""What tests of everyday PyTorch make again and again; they run on the fixture `two_gpus`."""

import torch
from torch import nn


def ones(*size: int, device: str = "cuda") -> torch.Tensor:
    return torch.ones(*size, device=device)


def linear(device: str = "cuda") -> nn.Linear:
    return nn.Linear(3, 3).to(device)
