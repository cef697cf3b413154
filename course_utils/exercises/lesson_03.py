"""The trials of lesson 03: the cross-device error."""

from itertools import product
from typing import Any

import torch
from torch import nn

from .guessing import read_guess
from .instruments.mixes import Watch, two_devices
from .instruments.placement import Copies, some_gpus
from .instruments.six_bugs import BUGS, Script, bugs_left, run, trained
from .lesson import Lesson
from .trying import Mistake, Seen, mistake_if, told

lesson = Lesson("03")
summary = lesson.summary
globals().update(lesson.exercises)

CPU = torch.device("cpu")


# ---- predictions ---------------------------------------------------------------------------------------
def _settled(actual: str, nothing: str) -> None:
    """Say so where the lesson runs on a device that refuses no mix, and so settles nothing."""
    mistake_if(actual == nothing, "unsettled")


@lesson.trial()
def named(guess: Any, actual: str) -> str:
    """Read the name of an argument, as the message has it or as the layer does."""
    _settled(actual, "none")
    word = str(guess).strip().lower()
    return read_guess({"input": "mat1", "weight": "mat2", "bias": "self"}.get(word, word), named.choices)


@lesson.trial()
def raising(guess: Any, actual: str) -> frozenset[str]:
    """Read the numbers of lines."""
    _settled(actual, "")
    return read_guess(guess, raising.choices, several=True)


@lesson.trial()
def allowed_mixes(guess: Any, actual: str) -> frozenset[str]:
    """Read the letters of lines."""
    _settled(actual, "abcdefgh")
    return read_guess(guess, allowed_mixes.choices, several=True)


# ---- the tensor that stayed behind ---------------------------------------------------------------------
class _Part(nn.Module):
    """A submodule with one tensor of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("cache", torch.zeros(2), persistent=False)
        self.register_buffer("unused", None)
        self.offset, self.label = torch.zeros(2), "part"


class _Whole(_Part):
    """A model with two submodules in a list, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.mean = torch.zeros(3)
        self.parts = nn.ModuleList([_Part(), _Part()])

    def homes(self) -> dict[str, torch.device]:
        """Return where each tensor is, by its name."""
        return {name: getattr(module, key).device for name, module, key in self._tensors()}

    def scatter(self, home: torch.device, elsewhere: torch.device, astray: set[str]) -> None:
        """Put the tensors in `astray` elsewhere, and all others home."""
        for name, module, key in self._tensors():
            tensor = getattr(module, key)
            there = tensor.detach().to(elsewhere if name in astray else home)
            setattr(module, key, nn.Parameter(there) if isinstance(tensor, nn.Parameter) else there)

    def _tensors(self) -> list[tuple[str, nn.Module, str]]:
        return [
            (f"{prefix}.{key}".lstrip("."), module, key)
            for prefix, module in self.named_modules()
            for key, value in (module._parameters | module._buffers | vars(module)).items()
            if isinstance(value, torch.Tensor)
        ]


_ASTRAY = (
    "",
    "first.weight scale",
    "parts.0.count",
    "mean",
    "parts.1.offset",
    "parts.0.cache",
    "first.weight mean",  # on another GPU
    "scale offset parts.0.offset parts.1.cache parts.1.count",
    " ".join(_Whole().homes()),
)


@lesson.trial([(turned, astray) for turned in (False, True) for astray in _ASTRAY])
def left_behind(answer: Any, turned: bool, astray: str) -> Seen:
    """See which names are given for a model on one of two GPUs, but for some tensors."""
    with some_gpus(2) as gpus:
        home, other = gpus[1::-1] if turned else gpus[:2]
        model = _Whole()
        model.scatter(home, other if astray == _ASTRAY[6] else CPU, set(astray.split()))
        before = model.homes()
        names = answer(model, home)
        mistake_if(model.homes() != before, "moved")
    if not isinstance(names, (list, tuple, set, dict)) or not all(isinstance(n, str) for n in names):
        raise Mistake("names")
    missing, listed = set(astray.split()) - set(names), set(names) - set(astray.split())
    return Seen(sorted(names), home=home, missing=sorted(missing), listed=sorted(listed))


# ---- a tensor made in its place ------------------------------------------------------------------------
@lesson.trial(list(product((False, True), (0, 1, 2), ((2, 3), (4, 7)))))
def add_positions(answer: Any, count: bool, number: int, shape: tuple[int, int]) -> Seen:
    """See what is added to x on some device, and at last whether copies are made."""
    values = torch.rand(shape)
    with two_devices() as gpus:
        place = (*gpus, CPU)[number]
        x = values.to(place).requires_grad_().clone()  # a clone may be changed in place: seen below
        with Copies() as copies:
            try:
                result = answer(x)
            except RuntimeError as error:
                raise (
                    Mistake("fixed", place=place, error=error) if "device" in str(error) else error
                ) from error
        mistake_if(not isinstance(result, torch.Tensor), "return")
        seen = {
            "values": result.detach().cpu().float(),
            "x": x.detach().cpu(),
            "device": result.device == place,
            "dtype": result.dtype,
            "gradient": result.requires_grad,
            "copies": count and len(copies.host) > 0,
        }
        return Seen(seen, place=place, device=result.device, dtype=result.dtype)


# ---- six bugs ------------------------------------------------------------------------------------------
@lesson.trial(
    [("errors", 0), ("results", 0), ("errors", 1), ("results", 1), ("copies", 0), ("copies", 2), ("moves", 0)]
)
def six_bugs(net: type[nn.Module], script: Script, look: str, number: int) -> Any:
    """See which bugs are left, how the training ends, how much is copied, and whether the model moves."""
    with two_devices() as gpus:
        place = (*gpus, CPU)[number]
        return {"errors": _errors, "results": _results, "copies": _copies, "moves": _moves}[look](
            script, place
        )


def _errors(script: Script, place: torch.device) -> None:
    """Name the bug that the script meets next."""
    try:
        run(script, place)
    except RuntimeError as error:
        left = bugs_left(script, place)
        if not left:
            raise  # another error than one of placement
        names = ", ".join(name for key, name in BUGS.items() if key not in left)
        found = f"{len(BUGS.keys() - set(left))} of 6 found{': ' * bool(names)}{names}."
        key = left[0] if place == torch.device("cuda", 0) else "hard_coded"
        raise Mistake(key, found=found, place=place, error=told(error)) from error


def _results(script: Script, place: torch.device) -> Seen:
    """See what was trained, where, and with which end."""
    with Watch(place) as watch:
        model, right = run(script, place)
    linears = sorted((m for m in model.modules() if isinstance(m, nn.Linear)), key=lambda m: m.out_features)
    elsewhere = bool(watch.worked_on - {place}) or any(p.device != place for p in trained(model))
    weights = [p.detach().cpu() for layer in linears for p in layer.parameters()]
    counts = torch.as_tensor(right).detach().cpu().float().flatten()
    return Seen((len(trained(model)), elsewhere, weights, counts), place=place)


def _copies(script: Script, place: torch.device) -> None:
    """Count how often a batch crosses: two in, and the counts of a test batch back; on the CPU never."""

    def copies(training: int, test: int) -> int:
        with Copies() as copies:
            run(script, place, training, test)
        return len(copies.host)

    base = copies(3, 2)
    for phase, more, needed in (("training", copies(5, 2), 2), ("test", copies(3, 4), 3)):
        needed = 0 if place == CPU else needed
        if (each := (more - base) // 2) > needed:
            raise Mistake("copies", place=place, phase=phase, copies=each, needed=needed)


def _moves(script: Script, place: torch.device) -> None:
    """Move a model that was trained on another device, and use it."""
    with two_devices() as gpus:
        model, _ = run(script, gpus[1])
    model.to(place)
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.device != place:
                raise Mistake("stuck", place=place, name=name, device=value.device)
    try:
        model(torch.rand(2, 6).to(place))
    except RuntimeError as error:
        raise Mistake("fails", place=place, error=told(error)) from error


# ---- the challenge -------------------------------------------------------------------------------------
class _Classifier(nn.Module):
    """A model that notes which rows it saw, and where."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(256, 4) / 16)
        self.rows, self.places = 0, set[torch.device]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score for each row and class."""
        self.rows += len(x)
        self.places.add(x.device)
        return x @ self.weight


@lesson.trial([(0,), (1,)], right=lambda share, best: abs(share - best) < 1e-5)
def accuracy(answer: Any, number: int) -> Seen:
    """See the share that is returned, what the model saw, what the GPU held, and the copies it took."""
    batches = [(torch.rand(n, 256), torch.randint(4, (n,))) for n in [*[64] * 7, 10]]
    rows, batch = sum(len(y) for _, y in batches), batches[0][0].nbytes
    with two_devices() as gpus:
        home, model = gpus[number], _Classifier().to(gpus[number]).eval()
        held = torch.cuda.memory_allocated(home) if home != CPU else 0
        if home != CPU:
            torch.cuda.reset_peak_memory_stats(home)
        try:
            with Copies() as copies:
                share = answer(model, batches, home)
        except RuntimeError as error:
            if number == 0 or "device" not in str(error):
                raise
            raise Mistake("fixed", home=home, error=error) from error
        held = (torch.cuda.max_memory_allocated(home) - held) / batch if home != CPU else 0
    mistake_if(isinstance(share, torch.Tensor), "tensor")
    mistake_if(not isinstance(share, (int, float)), "number")
    mistake_if(model.places - {home} or model.weight.device != home, "elsewhere", home=home)
    mistake_if(model.rows != rows, "rows", rows=model.rows, all=rows)
    mistake_if(held > 3.5, "memory" if held * 64 >= rows else "kept", held=held)
    return Seen(float(share), score=len(copies.host))
