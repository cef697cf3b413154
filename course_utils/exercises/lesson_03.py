"""The exercises of lesson 03: the cross-device error."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from . import progress
from .engine import Score, exercise, myth, wrong
from .judging.mixes import two_devices
from .judging.placement import CopyCounter
from .judging.six_bugs import judge_six_bugs

summary = partial(progress.summary, "03")


def _settled(actual: str, nothing: str) -> None:
    """Say so where the lesson runs on a device that refuses no mix, and so settles nothing."""
    if actual == nothing:
        wrong("cpu", "On this device nothing was refused. To settle it: COURSE_DEVICE=virtual, then restart.")


# ---- predictions ----------------------------------------------------------------------------------------
@exercise(
    kind="predict",
    minutes=1,
    difficulty="easy",
    stub="exercise.named.guess(...)",
    solution='exercise.named.guess("mat2")',
    reasoning="Without bias the layer is mm(x, weight): x is checked first and sets the standard, so the "
    "weight, mat2, is the first that differs.",
    hints=(
        "The arguments are checked in order; the first tensor sets the standard.",
        "There is no bias now. Who is first in mm(x, weight), and who is the first that differs?",
    ),
    why="The argument that a message names is the first that differs, which need not be the one at fault.",
    choices=("mat1", "mat2", "self"),
)
def named(guess: Any, actual: str) -> None:
    """The layer is on the GPU, its input is not, and there is no bias: which argument will be named?"""
    _settled(actual, "none")
    word = str(guess).strip().lower()
    word = {"input": "mat1", "weight": "mat2", "bias": "self"}.get(word, word)
    if word == actual:
        return
    if word == "mat1":
        wrong(
            "mat1",
            "mat1 is the one at fault, but with no bias it is checked first, so it sets the standard.",
        )
    if word == "self":
        wrong("self", "self was the bias of addmm. This layer has none, so it is an mm: two arguments.")
    wrong("other", f"The message named {actual}. The first tensor sets the standard, the next is compared.")


@exercise(
    kind="predict",
    minutes=2,
    difficulty="medium",
    stub="exercise.raising.guess(...)",
    solution="exercise.raising.guess([1, 2, 3, 4])",
    reasoning="Only indices on the CPU into a GPU tensor are let through; the other way round is refused.",
    hints=(
        "Four of the five are errors.",
        "The one that works is an index. Which way round would PyTorch have to fetch data from a GPU?",
    ),
    why="Indexing is the one place where the two directions are treated differently.",
    choices=(1, 2, 3, 4, 5),
    several=True,
)
def raising(guess: Any, actual: str) -> None:
    """Which of the five lines raise an error?"""
    _settled(actual, "")
    lines = "".join(sorted(set(str(guess)) & set("12345")))
    if lines == actual:
        return
    if lines == "12345":
        wrong("all", "All but one: there is a mix that is no error. Look at the two lines that index.")
    if "4" not in lines and "5" in lines:
        wrong(
            "turned", "The other way round: CPU indices may pick from a GPU tensor, not GPU indices from CPU."
        )
    if "4" not in lines:
        wrong(
            "indices", "Indices are no exception in general: line 4, GPU indices into a CPU tensor, raises."
        )
    if "1" not in lines:
        wrong(
            "embedding", "An embedding is a look-up, but a named operation: it wants its indices beside it."
        )
    wrong("other", f"It was {actual}. Compare each message with the line that you had otherwise.")


@exercise(
    kind="predict",
    minutes=3,
    difficulty="medium",
    stub="exercise.allowed_mixes.guess(...)",
    solution='exercise.allowed_mixes.guess(["a", "b", "e", "g"])',
    reasoning="Python numbers, 0-dimensional CPU tensors, CPU indices into GPU tensors, and copies may mix.",
    hints=(
        "Four of the eight work.",
        "One of them is a Python number, one counts as a number, one is an index, one is a copy.",
    ),
    why="Each exception has a reason: a number travels with the operation, and a copy is meant to cross.",
    choices=tuple("abcdefgh"),
    several=True,
)
def allowed_mixes(guess: Any, actual: str) -> None:
    """Which of the eight lines work?"""
    _settled(actual, "abcdefgh")
    letters = set(str(guess).lower()) & set("abcdefgh")
    if letters == set(actual):
        return
    if letters <= {"a"}:
        wrong("strict", "The rule is not that strict: one number, an index and a copy may cross as well.")
    if "d" in letters:
        wrong(
            "one element", "One element is not enough: torch.tensor([2.0]) has an axis, so it is no number."
        )
    if "c" in letters:
        wrong("gpu number", "A 0-dimensional tensor counts as a number only when it is on the CPU.")
    if "f" in letters:
        wrong("gpu index", "GPU indices may not pick from a CPU tensor. The other way round they may.")
    if "h" in letters:
        wrong("in place", "copy_ is the one in-place operation that crosses; add_ computes.")
    if "b" not in letters:
        wrong("number", "torch.tensor(2.0) has no axes, so it counts as a number although it is on the CPU.")
    if "e" not in letters:
        wrong("index", "Indices on the CPU may pick from a GPU tensor, as in line 5 of the exercise before.")
    if "g" not in letters:
        wrong("copying", "copy_ is there to fill a tensor from another, also from one on another device.")
    wrong("missed", f"These work: {', '.join(actual)}. Four rules cover them; they follow.")


# ---- to write and to repair -----------------------------------------------------------------------------
@exercise(
    kind="write",
    minutes=10,
    difficulty="medium",
    stub='''
def left_behind(model, device):
    """Return the names of the model's tensors that are not on `device`."""
    return ...
''',
    solution='''
def left_behind(model, device):
    """Return the names of the model's tensors that are not on `device`."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{prefix}.{name}".lstrip(".")] = value
    return [name for name, tensor in tensors.items() if tensor.device != device]
''',
    reasoning="Registered tensors have named_parameters and named_buffers. What nobody registered is in "
    "vars(module) of the module itself, and every submodule has its own.",
    hints=(
        "Three kinds: named_parameters(), named_buffers(), and the plain attributes in vars(module).",
        "named_parameters and named_buffers include submodules; vars does not. model.named_modules() gives "
        "the name and the module of each, the model itself with the name ''.",
        "Collect all in a dict from name to tensor, with f'{prefix}.{name}'.lstrip('.') for plain ones, and "
        "keep the names whose tensor.device != device.",
    ),
    why="The usual check looks at parameters only; what stays behind is most often something else.",
)
def left_behind(answer: Callable[[nn.Module, torch.device], Sequence[str]]) -> None:
    """Write the function that names every tensor of a model which is not on the device."""
    with two_devices() as (first, second):
        for astray, key, hint in _ASTRAY:
            _try_left_behind(answer, first, second, astray, key, hint)
        for astray, *_ in _ASTRAY:
            hint = f"It works for {first}, but not for {second}. Compare with the argument device."
            _try_left_behind(answer, second, first, astray, "fixed", hint)
        if second.type == "cpu":  # one GPU only: ask for one with another number
            model = _scattered(first, first, set())
            if set(answer(model, torch.device("cuda", 1))) != set(_tensors(model)):
                wrong("index", "Two GPUs are two devices: cuda:0 was taken for cuda:1.")


def _try_left_behind(
    answer: Callable[..., Any], home: torch.device, other: torch.device, astray: set[str], key: str, hint: str
) -> None:
    """Try the answer on a model that is on `home`, but for the tensors in `astray`."""
    cpu = torch.device("cpu")
    model = _scattered(home, other if key == "index" or home == cpu else cpu, astray)
    before = _homes(model)
    names = answer(model, home)
    if _homes(model) != before:
        wrong("moved", "The function moved something. It should look, and leave all as it is.")
    if not isinstance(names, (list, tuple, set, dict)) or not all(isinstance(n, str) for n in names):
        wrong("names", "Return a list of names, such as ['first.weight', 'mean'].")
    if set(names) == astray:
        if len(set(names)) < len(names):
            wrong("twice", "The names are right, but one comes more than once. Do two of your loops find it?")
        return
    if any(n.startswith(".") for n in names):
        wrong("dot", "A name begins with a dot: the model itself has the name '' among its modules.")
    if astray and {n.rpartition(".")[2] for n in names} == {n.rpartition(".")[2] for n in astray}:
        wrong("prefix", "Say whose it is: 'parts.1.offset' for the attribute offset of parts[1].")
    if key == "fallback" and set(names) >= {n for n, _ in model.named_parameters()}:
        wrong(
            "comparison",
            "Every parameter was listed, on the device or not. Compare two devices, and with !=. A device is "
            "never equal to a text, and `is` asks whether they are one object.",
        )
    if key != "fixed" and set(names) & (set(before) - astray):
        wrong("all", "A tensor was listed that is on the device. Only what stayed behind is asked for.")
    wrong(key, hint)


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


# what stays behind, the key of the mistake that overlooks it, and the hint
_ASTRAY = [
    (set[str](), "fallback", "Nothing stayed behind, and yet something was listed."),
    ({"first.weight", "scale"}, "parameters", "A parameter that stayed behind was not found."),
    (
        {"parts.0.count"},
        "buffers",
        "A buffer stayed behind and was not found. Parameters are not all there is.",
    ),
    ({"mean"}, "plain", "A plain attribute, model.mean, stayed behind and was not found: no list knows it."),
    ({"parts.1.offset"}, "nested", "A plain attribute of a submodule, parts[1].offset, was not found."),
    (
        {"parts.0.cache"},
        "state_dict",
        "A buffer with persistent=False was not found. It is in no state_dict, but it has to move, too.",
    ),
    ({"first.weight", "mean"}, "index", "Two GPUs are two devices: something on another GPU was not found."),
    (
        {"scale", "offset", "parts.0.offset", "parts.1.cache", "parts.1.count"},
        "several",
        "Several tensors stayed behind at once, and some of them were not found.",
    ),
    (
        {"scale", "count", "cache", "offset", "mean", "first.weight"}
        | {f"parts.{i}.{name}" for i in (0, 1) for name in ("scale", "count", "cache", "offset")},
        "several",
        "The whole model stayed behind, and some of it was not found.",
    ),
]


def _tensors(model: nn.Module) -> dict[str, tuple[nn.Module, str, torch.Tensor]]:
    """Return for each tensor of a model its name, and the module and attribute that hold it."""
    found = {}
    for prefix, module in model.named_modules():
        for held in (module._parameters, module._buffers, vars(module)):
            for name, value in held.items():
                if isinstance(value, torch.Tensor):
                    found[f"{prefix}.{name}".lstrip(".")] = module, name, value
    return found


def _homes(model: nn.Module) -> dict[str, torch.device]:
    return {name: tensor.device for name, (_, _, tensor) in _tensors(model).items()}


def _scattered(home: torch.device, elsewhere: torch.device, astray: set[str]) -> nn.Module:
    """Return a model on `home`, but for the tensors in `astray`, which are `elsewhere`."""
    model = _Whole()
    for name, (module, attribute, tensor) in _tensors(model).items():
        there = tensor.detach().to(elsewhere if name in astray else home)
        setattr(module, attribute, nn.Parameter(there) if isinstance(tensor, nn.Parameter) else there)
    return model


@exercise(
    kind="repair",
    minutes=4,
    difficulty="easy",
    stub='''
def add_positions(x):
    """Return x with 0, 1, 2, ... added to its columns."""
    positions = torch.arange(x.shape[1]).to("cuda:0")
    return x + positions
''',
    solution='''
def add_positions(x):
    """Return x with 0, 1, 2, ... added to its columns."""
    positions = torch.arange(x.shape[1], device=x.device)
    return x + positions
''',
    reasoning="device=x.device makes the positions where x is, on any device, and nothing is copied.",
    hints=(
        "Which tensor is there already that tells where the new one should be?",
        "Factories such as torch.arange take device=. Give it the device of x.",
    ),
    why="A tensor that is made beside its data follows a model to any GPU, also under DataParallel.",
)
def add_positions(answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Repair the function so that it works wherever x is, without a copy between devices."""
    with two_devices() as gpus:
        places = (*gpus, torch.device("cpu"))
        copying = [
            place
            for place in places
            for shape in ((2, 3), (4, 7))
            if _copies_of_positions(answer, torch.rand(shape), place)
        ]
    if copying:
        wrong(
            "copy", f"It works, but with x on {copying[0]} every call copies between devices. Make it there."
        )


def _copies_of_positions(answer: Callable[..., Any], values: torch.Tensor, place: torch.device) -> int:
    """Add positions to one tensor, on one device; judge the result and return the number of copies."""
    x = values.to(place).requires_grad_().clone()  # a clone may be changed in place: seen below
    with CopyCounter() as counter:
        try:
            result = answer(x)
        except RuntimeError as error:
            if "device" not in str(error):
                raise
            wrong("fixed", f"With x on {place} it fails: {error} The positions are always in one place.")
    if not isinstance(result, torch.Tensor):
        wrong("return", "The function has to return a tensor.")
    if result.device != place:
        wrong("moved", f"x is on {place}, but the result is on {result.device}.")
    if not torch.equal(x.detach().cpu(), values):
        wrong("in place", "x itself was changed: += writes into it. Return a new tensor.")
    right = values + torch.arange(x.shape[1])
    close = result.shape == x.shape and torch.allclose(result.detach().cpu().float(), right, atol=1e-5)
    if not close:  # to a rounding: x + 1 - 1 is not quite x
        wrong("values", "The values changed: column 0 gets 0 added, column 1 gets 1, and so on.")
    if not result.requires_grad:
        wrong("gradient", "The result lost the gradient. The sum itself can stay as it was.")
    if result.dtype != x.dtype:
        wrong("dtype", f"x is {x.dtype}, but the result is {result.dtype}. Only the place should change.")
    return counter.copies


@exercise(
    kind="repair",
    minutes=20,
    difficulty="hard",
    stub="""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean, self.std = torch.linspace(0.2, 0.8, 6), torch.full((6,), 0.3)
        self.hidden = [nn.Linear(6, 6), nn.Linear(6, 6)]
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.hidden:
            x = layer(x).relu()
        mask = torch.arange(6) < 4  # the last two columns are padding
        return self.last((x * mask).to("cuda:0"))


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    right = torch.zeros(3)  # how many were right, for each class
    for x, y in test_batches:
        guess = model(x).argmax(dim=1)
        right += torch.bincount(y[guess == y], minlength=3)
    return model, right
""",
    solution="""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))
        self.register_buffer("std", torch.full((6,), 0.3))
        self.hidden = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.hidden:
            x = layer(x).relu()
        mask = torch.arange(6, device=x.device) < 4  # the last two columns are padding
        return self.last(x * mask)


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0])).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    right = torch.zeros(3, device=device)  # how many were right, for each class
    for x, y in test_batches:
        x, y = x.to(device), y.to(device)
        guess = model(x).argmax(dim=1)
        right += torch.bincount(y[guess == y], minlength=3)
    return model, right
""",
    reasoning="Constants are buffers, layers are in a ModuleList, the mask is made where x is, the criterion "
    "moves like a model, and both loops move their batches. Only the batch, the model and the criterion "
    "need .to.",
    hints=(
        "The four questions: which argument, which device, which line of mine, who should have moved it?",
        "The first two: what in __init__ does .to(device) not see? Use register_buffer and nn.ModuleList.",
        "Then: the mask (device=x.device), the class weights (the criterion is a module), the test loop, and "
        "the tensor that collects the counts.",
        "Last: which line names a GPU by its number? What would be lost without that .to?",
    ),
    why="The script runs on any device now, and each of its bugs is one that people really make.",
)
def six_bugs(net: type[nn.Module], train_and_test: Callable[..., Any]) -> None:
    """Find the six placement bugs in the script, one at a time, and the one .to too many."""
    judge_six_bugs(net, train_and_test)


# ---- three sentences -------------------------------------------------------------------------------------
one_device = myth(
    "one_device",
    "All inputs of an operation must be on one device, without exception.",
    "false",
    "There are exceptions: Python numbers, 0-dimensional CPU tensors, and CPU indices into GPU tensors.",
    {
        "true": "It is a good rule of thumb, but not without exception. What about gpu * torch.tensor(2.0)?",
        "outdated": "There is no release in which it became wrong: numbers and indices could always mix.",
    },
    __name__,
)

long_tensor = myth(
    "long_tensor",
    "If the labels stayed on the CPU, the message is: Expected object of type torch.cuda.LongTensor but "
    "found type torch.LongTensor for argument #2 'target'.",
    "outdated",
    "PyTorch said so in 2018; today: got target is on cpu, different from other tensors on cuda:0.",
    {
        "true": "Scroll up to the labels in this lesson: is that what PyTorch printed?",
        "false": "It was the very message once, so many answers on the web still quote it.",
    },
    __name__,
)

add_cuda = myth(
    "add_cuda",
    "The cure for the cross-device error is to add .cuda() in the line that fails.",
    "false",
    "It silences the line, but layers that nobody registered are still neither trained nor saved.",
    {
        "true": "The error goes away. But is the model that you get the one that you wanted? Run the proof.",
        "outdated": "It was never the cure: the place that should have moved the tensor is another line.",
    },
    __name__,
)


# ---- the challenge ---------------------------------------------------------------------------------------
@exercise(
    kind="challenge",
    minutes=15,
    difficulty="medium",
    stub='''
def accuracy(model, batches, device):
    """Return the share of right guesses, a Python float; the model is on `device`, the batches are not."""
    return ...
''',
    solution='''
def accuracy(model, batches, device):
    """Return the share of right guesses, a Python float; the model is on `device`, the batches are not."""
    with torch.no_grad():
        guesses = torch.cat([model(x.to(device)).argmax(dim=1) for x, _ in batches])
    labels = torch.cat([y for _, y in batches])
    return (guesses.cpu() == labels).float().mean().item()
''',
    reasoning="Only what the GPU needs goes there: the eight inputs. The labels wait on the CPU, and all "
    "guesses come back in one copy: nine copies. Counting on the GPU takes the labels there as well: 17.",
    hints=(
        "A plain loop moves x and y of each batch and reads one number per batch: 24 copies.",
        "Collect the guesses on the GPU and fetch them once. Do the labels have to travel at all?",
    ),
    why="Every copy has a fixed cost, and each one back makes the CPU wait, so fewer and later is better.",
)
def accuracy(answer: Callable[..., Any]) -> Score:
    """Compute the accuracy over eight batches with as few copies between devices as you can."""
    with two_devices() as (first, second):
        copies = _copies_of_accuracy(answer, first)
        try:
            _copies_of_accuracy(answer, second)
        except RuntimeError as error:
            if "device" not in str(error):
                raise
            wrong("fixed", f"It works for {first}, but not for {second}: {error} Use the argument device.")
    return Score(copies, "copies", 9)


def _copies_of_accuracy(answer: Callable[..., Any], home: torch.device) -> int:
    """Let the answer work with a model on `home`; judge it and return the number of copies."""
    generator = torch.Generator().manual_seed(7)
    batches = [
        (torch.rand(n, 256, generator=generator), torch.randint(4, (n,), generator=generator))
        for n in [*[64] * 7, 10]
    ]
    model = _Classifier(generator).to(home).eval()
    with torch.no_grad():
        right = [(model(x.to(home)).argmax(dim=1).cpu() == y).float() for x, y in batches]
    model.rows, model.places = 0, set()
    held = _fresh_peak(home)
    with CopyCounter() as counter:
        value = answer(model, batches, home)
    peak = torch.cuda.max_memory_allocated(home) - held if home.type == "cuda" else 0
    _judge_accuracy(value, right, model, home, peak)
    return counter.copies


def _fresh_peak(home: torch.device) -> int:
    """Begin a new peak of memory on a GPU; return the bytes in use there, 0 for the CPU."""
    if home.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(home)
    return torch.cuda.memory_allocated(home)


def _judge_accuracy(
    value: Any, right: list[torch.Tensor], model: "_Classifier", home: torch.device, peak: int
) -> None:
    """Judge what an answer to `accuracy` returned, where it worked, and what it held (in bytes)."""
    every, batch = torch.cat(right), 64 * 256 * 4
    if isinstance(value, torch.Tensor):
        wrong("tensor", "Return a Python number: the one copy that .item() needs is part of the task.")
    if not isinstance(value, (int, float)):
        wrong("number", "Return the share of right guesses as a Python float.")
    if model.places - {home} or next(model.parameters()).device != home:
        wrong("elsewhere", f"The model has to stay and work on {home}. On the CPU nothing has to be copied.")
    if model.rows != every.numel():
        copied = "" if model.rows else " A copy of the model does not count."
        wrong(
            "rows",
            f"The model saw {model.rows} rows; there are {every.numel()}, each to be seen once.{copied}",
        )
    if abs(value - every.sum().item()) < 1e-4:
        wrong("count", "That is how many were right. Divide by the number of rows.")
    if abs(value - every.mean().item()) > 1e-5:
        if abs(value - sum(part.mean().item() for part in right) / len(right)) < 1e-5:
            wrong(
                "mean of means", "The last batch is smaller: a mean of the batches' means counts it too much."
            )
        wrong("value", f"It is {every.mean().item():.4f}; your function returned {value:.4f}.")
    if peak > 3.5 * batch:  # half a batch of room for scores, guesses and labels
        held = f"The GPU held {peak / batch:.1f} batches at once; three are allowed."
        if peak >= every.numel() * 256 * 4:
            wrong(
                "memory",
                f"{held} Were all sent at once, or kept? Without torch.no_grad() scores keep their inputs.",
            )
        wrong("kept", f"{held} Send fewer together, or find what still holds one while the next comes.")


class _Classifier(nn.Module):
    """A model that notes which rows it saw, and where."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(256, 4, generator=generator) / 16)
        self.rows, self.places = 0, set[torch.device]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score for each row and class."""
        self.rows += len(x)
        self.places.add(x.device)
        return x @ self.weight
