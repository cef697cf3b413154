"""How much a recording measures: on a real card, or only to try the recording itself."""

from dataclasses import dataclass, field
from typing import Any

import torch

from course_utils.distributed.scripts import speedrun

DEVICE = torch.device("cuda", 0)
Figures = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """How much is measured: on a real card, or only to try the recording itself."""

    real: bool
    sizes: tuple[int, ...] = ()  # of the matmuls; none: the lesson's and LARGER
    pictures: int = 10_000  # in an epoch of lesson 04
    few_pictures: int = 1000  # in an epoch of lesson 05
    batch: int = 256  # of lesson 06's ConvNet
    repeats: int = 5
    rows: int | None = None  # of the fidelity table; None: all
    cases: int | None = None  # of lesson 06; None: all
    ladder: tuple[int | None, int | None, int] = (None, None, 10)  # lesson 08: pictures, test's, epochs
    seeds: int = 5  # of the speed run
    recipe: dict[str, Any] = field(default_factory=lambda: speedrun.RECIPES["gpu"])


LARGER = (2048, 4096)  # a laptop need not compute these in the lesson
FULL = Scale(real=True)
TINY = Scale(
    real=False,
    sizes=(4, 8),
    pictures=128,
    few_pictures=16,
    batch=8,
    repeats=2,
    rows=40,
    cases=2,
    ladder=(32, 16, 1),
    seeds=2,
    recipe={"widths": (8, 8, 8), "epochs": 1, "batch": 16, "lr": 0.1, "decay": 5e-4},
)
