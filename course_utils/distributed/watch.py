"""What one process of a script uses of the virtual GPUs, noted while it runs and left in a file at its end.

Where a GPU's memory went is looked at whenever its peak has grown by some thousandths: so it costs little.
"""

import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from linecache import getline
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from course_utils.errors import explain_at_hand, is_own
from course_utils.figures.nested import tensors_in
from course_utils.virtual.allocator import Allocator
from course_utils.virtual.blocks import block_size
from course_utils.virtual.machine import Machine

FOLDER = "COURSE_VIRTUAL_REPORT"  # the variable: where each process leaves what it noted
_GROWN = 1.002
_OTHER = "activations and other"


class Peak(NamedTuple):
    """The most bytes on one GPU.

    Attributes:
        allocated: bytes of all blocks in use.
        reserved: bytes that the allocator held from the driver.
        refused: bytes that it asked for in vain on top of them.
        categories: bytes of parameters, gradients, optimizer state and the rest, at the last look.
        where: the line of the script at the last look.
    """

    allocated: int
    reserved: int
    refused: int
    categories: dict[str, int]
    where: str


class Watch:
    """Notes the peak of each GPU in this process, and writes it to a folder when the process ends."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        self.peaks: dict[int, Peak] = {}
        self.error = ""
        self.ended: dict[int, int] = {}
        self._modules: WeakSet[torch.nn.Module] = WeakSet()
        self._optimizers: WeakSet[Optimizer] = WeakSet()
        self._copies: dict[int, Any] = {}  # blocks of the parameters that replicas were given
        register_module_forward_pre_hook(self._used)
        register_optimizer_step_pre_hook(lambda optimizer, *_: self._optimizers.add(optimizer))
        machine.look = self.look
        machine.history.observers.append(self._refused)
        for memory in machine.memory:
            memory.high = 0
        self._excepthook, sys.excepthook = sys.excepthook, self._uncaught
        Finalize(None, self.write, exitpriority=100)  # comes also at the end of a child of multiprocessing

    def _used(self, module: torch.nn.Module, _: Any) -> None:
        """Remember a module and those in it, which `DataParallel` does not call itself, and its copies."""
        for part in module.modules() if module not in self._modules else ():
            self._modules.add(part)
            for copy in vars(part).get("_former_parameters", {}).values():
                key = copy.untyped_storage()._cdata
                self._copies[key] = self.machine.block(key)

    def look(self, memory: Allocator) -> None:
        """Note what is on a GPU now."""
        memory.high = memory.allocated * _GROWN
        categories = self._categories(memory.index)
        categories[_OTHER] = max(0, memory.allocated - sum(categories.values()))
        figures = (memory.statistics[f"{name}_bytes"].peak for name in ("allocated", "reserved"))
        self.peaks[memory.index] = Peak(*figures, 0, categories, _own_line())

    def _refused(self, index: int, wanted: int, capacity: int, free: int) -> None:
        """Note what there was no room for."""
        if index in self.peaks:
            self.peaks[index] = self.peaks[index]._replace(reserved=capacity - free, refused=wanted)

    def _categories(self, index: int) -> dict[str, int]:
        """Return the bytes of the known tensors on a GPU."""
        sizes = {"parameters": 0, "gradients": 0, "optimizer state": 0}
        seen = set()
        for category, tensor in self._known():
            storage = tensor.untyped_storage()
            if storage._cdata not in seen and self.machine.home(storage) == index:
                seen.add(storage._cdata)
                sizes[category] += block_size(storage.nbytes())
        self._copies = {key: one for key, one in self._copies.items() if one is self.machine.block(key)}
        for key in self._copies.keys() - seen:  # the graph keeps them when the replicas are gone
            _, home, block = self._copies[key]
            sizes["parameters"] += block.size if block and home == index else 0
        return sizes

    def _known(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the tensors of modules and optimizers that were used, with their category."""
        for module in list(self._modules):
            for parameter in filter(None.__ne__, module._parameters.values()):
                yield "parameters", _local(parameter)
                if parameter.is_leaf and parameter.grad is not None:
                    yield "gradients", _local(parameter.grad)
        for optimizer in list(self._optimizers):
            for tensor in tensors_in(list(optimizer.state.values())):
                yield "optimizer state", _local(tensor)

    def _uncaught(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Keep what an error means; it is shown as usual, too."""
        if kind.__module__.startswith("torch.distributed.elastic"):  # torchrun's, about its ranks
            self.ended = {rank: one.exitcode for rank, one in getattr(error, "failures", {}).items()}
        else:
            self.error = str(explain_at_hand(error))
        self._excepthook(kind, error, trace)

    def _exact(self, index: int) -> dict[str, Any]:
        """Return the peak of a GPU with what has come since the last look."""
        peak, statistics = self.peaks[index], self.machine.memory[index].statistics
        allocated = max(peak.allocated, statistics["allocated_bytes"].peak)
        peak.categories[_OTHER] += allocated - peak.allocated
        reserved = max(peak.reserved, statistics["reserved_bytes"].peak)
        return peak._replace(allocated=allocated, reserved=reserved)._asdict()

    def write(self) -> None:
        """Leave what was noted in the folder; a process that used no GPU leaves nothing."""
        if not (self.peaks or self.error or self.ended):
            return
        noted = {
            "rank": int(os.environ.get("RANK", -1)),
            "process": os.getpid(),
            "gpus": {f"cuda:{index}": self._exact(index) for index in sorted(self.peaks)},
            "sent": self.machine.sent,
            "error": self.error,
            "ended": self.ended,
        }
        self.folder.joinpath(f"{os.getpid()}.json").write_text(json.dumps(noted), encoding="utf-8")


def begin(machine: Machine) -> None:
    """Watch this process, whose virtual GPUs have just been switched on."""
    Watch(machine, Path(os.environ[FOLDER]))


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Return a DTensor's part on this rank, and other tensors as they are."""
    return getattr(tensor, "_local_tensor", tensor)


_own_file = cache(is_own)


def _own_line() -> str:
    """Return the innermost line of the script that is running, as in "loss.backward() (train.py, line 7)"."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if _own_file(file):
            line = getline(file, frame.f_lineno).strip()
            return f"{line} ({Path(file).name}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""
