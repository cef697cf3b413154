"""Every wording that explain should know: what it says of it, and what to do."""

import io
import pickle
import re
from collections.abc import Callable

import nbformat
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.errors import explain
from course_utils.errors.known import KNOWN_ERRORS, KnownError
from course_utils.lessons import ROOT

from . import explained

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
GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:{}] {}"
# part of what the explanation says -> texts that mean it, other than the examples in known.toml
SAID_BY = {
    "One operation got tensors on two devices": [
        "Expected object of device type cuda but got device type cpu for argument #2 'mat2'",
        "Expected object of backend CPU but got backend CUDA for argument #2 'mat2'",
        "Expected object of type torch.cuda.FloatTensor but found type torch.FloatTensor for argument #2",
        "Tensor for argument #2 'weight' is on CPU, but expected it to be on GPU",
        "Tensor for 'out' is on CPU, Tensor for argument #1 'self' is on CPU, but expected them to be on GPU",
        "Input, output and indices must be on the current device",
        "expected device cuda:0 but got device cpu",
        "Expected out tensor to have device cuda:0, but got cpu instead",
        "Expected tensor to have cuda:0 Device, but got tensor with cpu Device",
        "meshgrid expects all tensors to have the same device",
        "masked_fill_: Expected inputs to be on same device",
        "Tensor on device cpu is not on the expected device meta!",
    ],
    "DataParallel met a CPU tensor": ["Broadcast function not implemented for CPU tensors"],
    "NumPy works in the computer's own memory": [
        "can't convert CUDA tensor to numpy. Use Tensor.cpu() first."
    ],
    "Pinning": ["Only dense CPU tensors can be pinned"],
    "one tensor on the Mac's GPU": [TYPES.format("MPSBFloat16Type", "weight", "CPUBFloat16Type")],
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
        "Attempting to deserialize object on CUDA device 1 but torch.cuda.device_count() is 1. Please use",
    ],
    "it knows CUDA up to 12.8": [
        "CUDA initialization: The NVIDIA driver on your system is too old (found version 12080). Please"
    ],
    "too old": ["CUDA error: CUDA driver version is insufficient for CUDA runtime version"],
    "A label is -1": ["Target -1 is out of bounds."],
    "Two number types": [
        "expected mat1 and mat2 to have the same dtype, but got: c10::Half != float",
        "Expected object of scalar type Long but got scalar type Float for argument #3 'mat2' in call to",
        "Input type (c10::Half) and bias type (float) should be the same",
        TYPES.format("torch.cuda.HalfTensor", "weight", "torch.cuda.FloatTensor"),
        TYPES.format("MPSFloatType", "weight", "MPSHalfType"),
    ],
    "do not belong together": ["Could not run 'torchvision::nms' with arguments from the 'CUDA' backend."],
    "A DataLoader worker ended on its own": [
        "DataLoader worker (pid 9) is killed by signal: Segmentation fault."
    ],
    "Only 1 of 2 came": ["Timed out after 31 seconds waiting for clients. 1/2 clients joined."],
    "at least one did not come in time": [
        GLOO.format(547, "Timed out waiting 3000ms for recv operation to complete"),
        "Aborting process on rank 1 due to timeout - timeout watchdog detected operation timeout",
    ],
    "Another process of the group is gone": [
        GLOO.format(
            545, "Read error [127.0.0.1]:7910: Connection reset by peer. This is typically caused by"
        ),
    ],
    "NCCL called CUDA, and that failed.": ["NCCL error in: NCCLUtils.hpp:155, unhandled cuda error, 2.7.8"],
    "Pickle looks for train": [
        "Can't get attribute 'train' on <module '__main__' (<class '_frozen_importlib.BuiltinImporter'>)>",
    ],
    "A GPU was asked for": ["Cuda is not available."],
    "The names in the file": [
        f'Missing key(s) in state_dict: "{prefix}.a". \n\tUnexpected key(s) in state_dict: "{prefix}.b".'
        for prefix in ("module", "_orig_mod")
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
    (GPU_INPUT.replace("cuda", "xpu"), "torch.xpu.FloatTensor is only", "weight", ()),
    (CPU_INPUT + MKLDNN, "input on the CPU", "weight", ()),
    (TYPES.format("torch.cuda.HalfTensor", "bias", "torch.HalfTensor"), "its bias on the CPU", "bias", ()),
    (RNN.format("hidden", "cuda:0", "cpu"), "its hidden on cpu", "hidden", ("cuda:0", "cpu")),
    (RNN.format("parameter", "cpu", "cuda:0"), "its parameter on cuda:0", "parameter", ("cpu", "cuda:0")),
]


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
    assert len(KNOWN_ERRORS) >= 150


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


def test_the_gallery_of_lesson_03_names_the_same_cures() -> None:
    lesson = nbformat.read(ROOT / "notebooks" / "executed" / "03_cross_device_error.ipynb", as_version=4)
    outputs = [output for cell in lesson.cells for output in cell.get("outputs", ())]
    shown = "".join(output.get("text", "") + output.get("evalue", "") + "\n" for output in outputs)
    errors = re.findall(r"^(?:\w+Error: )?((?:Expected all|Input |module must|can't convert).*)", shown, re.M)
    assert len(errors) > 15
    assert all(explain(error).known for error in errors)
    tables = "\n".join(cell.source for cell in lesson.cells if "| cause | cure |" in cell.source)
    rows = re.findall(r"^\| (`.+?) \| .+? \| (.+?) \|$", tables, re.M)
    texts = [*errors, *(known.example for known in KNOWN_ERRORS)]
    for messages, cure in rows:
        said = ""
        for message in re.findall("`(.+?)`", messages):
            pieces = re.split(r",? \.\.\. ", message)
            found = explain(next((text for text in texts if all(piece in text for piece in pieces)), message))
            assert found.known
            said += found.what + found.fix
        assert all(code in said for code in re.findall(r"`\.?(\w[\w. =]*)\b[(=]", cure))
    assert len(rows) > 12


def test_prints_in_columns_that_fit_a_slide() -> None:
    for text, *_ in [*WORDINGS, *[(known.example,) for known in KNOWN_ERRORS]]:
        lines = str(explain(RuntimeError(text), x=torch.ones(1))).splitlines()
        assert lines[0].startswith("What happened  ")
        assert max(map(len, lines)) <= 100
        assert repr(explain(text)) == str(explain(text))


def test_no_room_in_validation_and_a_large_reserve() -> None:
    assert "torch.no_grad() or torch.inference_mode()" in explain(OLD_OOM).fix
    assert "expandable_segments" not in explain(OOM.format("2.00 GiB", "100.00 MiB")).fix
    assert "expandable_segments" in explain(OOM.format("2.00 GiB", "3.00 GiB")).fix


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
