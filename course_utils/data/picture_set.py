"""The dataset the lessons work with: what torchvision's CIFAR10 has, whatever the pictures are."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from .standin import CLASSES

try:
    from torchvision.datasets import VisionDataset
except (ImportError, RuntimeError, AttributeError) as error:
    # "operator torchvision::nms does not exist": https://github.com/pytorch/pytorch/issues/157648
    raise ImportError(
        f"torchvision cannot be loaded ({error}). torch and torchvision have to be built for each other: "
        "install both in one pip command, from the same --index-url, then restart the kernel."
    ) from None


class PictureSet(VisionDataset):
    """Pictures and labels with the interface of `torchvision.datasets.CIFAR10`.

    Attributes:
        data: uint8 array of shape (n, 32, 32, 3), red, green, blue from 0 to 255.
        targets: list of n labels, 0 to 9.
        classes: the ten class names; `class_to_idx` turns a name into its label.
        source: where the pictures come from, for the titles of plots.
        transform, target_transform: applied to a picture (a PIL image) and to a label when it is asked for.
    """

    def __init__(
        self,
        data: np.ndarray,
        targets: list[int],
        *,
        source: str,
        train: bool,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(transform=transform, target_transform=target_transform)
        self.data = data
        self.targets = targets
        self.source = source
        self.train = train
        self.classes = list(CLASSES)
        self.class_to_idx = {name: label for label, name in enumerate(CLASSES)}

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return the picture, a PIL image unless `transform` makes something else of it, and its label."""
        image, target = Image.fromarray(self.data[index]), self.targets[index]
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.data)

    def extra_repr(self) -> str:
        """Return the lines that `print(dataset)` adds."""
        return f"Split: {'Train' if self.train else 'Test'}\nSource: {self.source}"
