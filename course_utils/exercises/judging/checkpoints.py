"""Judging a function that loads a checkpoint: real files, written on a GPU, on machines with fewer GPUs."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from ..engine import wrong
from .placement import visible_gpus

_sprung: list[bool] = []


def _spring() -> None:
    _sprung.append(True)


class _Trap:
    """Calls `_spring` where a file that holds it is loaded without care."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _spring, ()


def checkpoint_is_loaded(
    answer: Any, epoch: int, writer: torch.device, visible: int, home: torch.device
) -> None:
    """Judge an answer by one file.

    Args:
        answer: takes a path and a model, returns the epoch.
        epoch: written into the file, and the seed of its numbers.
        writer: the GPU that writes the file.
        visible: number of GPUs that the answer sees.
        home: where the answer's model is, and has to stay.
    """
    saved, model = _net(epoch).to(writer), _net(0).to(home)
    held = list(model.parameters())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        torch.save({"model": saved.state_dict(), "epoch": epoch}, path)
        with visible_gpus(visible):
            found = _call(answer, path, model, visible)
    _is_loaded(model, saved, held, home)
    if found != epoch or not isinstance(found, int):
        wrong("epoch", "The model is loaded. The function should also return the epoch, a number.")


def no_code_is_run(answer: Any) -> None:
    """Judge an answer by a file that holds code: it must not run."""
    model = _net(1)
    _sprung.clear()
    with TemporaryDirectory() as folder, contextlib.suppress(Exception):
        path = Path(folder) / "checkpoint.pt"
        torch.save({"model": model.state_dict(), "epoch": _Trap()}, path)
        answer(path, model)
    if _sprung:
        text = "It loads, but a file with code in it just ran that code. Leave weights_only as it is."
        wrong("weights_only", text)


def _net(seed: int) -> nn.Module:
    """Make a small model with numbers of its own, buffers included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 9 + seed)
    return net


def _call(answer: Any, path: Path, model: nn.Module, visible: int) -> Any:
    """Call the answer; explain what torch.load and load_state_dict usually refuse."""
    try:
        return answer(path, model)
    except RuntimeError as error:
        text = str(error)
        if text.startswith("Attempting to deserialize") and visible == 0:
            told = (
                "On a machine without a GPU, torch.load still looks for one: the one that the file names, or "
                "that map_location names."
            )
            wrong("map_location", told)
        if text.startswith("Attempting to deserialize"):
            told = (
                "It loads without a GPU. But with one GPU, torch.load looks for GPU 7 if the file names it."
            )
            wrong("one_gpu", told)
        if text.startswith("Error(s) in loading") and "Missing key" in text:
            wrong("whole_file", "The file holds a dictionary. The model wants its entry 'model'.")
        raise


def _is_loaded(model: nn.Module, saved: nn.Module, held: list[torch.Tensor], home: torch.device) -> None:
    """Compare a model with the one that was saved: devices, identity of its tensors, values."""
    now = [*model.parameters(), *model.buffers()]
    if any(tensor.device != home for tensor in now):
        wrong("moved", "The numbers may be right, but the model is no longer on the device it was on.")
    if any(one is not two for one, two in zip(held, model.parameters(), strict=True)):
        text = "The model got new parameters. An optimizer that was built before still holds the old ones."
        wrong("replaced", text)
    for key, kind in (("not_loaded", "parameters"), ("buffers", "buffers")):
        pairs = zip(getattr(model, kind)(), getattr(saved, kind)(), strict=True)
        if not all(torch.equal(one.cpu(), two.cpu()) for one, two in pairs):
            wrong(key, f"The {kind} of the model are not those of the file.")
