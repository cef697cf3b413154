"""The error translator: every wording it should know, the reader's line, and where the objects are."""

import dataclasses
import gc
import io
import linecache
import multiprocessing.spawn
import pickle
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from traitlets.config import Config

import course_utils
from course_utils.errors import Explanation, explain, explain_at_hand, is_own
from course_utils.errors.known import KNOWN_ERRORS, KnownError

OOM = (
    "CUDA out of memory. Tried to allocate {}. GPU 1 has a total capacity of 15.89 GiB of which 1.12 GiB is "
    "free. Process 411 has 700.00 MiB memory in use. Including non-PyTorch memory, this process has "
    "14.77 GiB memory in use. Of the allocated memory 10.50 GiB is allocated by PyTorch, and {} is "
    "reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
OLD_OOM = (
    "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 7.79 GiB total capacity; 5.20 GiB already "
    "allocated; 10.06 MiB free; 5.30 GiB reserved in total by PyTorch)"
)
NEW = (
    "Expected all tensors to be on the same device, but got {} is on {}, different from other tensors on {} "
    "(when checking argument in method wrapper_{})"
)
OLD = "Expected all tensors to be on the same device, but found at least two devices, {} and {}!"
TYPES = "Input type ({}) and {} type ({}) should be the same"
MKLDNN = " or input should be a MKLDNN tensor and weight is a dense tensor"
RNN = "Input and {0} tensors are not at the same device, found input tensor at {1} and {0} tensor at {2}"
DESERIALIZE = "Attempting to deserialize object on "
GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:{}] {}"
KEYS = (
    'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "{}". \n\tUnexpected {}: "{}". '
)
UNEXPECTED = "key(s) in state_dict"
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

# part of what the explanation says -> texts that mean it
SAID_BY = {
    "One operation got tensors on two devices": [
        "Expected object of device type cuda but got device type cpu for argument #2 'mat2'",
        "Expected object of backend CPU but got backend CUDA for argument #2 'mat2'",
        "Tensor for argument #2 'weight' is on CPU, but expected it to be on GPU",
        "Tensor for 'out' is on CPU, Tensor for argument #1 'self' is on CPU, but expected them to be on GPU",
        "Input, output and indices must be on the current device",
        "expected device cuda:0 but got device cpu",
        "expected device cuda:0 but got device cpu for value tensor",
        "Expected out tensor to have device cuda:0, but got cpu instead",
        "Expected tensor to have cuda:0 Device, but got tensor with cpu Device",
        "meshgrid expects all tensors to have the same device",
        "masked_fill_: Expected inputs to be on same device",
        "Tensor on device cpu is not on the expected device meta!",
    ],
    "A gradient and its tensor": [
        "attempting to assign a gradient with device type 'cpu' to a tensor with device type 'cuda'."
    ],
    "DataParallel met a CPU tensor": [
        "Gather function not implemented for CPU tensors",
        "Broadcast function not implemented for CPU tensors",
    ],
    "NumPy works in the computer's own memory": [
        "can't convert CUDA tensor to numpy. Use Tensor.cpu() first."
    ],
    "Virtual GPUs do not have what a Triton kernel needs": [
        "Virtual GPUs do not have what a Triton kernel needs: it takes a real GPU."
    ],
    "Pinning": [
        "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned",
        "Only dense CPU tensors can be pinned",
    ],
    "GPU 1 has 15.89 GiB, and tensors hold 10.50 GiB": [OOM.format("2.00 GiB", "100.00 MiB")],
    "GPU 1 has 15.89 GiB and lends this process 14.00 GiB, and tensors hold 10.50 GiB": [
        OOM.format("2.00 GiB", "100.00 MiB").replace("Of the", "14.00 GiB allowed; Of the")
    ],
    "no room left for 20.00 MiB more": [OLD_OOM],
    "The GPU has no room left": [
        "CUDA out of memory. Tried to allocate more than 1EB memory.",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
    "names a GPU that this machine does not have": [
        "CUDA error: invalid device ordinal\nGPU device may be out of range, do you have enough GPUs?\n",
        "Invalid device id",
        DESERIALIZE
        + "CUDA device 1 but torch.cuda.device_count() is 1. Please use torch.load with map_location",
    ],
    "The file was saved on a GPU": [DESERIALIZE + "a CUDA device but torch.cuda.is_available() is False."],
    "built without CUDA": ["Torch not compiled with CUDA enabled"],
    "finds no driver": ["Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"],
    "it knows CUDA up to 12.8": [
        "CUDA initialization: The NVIDIA driver on your system is too old (found version 12080). Please"
    ],
    "too old": ["CUDA error: CUDA driver version is insufficient for CUDA runtime version"],
    "no code for your GPU": ["CUDA error: no kernel image is available for execution on the device"],
    "copied (forked)": [
        "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you"
    ],
    "a label outside 0 to classes - 1": [
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be"
    ],
    "read or wrote where it must not": ["CUDA error: an illegal memory access was encountered"],
    "A label is 10": ["Target 10 is out of bounds."],
    "A label is -1": ["Target -1 is out of bounds."],
    "Two number types": [
        "mat1 and mat2 must have the same dtype, but got Half and Float",
        "expected mat1 and mat2 to have the same dtype, but got: c10::Half != float",
        "Input type (c10::Half) and bias type (float) should be the same",
        TYPES.format("torch.cuda.HalfTensor", "weight", "torch.cuda.FloatTensor"),
    ],
    "BatchNorm in training mode": [
        "Expected more than 1 value per channel when training, got input size [1, 5]"
    ],
    "DataParallel is a wrapper": ["'DataParallel' object has no attribute 'fc'"],
    "starts with 'module.'": [KEYS.format("fc.weight", UNEXPECTED, "module.fc.weight")],
    "from a bare model": [KEYS.format("module.fc.weight", UNEXPECTED, "fc.weight")],
    "The port where the processes were to meet is taken (EADDRINUSE)": [
        "The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, "
        "code: -98, name: EADDRINUSE, message: address already in use",
    ],
    "Only 1 of 2 came": ["Timed out after 31 seconds waiting for clients. 1/2 clients joined."],
    "did not meet in time": [
        "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError",
        "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to the C10d "
        "store has failed. See inner exception for details.",
    ],
    "at least one did not come in time": [
        GLOO.format(547, "Timed out waiting 3000ms for recv operation to complete"),
        "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2, OpType=ALLREDUCE) ran for "
        "600009 milliseconds before timing out.",
        "Aborting process on rank 1 due to timeout - timeout watchdog detected operation timeout",
    ],
    "Another process of the group is gone": [
        GLOO.format(547, "Connection closed by peer [127.0.0.1]:41391"),
        GLOO.format(
            545, "Read error [127.0.0.1]:7910: Connection reset by peer. This is typically caused by"
        ),
    ],
    "belongs to no group": [
        "Default process group has not been initialized, please make sure to call init_process_group."
    ],
    "RANK is not set": [
        "Error initializing torch.distributed using env:// rendezvous: environment variable RANK expected, "
        "but not set"
    ],
    "This process has a group already": ["trying to initialize the default process group twice!"],
    "NCCL connects GPUs": ["ProcessGroupNCCL is only supported with GPUs, no GPUs found!"],
    "Two processes took the same GPU": [
        "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
    ],
    "a parameter got none": [
        "Expected to have finished reduction in the prior iteration before starting a new one. This error "
        "indicates that your module has parameters that were not used in producing loss."
    ],
    "New processes cannot see train": [
        "Can't get attribute 'train' on <module '__main__' (built-in)>",
        "Can't get attribute 'train' on <module '__main__' (<class '_frozen_importlib.BuiltinImporter'>)>",
    ],
    "The computer has no memory left": [
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ],
    "A GPU was asked for": ["Cuda is not available."],
    "The file holds Python objects": [
        "Weights only load failed. This file can still be loaded, to do so you"
    ],
}
WORDINGS = [(text, what, None, ()) for what, texts in SAID_BY.items() for text in texts]
# what is said, the argument, its device, that of the others, the kernel
WORDINGS += [
    (NEW.format(argument, here, there, kernel), what, argument, (here, there))
    for what, argument, here, there, kernel in (
        ("input of a Linear", "mat1", "cpu", "cuda:0", "CUDA_addmm"),
        ("the labels", "target", "cpu", "cuda:1", "CUDA_nll_loss_forward"),
        ("Embedding", "index", "cuda:0", "cpu", "CUDA__index_select"),
        ("BatchNorm", "weight", "cpu", "cuda:0", "CUDA__cudnn_batch_norm"),
        ("convolut", "weight", "cpu", "cuda:0", "CUDA__cudnn_convolution"),
        ("x2 on cpu", "x2", "cpu", "cuda:0", "CUDA___cdist_forward"),
    )
]
# what is said, the devices, the text; it names no argument
WORDINGS += [
    (text, what, None, tuple(devices.split()))
    for what, devices, text in (
        ("two devices, cuda:0 and cpu.", "cuda:0 cpu", OLD.format("cuda:0", "cpu")),
        ("two devices, cuda:0 and cuda:7.", "cuda:0 cuda:7", OLD.format("cuda:0", "cuda:7")),
        ("two devices, mps:0 and cpu.", "mps:0 cpu", OLD.format("mps:0", "cpu")),
        (
            "A tensor on cpu was indexed",
            "cpu",
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)",
        ),
        (
            "The mask is on cpu",
            "cpu cuda:0",
            "expected self and mask to be on the same device, but got mask on cpu and self on cuda:0",
        ),
        (
            "A gradient and its tensor",
            "cpu cuda:0",
            "invalid gradient at index 0 - expected device cuda:0 but got cpu",
        ),
        (
            "copies the module from cuda:0",
            "cpu cuda:0",
            "module must have its parameters and buffers on device cuda:0 (device_ids[0]) but found one of "
            "them on device: cpu",
        ),
        (
            "Random numbers for cuda",
            "cpu cuda",
            "Expected a 'cuda' device type for generator but found 'cpu'",
        ),
        (
            "NumPy",
            "cuda:0",
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor.",
        ),
    )
]
OLD_MAT1 = OLD.format("cpu", "cuda:0") + " (when checking argument for argument mat1 in method wrapper_addmm)"
GPU_INPUT = TYPES.format("torch.cuda.FloatTensor", "weight", "torch.FloatTensor")
CPU_INPUT = TYPES.format("torch.FloatTensor", "weight", "torch.cuda.FloatTensor")
WORDINGS += [  # text, what is said, the argument, the devices
    (OLD_MAT1, "the argument mat1 (the input of a Linear layer)", "mat1", ("cpu", "cuda:0")),
    (GPU_INPUT, "input on a GPU", "weight", ()),
    (CPU_INPUT + MKLDNN, "input on the CPU", "weight", ()),
    (TYPES.format("torch.cuda.HalfTensor", "bias", "torch.HalfTensor"), "its bias on the CPU", "bias", ()),
    (RNN.format("hidden", "cuda:0", "cpu"), "its hidden on cpu", "hidden", ("cuda:0", "cpu")),
    (RNN.format("parameter", "cpu", "cuda:0"), "its parameter on cuda:0", "parameter", ("cpu", "cuda:0")),
]


@pytest.fixture(autouse=True, scope="module")
def gpus() -> Iterator[None]:
    """Have GPUs: the machine's own, or virtual ones."""
    if torch.cuda.is_available():
        yield
    else:
        with course_utils.virtual_gpus(count=2):
            yield


def explained(call: Callable[[], object], **named: object) -> Explanation:
    """Return the explanation of the error that a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what the caller looks at
        call()
    return explain(caught.value, **named)


@pytest.mark.parametrize(
    ("text", "what", "argument", "devices"), WORDINGS, ids=[row[0][:50] for row in WORDINGS]
)
def test_every_wording(text: str, what: str, argument: str | None, devices: tuple[str, ...]) -> None:
    found = explain(RuntimeError(text))
    assert what in found.what
    assert (found.argument, found.devices, found.known) == (argument, devices, True)
    assert found.fix
    assert "{" not in found.what + found.fix
    assert explain(text).what == found.what  # the same for text seen elsewhere


def test_many_families_are_known() -> None:
    assert len(KNOWN_ERRORS) >= 110


@pytest.mark.parametrize("known", KNOWN_ERRORS, ids=[known.example.strip()[:50] for known in KNOWN_ERRORS])
def test_each_family_knows_the_text_that_people_reported(known: KnownError) -> None:
    first = next(family for family in KNOWN_ERRORS if family.pattern.search(known.example))
    assert first is known
    assert re.fullmatch(r"https://\S+/(issues|pull)/\d+|the course's own", known.source)
    found = explain(known.example)
    assert found.known
    assert found.what
    assert found.fix
    assert "{" not in (found.what + found.fix).replace("{'torch'", "")


def test_prints_in_columns_that_fit_a_slide() -> None:
    for text, *_ in [*WORDINGS, *[(known.example,) for known in KNOWN_ERRORS]]:
        lines = str(explain(RuntimeError(text), x=torch.ones(1))).splitlines()
        assert lines[0].startswith("What happened  ")
        assert max(map(len, lines)) <= 100
        assert repr(explain(text)) == str(explain(text))


def test_large_reserve_is_worth_a_hint() -> None:
    assert "expandable_segments" not in explain(OOM.format("2.00 GiB", "100.00 MiB")).fix
    assert "expandable_segments" in explain(OOM.format("2.00 GiB", "3.00 GiB")).fix


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
    assert "test_explain.py, line " in deepest
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


def test_no_room_in_validation() -> None:
    assert "torch.no_grad() or torch.inference_mode()" in explain(OLD_OOM).fix


def test_a_tensor_that_nobody_named() -> None:
    x = torch.ones(2, device="cuda")
    assert "made on the way" in explained(lambda: x + torch.ones(2), x=x).fix
    assert "name them" in explained(lambda: x + torch.ones(2)).fix


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        (NEW.format("weight", "cpu", "cuda:0", "CUDA_nll_loss_forward"), "criterion.to(device)"),
        (NEW.format("target", "cpu", "cuda:0", "CUDA_nll_loss_forward"), "labels = labels.to(device)"),
        (NEW.format("mat1", "cpu", "cuda:0", "CUDA_addmm"), "the input: x = x.to(device)"),
        (NEW.format("weight", "cpu", "cuda:0", "CUDA__cudnn_batch_norm"), "model.to(device)"),
        # the others stayed behind
        (NEW.format("mat1", "cuda:0", "cpu", "CUDA_addmm"), "Bring them together"),
        (CPU_INPUT, "images.to(device)"),
        (GPU_INPUT, "model.to(device)"),
    ],
)
def test_text_that_names_the_culprit_gets_its_cure(text: str, cure: str) -> None:
    assert cure in explain(text).fix


def test_objects_of_an_error_that_is_no_mix_have_no_arrows() -> None:
    x, y = torch.ones(2, device="cuda"), torch.ones(2)
    found = explained(x.numpy, x=x, y=y)
    assert found.objects == ("x  cuda:0", "y  cpu")
    assert "x.cpu().numpy()" in found.fix


def leaf() -> torch.Tensor:
    return torch.ones(2, requires_grad=True)


def inferred() -> torch.Tensor:
    with torch.inference_mode():
        return torch.ones(2)


def overwritten() -> torch.Tensor:
    x = leaf().exp()
    y = x.exp().sum() + (x * x).sum()
    x += 1
    return y


def optimizer_of(count: int) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.ones(1)) for _ in range(count)])


def scaled(how: str) -> None:
    """Use a GradScaler wrongly."""
    net, scaler = nn.Linear(1, 1), torch.amp.GradScaler("cpu")
    net = net.half() if how == "half" else net
    optimizer = torch.optim.SGD(net.parameters())
    loss = net(torch.ones(1, 1, dtype=net.weight.dtype)).sum()
    loss = torch.ones(1, requires_grad=True) if how == "none" else loss
    scaler.scale(loss).backward()
    if how != "none":
        scaler.unscale_(optimizer)
        scaler.unscale_(optimizer)
    scaler.step(optimizer)


def in_float16(call: Callable[[], object]) -> None:
    with torch.autocast("cuda", torch.float16):
        call()


class Lister(nn.Linear):
    """Asks its own parameters where it is, as much code on the web does."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.to(next(self.parameters()).device))


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: nn.Conv2d(1, 1, 1).cuda()(torch.ones(2, 1, 4, 4)), "A convolution"),
        (lambda: F.cross_entropy(torch.ones(2, 3, device="cuda"), torch.tensor([0, 1])), "the labels"),
        (lambda: torch.ones(3)[torch.tensor([0], device="cuda")], "indexed"),
        (lambda: F.cross_entropy(torch.ones(2, 3), torch.tensor([0, 3])), "A label is 3"),
        (
            lambda: torch.empty(2**50, dtype=torch.uint8, device="cuda"),
            "no room left for 1048576.00 GiB more",
        ),
        (lambda: torch.zeros(1, device=torch.cuda.device_count()), "does not have"),
        (lambda: nn.BatchNorm1d(2)(torch.ones(1, 2)), "BatchNorm in training mode"),
        (lambda: nn.DataParallel(nn.Linear(1, 1).cuda()).weight, "wrapper"),
        (lambda: leaf().backward(), "backward() starts from one number"),
        (lambda: torch.ones(1).backward(), "backward() found nothing to compute"),
        (lambda: [leaf_sum.backward() for leaf_sum in [leaf().exp().sum()] * 2], "twice through the same"),
        (lambda: overwritten().backward(), "overwritten after the forward pass"),
        (lambda: leaf().add_(1), "A parameter was changed in place"),
        (lambda: leaf() * inferred(), "made under inference_mode()"),
        (lambda: torch.ones(2, 3).T.view(6), "view() cannot lay"),
        (lambda: nn.Linear(4, 2)(torch.ones(2, 3)), "wants 4 numbers for each sample and got 3"),
        (lambda: torch.optim.SGD(nn.Module().parameters()), "no parameters that it knows of"),
        (lambda: F.nll_loss(torch.ones(2, 3), torch.ones(2)), "Class labels must be whole numbers"),
        (lambda: leaf().numpy(), "autograd"),
        (lambda: torch.ones(2, device="cuda").numpy(), "NumPy works in the computer's own memory"),
        (
            lambda: nn.utils.rnn.pack_padded_sequence(torch.ones(2, 2, 1), torch.ones(2).cuda()),
            "reads the lengths",
        ),
        (lambda: scaled("half"), "parameters themselves are float16"),
        (lambda: scaled("twice"), "GradScaler was asked twice"),
        (lambda: scaled("none"), "found no gradient in this optimizer"),
        (
            lambda: in_float16(lambda: F.binary_cross_entropy(*torch.ones(2, 2).cuda())),
            "BCELoss after a sigmoid",
        ),
        (
            lambda: nn.DataParallel(Lister().cuda(), [0, 1])(torch.ones(2, 1)),
            "forward called next(self.parameters())",
        ),
        (
            lambda: nn.DataParallel(nn.Linear(1, 1).cuda(), [0, 1])(torch.tensor(1.0)),
            "a single number cannot be split",
        ),
        (
            lambda: nn.Linear(2, 1).load_state_dict(nn.Linear(1, 1).state_dict()),
            "weight has the shape torch.Size([1, 1])",
        ),
        (lambda: nn.Linear(2, 1).load_state_dict({"_orig_mod.weight": 1}), "'_orig_mod.'"),
        (lambda: nn.Linear(2, 1).load_state_dict({"fc.weight": 1}), "The names in the file"),
        (lambda: optimizer_of(2).load_state_dict(optimizer_of(1).state_dict()), "made for other parameters"),
        (lambda: torch.load(io.BytesIO(b"PK\x03\x04" + bytes(99))), "The file is incomplete"),
        (lambda: torch.load(io.BytesIO(b"version https://git-lfs"), weights_only=False), "begins with 'v'"),
        (
            lambda: next(iter(torch.utils.data.DataLoader([torch.ones(1), torch.ones(2)], 2))),
            "differ in shape, [1] and [2]",
        ),
        (lambda: pickle.dumps(lambda: 1), "cannot carry"),
        (lambda: torch.distributed.barrier(), "belongs to no group"),
        (lambda: nn.Linear(1, 1).load_state_dict(nn.DataParallel(nn.Linear(1, 1)).state_dict()), "'module.'"),
    ],
)
def test_errors_as_they_are_raised(call: Callable[[], object], what: str) -> None:
    assert what in explained(call).what


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


def test_last_uncaught_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "last_exc", RuntimeError("Target 5 is out of bounds."), raising=False)
    assert "A label is 5" in explain().what


def test_nothing_to_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "last_exc", raising=False)
    monkeypatch.delattr(sys, "last_value", raising=False)
    with pytest.raises(ValueError, match="no error to explain"):
        explain()


def test_a_notebook_that_asks_for_it_gets_each_error_explained(capsys: pytest.CaptureFixture) -> None:
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    cell = "import torch\nmine = torch.ones(2, device='cuda')\nmine + torch.ones(2)"
    said = []
    for command in ("", "%load_ext course_utils", "%unload_ext course_utils"):
        shell.run_cell(command)
        capsys.readouterr()
        shell.run_cell(cell)
        said.append(capsys.readouterr().out)
    assert ["What happened" in out for out in said] == [False, True, False]
    assert "mine  cuda:0" in said[1]
    assert "Your line      mine + torch.ones(2)" in said[1]


def test_objects_at_hand_are_those_of_your_line() -> None:
    net, x = nn.Linear(3, 2).cuda(), torch.ones(1, 3)
    with pytest.raises(RuntimeError) as caught:
        net(x)
    assert [line.split()[0] for line in explain_at_hand(caught.value).objects] == ["net", "x"]


def test_is_a_public_name() -> None:
    assert course_utils.explain is explain
