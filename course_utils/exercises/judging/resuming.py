"""A small run on the CPU that draws random numbers from two places, to judge whether it resumes exactly."""

import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine import wrong

HINTS = {
    "model": "The resumed run starts from other weights. Is the model saved, and loaded into this model?",
    "buffers": "The parameters came back, batch normalisation's running mean did not. state_dict() has both.",
    "optimizer": "The weights came back, the optimizer's momentum or its learning rate did not.",
    "schedule": "The schedule counts from zero again, so later learning rates are wrong.",
    "shuffler": "The epochs are shuffled in another order: shuffler's own state did not come back.",
    "seed": "A seed starts the random numbers again; the run was further on. Save the state they had.",
    "other": "All states came back, and yet the loss differs. Does load_run do more than load?",
    "rng": "Dropout draws other numbers: the state of torch's own generator did not come back.",
}


class Run:
    """A model with dropout and batch normalisation, its AdamW, its schedule, and the generator that shuffles.

    Args:
        seed: for torch's own generator, which the run uses from then on.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        layers = nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
        self.model = nn.Sequential(*layers)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=8)
        self.shuffler = torch.Generator().manual_seed(seed + 100)
        data = torch.Generator().manual_seed(0)
        self.x = torch.randn(24, 5, generator=data)
        self.y = torch.randint(3, (24,), generator=data)

    @property
    def parts(self) -> tuple[Any, ...]:
        """Return what the reader's functions are given after the file."""
        return self.model, self.optimizer, self.schedule, self.shuffler

    def train(self, epochs: int) -> list[float]:
        """Train, and return for each epoch the losses of its batches and the loss of a measurement."""
        losses = []
        for _ in range(epochs):
            self.model.train()
            for rows in torch.randperm(24, generator=self.shuffler).split(8):
                self.optimizer.zero_grad()
                loss = nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows])
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
            self.schedule.step()
            self.model.eval()
            with torch.no_grad():
                losses.append(nn.functional.cross_entropy(self.model(self.x), self.y).item())
        return losses

    def states(self) -> dict[str, Any]:
        """Return a copy of everything that the next loss depends on."""
        return deepcopy(
            {
                "model": dict(self.model.named_parameters()),
                "buffers": dict(self.model.named_buffers()),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "shuffler": self.shuffler.get_state(),
                "rng": torch.get_rng_state(),
            }
        )


def judge_resume(save_run: Callable[..., Any], load_run: Callable[..., Any], seed: int) -> None:
    """Save a run, load it into another one, and ask that both go on with identical losses."""
    expected = Run(seed).train(5)
    run = Run(seed)
    run.train(2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.pt")
        _save(save_run, file, run)
        truth = run.states()
        if run.train(3) != expected[-12:]:
            wrong("disturbs", "Saving changed the run itself: it went on with another loss than without.")
        _save(save_run, Path(folder, "other.pt"), Run(seed + 10))  # a second file must not disturb the first
        fresh = Run(seed + 20)
        _load(load_run, file.rename(Path(folder, "moved.pt")), fresh)
    found = fresh.states()
    if fresh.train(3) != expected[-12:]:
        missing = _difference(truth, found, seed)
        wrong(
            missing, HINTS.get(missing, "All states came back, yet the loss differs. Does load_run do more?")
        )


def _save(save_run: Callable[..., Any], file: Path, run: Run) -> None:
    """Save a run, and ask for a file that the default `torch.load` reads."""
    save_run(file, *run.parts)
    if not file.exists():
        wrong("no_file", "save_run has written no file under the name it was given.")
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception:
        wrong("pickle", "The default torch.load refuses this file: it holds whole objects. Save states.")


def _load(load_run: Callable[..., Any], file: Path, run: Run) -> None:
    """Load a run; the file has moved meanwhile, as to another machine."""
    try:
        load_run(file, *run.parts)
    except TypeError as error:
        if "ByteTensor" not in str(error):
            raise
        wrong("map_location", "A random state has to stay on the CPU, but the file was loaded onto a GPU.")


def _difference(truth: dict[str, Any], found: dict[str, Any], seed: int) -> str:
    """Name the first part that did not come back."""
    missing = next((name for name in truth if not _same(truth[name], found[name])), "other")
    if missing == "rng" and torch.equal(found["rng"], torch.Generator().manual_seed(seed).get_state()):
        return "seed"
    return missing


def _same(one: Any, two: Any) -> bool:
    """Tell whether two nested states are equal."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(_same, one, two))
    return bool(one == two)
