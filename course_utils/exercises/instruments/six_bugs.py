"""Lesson 03's script with six placement bugs: which are left in it.

The script is run, never read. Where PyTorch would stop at the first mix of devices, a run in which every mix
is mended shows all bugs that are left.
"""

from collections.abc import Callable
from traceback import walk_stack
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from course_utils.memory.labels import tensors_in

from ..trying import same

Batch = tuple[torch.Tensor, torch.Tensor]
Script = Callable[[torch.device, list[Batch], list[Batch]], tuple[nn.Module, Any]]
BUGS = {
    "constants": "mean and std",
    "layers": "the hidden layers",
    "mask": "the mask",
    "loss": "the loss weight",
    "loop": "the test loop",
    "metric": "the metric",
}
_TRAINING = 3  # batches


def batches(count: int, seed: int) -> list[Batch]:
    """Return batches on the CPU: inputs (16, 6), labels (16,) from 0 to 2."""
    new = torch.Generator().manual_seed(seed)
    return [(torch.rand(16, 6, generator=new), torch.randint(3, (16,), generator=new)) for _ in range(count)]


def run(script: Script, place: torch.device, training: int = _TRAINING, test: int = 2) -> Any:
    """Run the script from fixed random numbers; a default device that it sets does not outlive the run."""
    before = torch.get_default_device()
    torch.manual_seed(3)
    try:
        return script(place, batches(training, 1), batches(test, 2))
    finally:
        if torch.get_default_device() != before:
            torch.set_default_device(before)


def bugs_left(script: Script, place: torch.device) -> list[str]:
    """Run the script with every mix mended; return the keys of the bugs that are left, in order."""
    with _Mending(place) as mending:
        model, _ = run(script, place)
    if len([parameter for parameter in model.parameters() if parameter.requires_grad]) < 6:
        mending.bugs.append("layers")  # if moved by hand, they are still not registered
    return list(dict.fromkeys(mending.bugs))


class _Mending(TorchFunctionMode):
    """Notes which bug each refused mix comes from, and runs it again with its tensors brought together."""

    def __init__(self, home: torch.device) -> None:
        super().__init__()
        self.home, self.bugs, self._steps = home, [], 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._steps += func.__name__ == "backward"
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError:
            tensors = list(tensors_in((args, kwargs)))
            if len({tensor.device for tensor in tensors}) < 2:
                raise
        astray = [tensor for tensor in tensors if tensor.device != self.home]
        self.bugs.append(_bug(func.__name__, astray, in_test=self._steps == _TRAINING))
        args, kwargs = tree_map_only(torch.Tensor, lambda one: one.to(self.home), (args, kwargs or {}))
        return func(*args, **kwargs)


def _bug(operation: str, astray: list[torch.Tensor], in_test: bool) -> str:
    """Return which of the bugs left these tensors elsewhere than the work."""
    in_module = any(frame.f_code is nn.Module._call_impl.__code__ for frame, _ in walk_stack(None))
    test = [tensor for batch in batches(2, 2) for tensor in batch]
    if in_test and any(same(one.cpu(), two) for one in astray for two in test):
        return "loop"
    if operation == "cross_entropy":
        return "loss" if any(tensor.is_floating_point() for tensor in astray) else "another"
    if not in_module:
        return "metric" if in_test else "another"
    if any(tensor.requires_grad and tensor.is_leaf for tensor in astray):
        return "layers"
    zero_one = all(bool(((t == 0) | (t == 1)).all()) for t in astray)
    return "mask" if zero_one else "constants"
