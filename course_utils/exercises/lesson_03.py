"""The trials of lesson 03: the cross-device error."""

from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import make_dataclass
from traceback import walk_stack
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from course_utils.figures.nested import strays, tensors_in, walk

from .instruments.placement import flat, some_gpus, two_devices
from .instruments.recorder import CPU, recording
from .lesson import Lesson
from .trying import Mistake, Seen, mistake_if, same, settings_kept, told

lesson = Lesson("03")
globals().update(lesson.exercises, summary=lesson.summary)


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


def _whole() -> nn.Module:
    """Return a model with two submodules in a list, and a layer."""
    model = _Part()
    model.first, model.mean = nn.Linear(2, 2, bias=False), torch.zeros(3)
    model.parts = nn.ModuleList([_Part(), _Part()])
    return model


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every tensor of a model by its name, registered or not."""
    plain = {one.path: one.value for one in strays(model) if isinstance(one.value, torch.Tensor)}
    return dict(model.named_parameters()) | dict(model.named_buffers()) | plain


@lesson.trial()
def left_behind(answer: Any, number: int, far: bool, astray: str) -> Seen:
    """See which names are given for a model on one of two GPUs, but for some tensors."""
    model, wanted = _whole(), set(astray.split())
    with some_gpus(2) as gpus:
        home, elsewhere = gpus[number], gpus[1 - number] if far else CPU
        for name, tensor in _tensors(model).items():
            tensor.data = tensor.data.to(elsewhere if name in wanted else home)
        before = {name: tensor.device for name, tensor in _tensors(model).items()}
        names = answer(model, home)
        mistake_if({name: tensor.device for name, tensor in _tensors(model).items()} != before, "moved")
    listed = isinstance(names, list | tuple | set | dict) and all(isinstance(name, str) for name in names)
    mistake_if(not listed, "names")
    missing, too_many = sorted(wanted - set(names)), sorted(set(names) - wanted)
    return Seen(sorted(names), home=home, missing=missing, listed=too_many)


# ---- six bugs ------------------------------------------------------------------------------------------
# The script is run, never read; a run in which every mix of devices is mended shows all bugs that are left.
_Batch = tuple[torch.Tensor, torch.Tensor]
_Script = Callable[[torch.device, list[_Batch], list[_Batch]], tuple[nn.Module, Any]]
_MISTAKES = lesson.tables["six_bugs"]["mistakes"]
_BUGS = {key: mistake["bug"] for key, mistake in _MISTAKES.items() if "bug" in mistake}
_TRAINING = 3  # batches


def _results(script: _Script, place: torch.device) -> Seen:
    """See what was trained, where, and with which end; or name the bug that the script meets next."""
    try:
        with recording() as record:
            model, right = _run(script, place)
    except RuntimeError as error:
        left = _bugs_left(script, place)
        if not left:
            raise  # another error than one of placement
        names = ", ".join(name for key, name in _BUGS.items() if key not in left)
        found = f"{len(_BUGS.keys() - set(left))} of 6 found{': ' * bool(names)}{names}."
        key = left[0] if place == torch.device("cuda", 0) else "hard_coded"
        raise Mistake(key, found=found, place=place, error=told(error)) from error
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    worked_at = {device for one in record.operations if one.flop for device, _ in one.results}
    elsewhere = worked_at | {parameter.device for parameter in trained} != {place}
    weights = flat(trained).cpu().sort().values  # wherever in the model they are
    counts = torch.as_tensor(right).detach().cpu().float().flatten()
    return Seen((len(trained), elsewhere, weights, counts), place=place)


def _copies(script: _Script, place: torch.device) -> None:
    """Count how often a batch crosses: two in, and the counts of a test batch back; on the CPU never."""

    def copies(training: int, test: int) -> int:
        with recording() as record:
            _run(script, place, training, test)
        return len(record.host)

    base = copies(3, 2)
    for phase, more, needed in (("training", copies(5, 2), 2), ("test", copies(3, 4), 3)):
        each, needed = (more - base) // 2, needed * (place != CPU)
        mistake_if(each > needed, "copies", place=place, phase=phase, copies=each, needed=needed)


def _moves(script: _Script, place: torch.device) -> None:
    """Move a model that was trained on another device, and use it."""
    with two_devices() as gpus:
        model, _ = _run(script, gpus[1])
    for name, tensor in _tensors(model.to(place)).items():
        mistake_if(tensor.device != place, "stuck", place=place, name=name, device=tensor.device)
    model(torch.rand(2, 6).to(place))


@lesson.trial([(_results, 0), (_results, 1), (_copies, 0), (_copies, 2), (_moves, 0)])
def six_bugs(net: type[nn.Module], script: _Script, look: Callable[..., Any], number: int) -> Any:
    """See which bugs are left, how the training ends, how much is copied, and whether the model moves."""
    with two_devices() as gpus:
        return look(script, (*gpus, CPU)[number])


def _batches(count: int, seed: int) -> list[_Batch]:
    """Return batches on the CPU: inputs (16, 6), labels (16,) from 0 to 2."""
    new = torch.Generator().manual_seed(seed)
    return [(torch.rand(16, 6, generator=new), torch.randint(3, (16,), generator=new)) for _ in range(count)]


def _run(script: _Script, place: torch.device, training: int = _TRAINING, test: int = 2) -> Any:
    """Run the script from fixed random numbers; what it sets, such as a default device, ends with the run."""
    with settings_kept():
        torch.manual_seed(3)
        return script(place, _batches(training, 1), _batches(test, 2))


def _bugs_left(script: _Script, place: torch.device) -> list[str]:
    """Run the script with every mix mended; return the keys of the bugs that are left, in order."""
    with _Mending(place) as mending:
        model, _ = _run(script, place)
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
    test = [tensor for batch in _batches(2, 2) for tensor in batch]
    if in_test and any(same(one.cpu(), two) for one in astray for two in test):
        return "loop"
    if operation == "cross_entropy":
        return "loss" if any(tensor.is_floating_point() for tensor in astray) else "another"
    if not in_module:
        return "metric" if in_test else "another"
    if any(tensor.requires_grad and tensor.is_leaf for tensor in astray):
        return "layers"
    return "mask" if all(bool(((t == 0) | (t == 1)).all()) for t in astray) else "constants"


# ---- the challenge -------------------------------------------------------------------------------------
_Pair, _Sample = namedtuple("_Pair", "x y"), make_dataclass("_Sample", ["x", "file"])


class _Graph(SimpleNamespace):  # knows how to move itself
    def to(self, device: torch.device) -> "_Graph":
        return _Graph(x=self.x.to(device))


def _kinds() -> dict[str, Any]:
    """Return a batch of each kind, on the CPU; the first three are plain."""
    x, y = torch.rand(2, 3), torch.tensor([1, 0])
    plain = {"A tensor": x, "A tuple": (x, y), "A dict": {"x": [x, y], "file": "cat.png", "weight": None}}
    mappings = {"An OrderedDict": OrderedDict(x=x, y=y), "A UserDict": UserDict(x=x, y=y)}
    others = {"A namedtuple": _Pair(x, y), "A dataclass": _Sample(x, "1.png"), "A graph": _Graph(x=x)}
    return plain | mappings | others | {"A PackedSequence": pack_sequence([x[0], x[1, :2]])}


def _inside(batch: Any) -> list[Any]:
    """Return what a batch holds; a PackedSequence keeps its sizes on the CPU by design."""
    batch = batch.data if isinstance(batch, PackedSequence) else batch
    return [leaf for _, leaf in walk(vars(batch) if isinstance(batch, _Sample | _Graph) else batch)]


@lesson.trial([(0,), (1,)], right=None)
def to_device(answer: Any, number: int) -> Seen:
    """See which kinds of batch come to a device, whole; all but the plain ones may be refused."""
    carried = 0
    with two_devices() as gpus:
        for kind, batch in _kinds().items():
            try:
                moved = answer(batch, gpus[number])
            except Exception as error:
                mistake_if(carried < 3, "refused", kind=kind, error=told(error))
                continue
            facts, left, right = {"kind": kind, "home": gpus[number]}, _inside(batch), _inside(moved)
            mistake_if(not isinstance(moved, type(batch)), "type", found=type(moved).__name__, **facts)
            mistake_if({one.device for one in tensors_in(left)} != {CPU}, "changed", **facts)
            for tensor in tensors_in(right):
                mistake_if(tensor.device != gpus[number], "stays", device=tensor.device, **facts)
            mistake_if(not same(tree_map_only(torch.Tensor, torch.Tensor.cpu, right), left), "lost", **facts)
            carried += 1
    return Seen(carried, score=carried)
