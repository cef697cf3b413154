"""The dataset the lessons work with: what torchvision's CIFAR10 has, whatever the pictures are."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .standin import CLASSES

try:
    from torchvision.datasets import CIFAR10, VisionDataset
except (ImportError, RuntimeError, AttributeError) as error:
    # "operator torchvision::nms does not exist": https://github.com/pytorch/pytorch/issues/157648
    raise ImportError(
        f"torchvision cannot be loaded ({error}). torch and torchvision have to be built for each other: "
        "install both in one pip command, from the same --index-url, then restart the kernel."
    ) from None


class PictureSet(CIFAR10):
    """A `torchvision.datasets.CIFAR10` of any pictures, which need not lie in files.

    Attributes:
        data: uint8 array of shape (n, 32, 32, 3), red, green, blue from 0 to 255.
        targets: list of n labels, 0 to 9.
        source: where the pictures come from, for the titles of plots.
    """

    def __init__(
        self,
        data: np.ndarray,
        targets: list[int],
        *,
        source: str,
        train: bool,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        VisionDataset.__init__(self, transform=transform)  # not CIFAR10's, which reads the official files
        self.data, self.targets, self.source, self.train = data, targets, source, train
        self.classes = list(CLASSES)
        self.class_to_idx = {name: label for label, name in enumerate(CLASSES)}

    def extra_repr(self) -> str:
        """Return the lines that `print(dataset)` adds."""
        return f"{super().extra_repr()}\nSource: {self.source}"
