"""Judging, in several processes, how a checkpoint is saved: who writes what, and when others go on."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..engine import wrong
from .listening import listening
from .rank_pool import judged_ranks

_WRITES = ("w", "a", "x", "+")


class _Disk:
    """Notes what this rank does to files in a folder, and lets others run on before each such thing.

    Args:
        file: the one that should be saved.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.done: list[tuple[str, bool]] = []

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Take an audit event."""
        if event == "open" and any(letter in str(args[1]) for letter in _WRITES):
            self._note("write", args[0])
        elif event == "os.remove":
            self._note("away", args[0])
        elif event == "os.rename":
            self._note("away", args[0])
            self._note("rename", args[1])

    def save(
        self, torch_save: Callable[..., Any], state: Any, target: Any, *more: Any, **options: Any
    ) -> None:
        """Do what torch.save does; it writes files by itself, which Python does not hear."""
        if isinstance(target, str | os.PathLike):
            self._note("write", target)
        torch_save(state, target, *more, **options)

    def _note(self, what: str, path: Any) -> None:
        if not isinstance(path, str | os.PathLike):
            return
        path = Path(path).absolute()
        if path.parent == self.file.parent or what == "rename":
            dist.group.WORLD.hold()
            self.done.append((what, path == self.file))


def _net(version: int) -> nn.Module:
    torch.manual_seed(version)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def _save(answer: Callable[..., Any], file: Path) -> dict[str, Any]:
    """Let the answer save on this rank; return what it did to files, and what stands there then."""
    model = DistributedDataParallel(_net(2))
    disk = _Disk(file)
    save = partial(disk.save, torch.save)
    with listening(disk.hear), mock.patch("torch.save", save), mock.patch("torch.serialization.save", save):
        answer(model, file)
    return {"done": disk.done, "found": _state(file)}


def _state(file: Path) -> Any:
    """Return what the default torch.load makes of a file; a word where it cannot."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return "missing"
    except Exception:  # whatever a damaged or foreign file leads to
        return "unreadable"


def judge_saving(answer: Callable[..., Any]) -> None:
    """Ask for one writer, a file that is always whole, a plain model's names, and no early rank."""
    with judged_ranks() as ranks:
        for world in (2, 1, 3):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder).resolve() / "model.pt"
                torch.save(_net(1).state_dict(), file)  # of the epoch before
                found = [report.value for report in ranks.run(world, _save, answer, file)]
                _check_writing([result["done"] for result in found])
                _check_content(_state(file))
                for rank, result in enumerate(found):
                    if not _is_new(result["found"]):
                        wrong("early", f"Rank {rank} goes on while the file is still the old one: it waits "
                              "for nobody, or not long enough. A slow disk takes a while.")  # fmt: skip
                if left := sorted(path.name for path in Path(folder).iterdir() if path != file):
                    wrong(
                        "left",
                        f"Afterwards the folder also holds {left[0]}. Only the checkpoint should stay.",
                    )


def _check_writing(done: list[list[tuple[str, bool]]]) -> None:
    """Check who did what to files: (what, whether to the checkpoint itself) for each thing, by rank."""
    writers = [
        rank for rank, things in enumerate(done) if any(what in ("write", "rename") for what, _ in things)
    ]
    if not writers:
        wrong("nothing", "No rank has written a file under the name that it was given.")
    if len(writers) > 1:
        wrong(
            "every_rank",
            f"Ranks {' and '.join(map(str, writers))} write, at the same time, where one is enough.",
        )
    things = done[writers[0]]
    if ("write", True) in things:
        wrong("half", "The file itself is written to: a process that dies in the middle leaves half of one, "
              "and the old one is lost. Write elsewhere, then put it in place in one go.")  # fmt: skip
    if ("away", True) in things:
        wrong("gap", "For a moment there is no file at all: the old one is taken away first. os.replace does "
              "both in one go.")  # fmt: skip


def _check_content(state: Any) -> None:
    """Check what the file holds."""
    if state == "missing":
        wrong("nothing", "There is no file under the name that was given.")
    if state == "unreadable":
        wrong(
            "pickle",
            "The default torch.load refuses this file: it holds a whole object. Save the state dict.",
        )
    names = list(_net(2).state_dict())
    if not isinstance(state, dict):
        wrong("other", f"The file should hold a state dict, and holds a {type(state).__name__}.")
    if [f"module.{name}" for name in names] == list(state):
        wrong("prefix", 'The names in the file begin with "module.", so a plain model does not load them.')
    if set(state) < set(names):
        wrong(
            "buffers",
            f"{sorted(set(names) - set(state))[0]} is not in the file. state_dict() has all of them.",
        )
    if set(state) != set(names):
        wrong("other", f"The names in the file, {list(state)[:2]} ..., are not those of the plain model.")
    if not _is_new(state):
        wrong("old", "The weights in the file are not those of the model that was given.")


def _is_new(state: Any) -> bool:
    """Tell whether a state, perhaps with a prefix, has the numbers that were to be saved."""
    wanted = _net(2).state_dict().values()
    return (
        isinstance(state, dict)
        and len(state) == len(wanted)
        and all(map(torch.equal, state.values(), wanted))
    )
