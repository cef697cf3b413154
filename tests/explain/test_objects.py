"""The reader's lines, where the objects are, and what is said of an error that is not known."""

import dataclasses
import gc
import linecache
import multiprocessing.spawn
import types
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

from course_utils.errors import explain, is_own

from . import explained

OLD = "Expected all tensors to be on the same device, but found at least two devices, {} and {}!"
FRAME = '  File "/home/me/train.py", line 12, in forward\n    x = y[7]\n'
REPLICA = f"Caught {{}} in replica 1 on device 1.\nOriginal Traceback (most recent call last):\n{FRAME}{{}}\n"
WORKER = (
    "Caught ZeroDivisionError in DataLoader worker process 3.\nOriginal Traceback (most recent call last):\n"
    f"{FRAME}ZeroDivisionError: division by zero\n"
)
ON_RANK = "".join(
    f"[rank1]: {line}\n"
    for line in f"Traceback (most recent call last):\n{FRAME}IndexError: list index out of range".splitlines()
)


def test_unknown_error_is_admitted() -> None:
    found = explained(lambda: {}["x"])
    assert not found.known
    assert found.what == "I do not know this error: KeyError: 'x'"
    assert found.lines
    assert not explain(ValueError()).known


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (StopIteration(), "I do not know this error: StopIteration"),
        (ValueError(), "I do not know this error: ValueError"),
        (
            RuntimeError("a is unsafe.\nUse b.\nb is\nsafe."),
            "I do not know this error: RuntimeError: a is unsafe.",
        ),
        (RuntimeError("Lost.\nException raised from doWait at TCPStore.cpp:4:"), "RuntimeError: Lost."),
        (OSError("[Errno 98] Address already in use"), "I do not know"),  # any server, as a notebook's
        (OSError(104, "Connection reset by peer"), "I do not know"),  # any download
        (RuntimeError("failed to exit due to an error of type RendezvousTimeoutError."), "I do not know"),
        (RuntimeError("\n  What went wrong:\n    this\n"), "RuntimeError: What went wrong: this"),
        (REPLICA.format("KeyError", "KeyError: 7"), "In replica 1: I do not know this error: KeyError: 7"),
        (
            RuntimeError(REPLICA.format("KeyError", "KeyError: 7")),
            "In replica 1: I do not know this error: KeyError: 7",
        ),
        (
            WORKER,
            "In DataLoader worker process 3: I do not know this error: ZeroDivisionError: division by zero",
        ),
        (ON_RANK, "On rank 1: I do not know this error: IndexError: list index out of range"),
        (
            REPLICA.format("StopIteration", "StopIteration"),
            "In replica 1: forward called next(self.parameters())",
        ),
    ],
)
def test_what_tells_most_is_said_of_any_error(error: BaseException | str, what: str) -> None:
    assert what in explain(error).what


def test_the_telling_part_of_a_long_text_from_elsewhere() -> None:
    log = f"Epoch 1\n{ON_RANK}More lines\nin the end.\n"
    assert explain(log).what.endswith("IndexError: list index out of range")


@pytest.mark.parametrize(
    ("file", "own"),
    [
        (multiprocessing.spawn.__file__, False),
        ("/opt/conda/lib/python3.6/multiprocessing/spawn.py", False),
        (r"C:\Python37\lib\multiprocessing\spawn.py", False),
        (r"C:\Users\me\anaconda3\Lib\site-packages\torch\nn\modules\module.py", False),
        (r"D:\Uni\train.py", True),
        ("/home/me/lib/model/train.py", True),
        ("<frozen runpy>", False),
        ("<stdin>", True),
    ],
)
def test_files_of_python_and_of_packages_are_never_yours(file: str, own: bool) -> None:
    assert is_own(file) is own
    lines = explain(
        f'Traceback (most recent call last):\n  File "{file}", line 3, in f\n    x = y\nKeyError: 1'
    ).lines
    assert bool(lines) is own
    assert not lines or "\\" not in lines[0]


class Net(nn.Module):
    """A model with each kind of part that can stay behind."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.register_buffer("scale", torch.ones(2))
        self.mask = torch.ones(2)
        self.hidden = [nn.Linear(2, 2)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * self.mask  # the culprit's line


def test_own_lines_are_the_deepest_and_the_outermost() -> None:
    net, x = Net().cuda(), torch.ones(1, 3, device="cuda")
    deepest, outermost = explained(lambda: net(x)).lines
    assert deepest.startswith("return self.fc(x) * self.mask")
    assert deepest.endswith(", in forward)")
    assert "test_objects.py, line " in deepest
    assert outermost.startswith("called from: call()")


def test_a_notebook_cell_is_called_a_cell() -> None:
    source, name = "x = 1\nx / 0\n", "/tmp/ipykernel_41/123456789.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    assert "x / 0    (line 2 of the cell)" in explained(lambda: exec(compile(source, name, "exec"))).lines


def test_lines_of_a_replica_come_from_its_printed_traceback() -> None:
    text = (
        "Caught RuntimeError in replica 1 on device 1.\nOriginal Traceback (most recent call last):\n"
        '  File "/usr/lib/python3/dist-packages/torch/nn/parallel/parallel_apply.py", line 90, in _worker\n'
        "    output = module(*input, **kwargs)\n"
        '  File "/home/me/train.py", line 12, in forward\n    return x + self.bias\n           ~~^~~~\n'
        f"RuntimeError: {OLD.format('cuda:1', 'cuda:0')}\n"
    )
    found = explain(RuntimeError(text))
    assert found.what.startswith("In replica 1: One operation got tensors on two devices, cuda:1 and cuda:0")
    assert found.lines == ("return x + self.bias    (train.py, line 12, in forward)",)
    assert found.fix.startswith("In forward, take the device from the input")


def test_code_in_a_printed_traceback_is_not_taken_for_the_message() -> None:
    text = (
        "Caught KeyError in replica 0 on device 0.\nOriginal Traceback (most recent call last):\n"
        '  File "/home/me/train.py", line 3, in forward\n    x = parts["same device"]\nKeyError: 7\n'
    )
    assert not explain(RuntimeError(text)).known


def test_a_tensor_left_behind() -> None:
    net, x = nn.Linear(3, 2).cuda(), torch.ones(1, 3)
    found = explained(lambda: net(x), net=net, x=x)
    assert found.objects == ("net  cuda:0  (2 parameters)", "x    cpu     <- not on cuda:0")
    assert found.fix == 'x = x.to("cuda:0")'


def test_a_module_left_behind() -> None:
    net, x = nn.Linear(3, 2), torch.ones(1, 3, device="cuda")
    assert explained(lambda: net(x), net=net, x=x).fix == 'net.to("cuda:0")'


def test_parts_of_a_module_left_behind() -> None:
    net, x = Net().cuda(), torch.ones(1, 3, device="cuda")
    net.fc.bias = nn.Parameter(torch.zeros(2))
    found = explained(lambda: net(x), net=net, x=x)
    rows = [line.split() for line in found.objects]
    assert [(row[0], row[1]) for row in rows] == [
        ("net", "cuda:0"),
        ("net.fc.bias", "cpu"),
        ("net.mask", "cpu"),
        ("net.hidden[0]", "cpu"),
        ("x", "cuda:0"),
    ]
    assert "a plain attribute: .to() leaves it behind" in found.objects[2]
    assert found.fix.splitlines() == [
        'net.to("cuda:0")',
        'in Net: self.register_buffer("mask", ...)',
        "in Net: self.hidden = nn.ModuleList(...)",
        "Then look for a tensor made on the way, as in forward, which cannot be seen from here. Write, for "
        "example, torch.zeros(n, device=x.device).",
    ]


def test_parameters_and_buffers_are_counted_apart() -> None:
    norm = nn.BatchNorm1d(2, affine=False, track_running_stats=False)
    norm.register_buffer("scale", torch.ones(2))
    found = explain("same device", a=nn.Linear(2, 1, bias=False), b=norm, c=Net())
    assert [line.split("(")[1] for line in found.objects if "parameter" in line or "buffer" in line] == [
        "1 parameter)",
        "1 buffer)",
        "2 parameters, 1 buffer)",
    ]


@pytest.mark.parametrize(
    ("value", "note", "cure"),
    [
        (lambda: {"a": torch.ones(2)}, "dict", "self.register_buffer(...) for each tensor in self.it"),
        (lambda: (torch.ones(1),), "tuple", "self.register_buffer(...) for each tensor in self.it"),
        (lambda: [nn.Parameter(torch.ones(1))], "list", "self.it = nn.ParameterList(...)"),
        (lambda: {"a": nn.Linear(1, 1)}, "dict", "self.it = nn.ModuleDict(...)"),
        (lambda: (nn.Linear(1, 1),), "tuple", "self.it = nn.ModuleList(...)"),
    ],
)
def test_cure_fits_what_a_plain_container_holds(value: Callable[[], object], note: str, cure: str) -> None:
    net = Net()
    net.it = value()
    net.cuda()
    found = explain("same device", net=net)
    assert f"(in a plain {note}: .to() leaves it behind)" in found.objects[-1]
    assert f"in Net: {cure}" in found.fix.splitlines()


def test_a_list_of_registered_layers_is_no_stray() -> None:
    net = nn.Sequential(nn.Linear(1, 1))
    net.layers = [net[0]]
    assert len(explain("same device", net=net).objects) == 1


def test_a_private_attribute_is_found_too() -> None:
    net = nn.Linear(1, 1).cuda()
    net._scale = torch.ones(1)
    assert 'self.register_buffer("_scale", ...)' in explain("same device", net=net).fix


class Shifted(nn.Linear):
    """A model with a tensor as class attribute."""

    shift = torch.ones(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - self.shift)


class Further(Shifted):
    """A model that inherits it."""


@pytest.mark.parametrize("kind", [Shifted, Further])
def test_a_tensor_in_the_class(kind: type[nn.Module]) -> None:
    net, x = kind(3, 2).cuda(), torch.ones(1, 3, device="cuda")
    found = explained(lambda: net(x), net=net, x=x)
    assert "<- not on cuda:0  (a class attribute: .to() leaves it behind)" in found.objects[1]
    cure = f'in {kind.__name__}.__init__, not in the class body: self.register_buffer("shift", ...)'
    assert found.fix.splitlines()[0] == cure


def test_many_parts_are_counted() -> None:
    net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(8)]).cuda()
    for layer in net[:3]:
        layer.cpu()
    found = explained(lambda: net(torch.ones(1, 2)) + torch.ones(2, device="cuda"), net=net)
    assert len(found.objects) == 6
    assert "and 2 more" in found.objects[-1]


def test_batches_optimizers_and_numbers() -> None:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    net.cuda()
    net(torch.ones(1, 2, device="cuda")).sum().backward()
    batch = {"x": torch.ones(1, 2), "y": [torch.ones(1, device="cuda")]}
    found = explained(
        optimizer.step, net=net, optimizer=optimizer, batch=batch, rate=torch.tensor(0.1), name="x"
    )
    assert [line.split()[:2] for line in found.objects] == [
        ["net", "cuda:0"],
        ["optimizer", "cpu"],
        ["batch['x']", "cpu"],
        ["batch['y'][0]", "cuda:0"],
        ["rate", "cpu"],
    ]
    assert "<-" not in found.objects[-1]
    assert "optimizer.load_state_dict(optimizer.state_dict())" in found.fix
    assert "batch['x'] = batch['x'].to(\"cuda:0\")" in found.fix
    optimizer.load_state_dict(optimizer.state_dict())  # the advice works
    optimizer.step()


@dataclasses.dataclass
class Batch:
    """What a collate_fn may return."""

    images: torch.Tensor
    more: dict[str, dict[str, torch.Tensor]]


class Metric(nn.Module):
    """Holds its state as torchmetrics does: as plain attributes, which its .to() takes along."""

    def __init__(self) -> None:
        super().__init__()
        self._defaults = {"total": torch.zeros(2)}
        self.total = torch.zeros(2)


def test_named_things_are_looked_into() -> None:
    batch = Batch(torch.ones(2), {"a": {"b": torch.ones(2, device="cuda")}})
    normal = torch.distributions.Normal(torch.zeros(2), 1.0)
    found = explain(
        "same device", batch=batch, normal=normal, metric=Metric(), box=types.SimpleNamespace(x=batch)
    )
    assert [line.split()[:2] for line in found.objects] == [
        ["batch.images", "cpu"],
        ["batch.more['a']['b']", "cuda:0"],
        ["normal.loc", "cpu"],
        ["normal.scale", "cpu"],
        ["metric.total", "cpu"],
        ["box.x.images", "cpu"],
        ["box.x.more['a']['b']", "cuda:0"],
    ]
    assert found.fix.splitlines() == [
        'batch.images = batch.images.to("cuda:0")',
        'normal = Normal(...), with parameters on "cuda:0"',
        'metric.to("cuda:0")',
        'box.x.images = box.x.images.to("cuda:0")',
    ]


def test_what_cannot_be_looked_into_is_said() -> None:
    x = torch.ones(2, device="cuda")
    found = explain(
        "same device", x=x, more=(x for _ in "ab"), loader=torch.utils.data.DataLoader([x]), name="x"
    )
    assert [line.split()[:2] for line in found.objects] == [["x", "cuda:0"], ["more", "?"], ["loader", "?"]]
    assert "(generator: not looked into)" in found.objects[1]
    assert "All you named" not in found.fix
    assert "What could be looked into is on cuda:0, but more, loader could not" in found.fix


def test_objects_in_a_circle_come_to_an_end() -> None:
    circle = types.SimpleNamespace(x=torch.ones(2, device="cuda"))
    circle.itself = circle
    assert len(explain("same device", circle=circle).objects) == 3


def test_the_indexed_tensor_is_moved_before_its_index() -> None:
    table, index = torch.ones(3), torch.tensor([0], device="cuda")
    assert explained(lambda: table[index], table=table, index=index).fix == 'table = table.to("cuda:0")'
    assert explained(lambda: table[index]).fix.startswith("Move the indexed tensor to its index")


def test_a_tensor_that_nobody_named() -> None:
    x = torch.ones(2, device="cuda")
    assert "made on the way" in explained(lambda: x + torch.ones(2), x=x).fix
    assert "name them" in explained(lambda: x + torch.ones(2)).fix


def test_objects_of_an_error_that_is_no_mix_have_no_arrows() -> None:
    x, y = torch.ones(2, device="cuda"), torch.ones(2)
    found = explained(x.numpy, x=x, y=y)
    assert found.objects == ("x  cuda:0", "y  cpu")
    assert "x.cpu().numpy()" in found.fix


def test_keeps_nothing_alive() -> None:
    def fail() -> None:
        held = torch.ones(3, device="cuda")
        watch.append(weakref.ref(held))
        held + torch.ones(3)

    watch: list[weakref.ref[torch.Tensor]] = []
    try:
        fail()
    except RuntimeError as error:
        found = explain(error, batch=[torch.ones(1)])
    gc.collect()
    assert found.known
    assert watch[0]() is None
