"""The judge of lesson 03's script with six placement bugs: what is found, what comes next, what is too much.

The script is run, never read. A run in which every mix of devices is mended shows all bugs that are left;
a plain run shows the error that the reader meets next.
"""

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ..engine import wrong
from .mixes import Mix, Watch, two_devices
from .placement import CopyCounter

Batch = tuple[torch.Tensor, torch.Tensor]
Result = tuple[nn.Module, Any]
Script = Callable[[torch.device, list[Batch], list[Batch]], Result]
_WEIGHT, _MEAN, _STD, _MASK = (
    torch.tensor([1.0, 2.0, 4.0]),
    torch.linspace(0.2, 0.8, 6),
    0.3,
    torch.arange(6) < 4,
)
_LAYERS, _NEEDED = 3, {"training": 2, "test": 3}  # copies of a batch: two in, and its counts out
# each bug: its name when it is found, a question while it is next
_BUGS = {
    "constants": ("mean and std", "Which tensors of this line belong to the model, unknown to .to()?"),
    "layers": ("the hidden layers", "Whose weights are these, and are they among model.parameters()?"),
    "mask": ("the mask", "Which tensor of this line is made anew in each call, and where?"),
    "loss": ("the loss weight", "Model and batch are in place. What else takes part in the loss?"),
    "loop": ("the test loop", "The training loop moves its batches. Does this one?"),
    "metric": ("the metric", "Where do the counts come from, and where was the tensor made that takes them?"),
}


class _Phases(list[Batch]):
    """Batches that tell when a loop over them begins."""

    def __init__(self, batches: list[Batch], begin: Callable[[], None]) -> None:
        super().__init__(batches)
        self._begin = begin

    def __iter__(self) -> Iterator[Batch]:
        self._begin()
        return super().__iter__()


def judge_six_bugs(net: type[nn.Module], script: Script) -> None:
    """Judge the script: first by the bugs that are left, then by its results, devices and copies."""
    with two_devices() as (first, second):
        error = _error_of(script, first)
        left = _left(script, first) if error is not None else []
        if error is not None and not left:
            raise error  # another error than one of placement
        if error is not None:
            found = [name for key, (name, _) in _BUGS.items() if key not in left]
            listed = f": {', '.join(found)}" if found else ""
            question = _BUGS[left[0]][1] if left[0] in _BUGS else "This one was not there before."
            wrong(left[0], f"{len(found)} of 6 found{listed}. Next the error is {_told(error)} {question}")
        _judge_results(net, script, first)
        error = _error_of(script, second)
        if error is not None:
            wrong(
                "hard-coded",
                f"6 of 6 found, and one thing too many: on {first} the script runs, on {second} it does not. "
                f"{_told(error)} Which line names one device, whatever device the script is given?",
            )
        model = _judge_results(net, script, second)
        _judge_copies(script, first)
        _judge_moving(model, first)


def _batches(count: int, seed: int) -> list[Batch]:
    """Return batches on the CPU: inputs (16, 6), labels (16,) from 0 to 2."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.rand(16, 6, generator=generator), torch.randint(3, (16,), generator=generator))
        for _ in range(count)
    ]


def _run(script: Script, place: torch.device, training: list[Batch], test: list[Batch]) -> Result:
    """Run the script from fixed random numbers; a default device that it sets does not outlive the run."""
    before = torch.get_default_device()
    torch.manual_seed(3)
    try:
        return script(place, training, test)
    finally:
        if torch.get_default_device() != before:
            torch.set_default_device(before)


def _error_of(script: Script, place: torch.device) -> RuntimeError | None:
    """Run the script plainly; return the RuntimeError that stops it, if one does."""
    try:
        _run(script, place, _batches(3, 1), _batches(2, 2))
    except RuntimeError as error:
        return error
    return None


def _told(error: RuntimeError) -> str:
    """Return an error's type and text, and the reader's deepest line on the way to it."""
    skipped = ("torch", "course_utils")
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not any(f"/{s}/" in _slashed(f) for s in skipped)
    ]
    line = f' in the line "{frames[-1].line}"' if frames and frames[-1].line else ""
    return f"{type(error).__name__}{line}: {str(error).splitlines()[0]}"


def _slashed(frame: traceback.FrameSummary) -> str:
    return frame.filename.replace("\\", "/")


# ---- which bugs are left --------------------------------------------------------------------------------
def _left(script: Script, place: torch.device) -> list[str]:
    """Run the script with every mix mended; return the keys of the bugs that are left, in order."""
    testing, test = [], _batches(2, 2)
    with Watch(place, mend=True) as watch:
        watched = _Phases(test, lambda: testing.append(len(watch.mixes)))
        model, _ = _run(script, place, _batches(3, 1), watched)
    start = testing[0] if testing else len(watch.mixes)
    inputs = {_storage(tensor) for batch in test for tensor in batch}
    keys = [_key(mix, index >= start, inputs) for index, mix in enumerate(watch.mixes)]
    if "layers" not in keys and len(_trained(model)) < 2 * _LAYERS:
        keys.append("layers")  # moved by hand, still not registered
    return list(dict.fromkeys(keys))


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _key(mix: Mix, in_test: bool, inputs: set[int]) -> str:
    """Return which of the bugs a mix comes from."""
    if in_test and any(_storage(tensor) in inputs for tensor in mix.astray):
        return "loop"
    if mix.operation == "cross_entropy":
        return "loss" if any(tensor.is_floating_point() for tensor in mix.astray) else "other"
    if not mix.in_module:
        return "metric" if in_test else "other"
    if any(tensor.requires_grad and tensor.is_leaf for tensor in mix.astray):
        return "layers"
    zero_one = all(bool(((t == 0) | (t == 1)).all()) for t in mix.astray)
    return "mask" if zero_one else "constants"


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


# ---- what a script without errors does ------------------------------------------------------------------
def _linears(model: nn.Module) -> list[nn.Linear]:
    """Return the linear layers, the one to three classes last."""
    return sorted((m for m in model.modules() if isinstance(m, nn.Linear)), key=lambda m: m.out_features == 3)


def _judge_results(net: type[nn.Module], script: Script, place: torch.device) -> nn.Module:
    """Compare the trained weights and the counts with those of a training on the CPU; return the model."""
    begin: list[list[torch.Tensor]] = []

    def remember(module: nn.Module, _: Any) -> None:
        if isinstance(module, net) and not begin:
            begin.append([p.detach().cpu().clone() for layer in _linears(module) for p in layer.parameters()])

    hook = register_module_forward_pre_hook(remember)
    try:
        with Watch(place) as watch:
            model, right = _run(script, place, _batches(3, 1), _batches(2, 2))
    finally:
        hook.remove()
    trained = _trained(model)
    if len(trained) < 2 * _LAYERS:
        wrong(
            "untrained",
            "No error is left, but model.parameters() still does not know the hidden layers: they were moved "
            "by hand, and the optimizer does not train them.",
        )
    if len(trained) > 2 * _LAYERS:
        wrong(
            "constants trained", "The error is gone, but mean or std is trained now. Constants are buffers."
        )
    if watch.worked_on - {place} or any(parameter.device != place for parameter in trained):
        wrong("elsewhere", f"The script was given {place}, but worked elsewhere too. Train and test there.")
    weights, counts = _reference(begin[0]) if begin else ([], torch.zeros(0))
    ended = [p.detach().cpu() for layer in _linears(model) for p in layer.parameters()]
    alike = len(weights) == len(ended) and all(
        torch.allclose(one, two, rtol=1e-3, atol=1e-4) for one, two in zip(weights, ended, strict=True)
    )
    if not alike:
        wrong(
            "changed",
            "No error is left, but the training gives other weights than before. Only places should change: "
            "keep mean, std, layers, mask, loss weight and optimizer.",
        )
    if not torch.equal(torch.as_tensor(right).detach().cpu().float().flatten(), counts):
        wrong("counts", "The counts of right guesses for each class are not those of the trained model.")
    return model


def _forward(x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """Compute the network's scores on the CPU."""
    x = (x - _MEAN) / _STD
    for weight, bias in (weights[0:2], weights[2:4]):
        x = F.linear(x, weight, bias).relu()
    return F.linear(x * _MASK, *weights[4:6])


def _reference(begin: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Train on the CPU from the given weights; return the weights after it and the counts."""
    weights = [tensor.requires_grad_() for tensor in begin]
    for x, y in _batches(3, 1):
        gradients = torch.autograd.grad(F.cross_entropy(_forward(x, weights), y, weight=_WEIGHT), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.1 * gradient
    with torch.no_grad():
        pairs = [(_forward(x, weights).argmax(dim=1), y) for x, y in _batches(2, 2)]
    counts = sum(torch.bincount(y[guess == y], minlength=3) for guess, y in pairs)
    return [weight.detach() for weight in weights], counts.float()


# ---- copies ---------------------------------------------------------------------------------------------
def _copies(script: Script, place: torch.device, training: int, test: int) -> int:
    with CopyCounter() as counter:
        _run(script, place, _batches(training, 1), _batches(test, 2))
    return counter.copies


def _judge_copies(script: Script, gpu: torch.device) -> None:
    """Count how often a batch crosses: on a GPU no more than needed, on the CPU never."""
    for place in (gpu, torch.device("cpu")):
        base = _copies(script, place, 3, 2)
        more = {"training": _copies(script, place, 5, 2) - base, "test": _copies(script, place, 3, 4) - base}
        for name, count in more.items():
            needed = _NEEDED[name] if place.type != "cpu" else 0
            if count / 2 > needed:
                wrong(
                    "copies",
                    f"6 of 6 found, but on {place} each {name} batch makes {count // 2} copies between "
                    f"devices; {needed} are enough. What else is moved for every batch? Make it where the "
                    "data are, or move it once.",
                )


def _judge_moving(model: nn.Module, place: torch.device) -> None:
    """Move a trained model to another device, look for tensors that stayed behind, and use it there."""
    start = f"6 of 6 found, and the script runs everywhere. But after model.to({str(place)!r})"
    model.to(place)
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.device != place:
                wrong("stuck", f"{start}, {name} is on {value.device}: it is still not registered.")
    try:
        model(torch.rand(2, 6).to(place))
    except RuntimeError as error:
        wrong("stuck", f"{start} the model fails: {_told(error)} What did not move along?")
