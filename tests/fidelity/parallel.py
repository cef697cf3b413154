"""nn.DataParallel and the functions below it, on two GPUs of this machine.

Rows take only cuda:0 and cuda:1, so that they mean the same on a machine with two GPUs and with eight.
"""

import re
import warnings

import torch
from torch import nn
from torch.nn.parallel import comm, gather, parallel_apply, replicate, scatter

from .table import CPU, CUDA0, CUDA1, Raises, Table, exactly

TABLE = Table("DataParallel")
PAIR = [0, 1]
TABLE.helpers |= {"PAIR": PAIR, "comm": comm}
for function in (gather, parallel_apply, replicate, scatter):
    TABLE.helper(function)


@TABLE.helper
class Watched(nn.Module):
    """A layer that notes what each replica sees, and counts its calls in an attribute and in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 2)
        self.register_buffer("count", torch.zeros(1))
        self.calls = 0
        self.seen: list[tuple[int, str, str, int]] = []

    def forward(self, x: torch.Tensor, flag: bool = True) -> torch.Tensor:
        self.calls += 1
        self.count += 1
        self.seen.append((len(x), str(x.device), str(self.fc.weight.device), torch.cuda.current_device()))
        return self.fc(x)


@TABLE.helper
def wrapped(module: nn.Module, **options: object) -> nn.DataParallel:
    return nn.DataParallel(module.to("cuda:0"), **{"device_ids": PAIR, **options})


@TABLE.helper
def rows(count: int, device: str = "cuda:0") -> torch.Tensor:
    return torch.arange(count * 5.0, device=device).reshape(count, 5)


def in_replica(number: int, kind: type[Exception], ending: str) -> Raises:
    """Expect an error inside a replica: the text tells which, and holds its traceback and message."""
    start = rf"Caught {kind.__name__} in replica {number} on device {number}\.\nOriginal Traceback \(.*"
    return Raises(kind, start + re.escape(ending) + "\n?")


WRONG_PLACE = (
    "module must have its parameters and buffers on device cuda:0 (device_ids[0]) "
    "but found one of them on device: {}"
)
for expect, call in (
    (
        exactly(RuntimeError, WRONG_PLACE.format("cpu")),
        "nn.DataParallel(Watched(), device_ids=PAIR)(rows(4))",
    ),
    (
        exactly(RuntimeError, WRONG_PLACE.format("cuda:1")),
        "nn.DataParallel(Watched().to('cuda:1'), device_ids=PAIR)(rows(4))",
    ),
    (
        exactly(AssertionError, "Invalid device id"),
        "nn.DataParallel(Watched().cuda(), device_ids=[0, COUNT])",
    ),
    (exactly(AttributeError, "'DataParallel' object has no attribute 'fc'"), "wrapped(Watched()).fc"),
    (CUDA1, "nn.DataParallel(Watched().to('cuda:1'), device_ids=[1, 0])(rows(4)).device"),
    (CUDA1, "wrapped(Watched(), output_device=1)(rows(4)).device"),
    (CUDA0, "nn.DataParallel(Watched(), device_ids=[0])(rows(4, 'cpu')).device"),
    (CUDA0, "wrapped(Watched())(rows(4, 'cpu')).device"),
    (["module.count", "module.fc.weight", "module.fc.bias"], "list(wrapped(Watched()).state_dict())"),
    ([0, 1], "nn.DataParallel(Watched().cuda(), device_ids=['cuda:0', 'cuda:1']).device_ids"),
    (True, "nn.DataParallel(Watched().cuda()).device_ids == list(range(COUNT))"),
    (0, "wrapped(Watched()).output_device"),
    (torch.Size([5, 2]), "wrapped(Watched())(rows(5)).shape"),
    (torch.Size([1, 2]), "wrapped(Watched())(rows(1), True).shape"),
    (torch.Size([0, 2]), "wrapped(Watched())(rows(0)).shape"),
    ([3, 2], "[len(part) for part in comm.scatter(rows(5), PAIR)]"),
    ([CUDA0, CUDA1], "[part.device for part in comm.scatter(rows(5, 'cpu'), PAIR)]"),
    ([4, 1], "[len(part) for part in comm.scatter(rows(5), PAIR, chunk_sizes=[4, 1])]"),
    ([CUDA0, CUDA1], "[part.device for part in comm.broadcast(gpu, PAIR)]"),
    ([1.0, 2.0, 3.0], "comm.broadcast(gpu, PAIR)[1].tolist()"),
    (
        [[CUDA0] * 2, [CUDA1] * 2],
        "[[t.device for t in copy] for copy in comm.broadcast_coalesced([gpu, gpu_number], PAIR)]",
    ),
    ([2.0, 4.0, 6.0], "comm.reduce_add([gpu, gpu1]).tolist()"),
    (CUDA1, "comm.reduce_add([gpu, gpu1], 1).device"),
    ([1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "comm.gather([gpu, gpu1], destination=0).tolist()"),
    (CPU, "comm.gather([gpu, gpu1], destination='cpu').device"),
    (
        Raises(
            RuntimeError,
            "Expected all input tensors to be CUDA tensors, but tensor at index 0 has device cpu",
        ),
        "comm.gather([cpu, cpu])",
    ),
    (exactly(AssertionError, "Gather function not implemented for CPU tensors"), "gather([cpu, cpu], 0)"),
    (
        exactly(AssertionError, "Broadcast function not implemented for CPU tensors"),
        "replicate(Watched(), PAIR)",
    ),
    (
        [{"x": CUDA0, "n": 7}, {"x": CUDA1, "n": 7}],
        "[{'x': d['x'].device, 'n': d['n']} for d in scatter({'x': gpu, 'n': 7}, PAIR)]",
    ),
    ([CUDA0, CUDA1], "[copy.fc.weight.device for copy in replicate(Watched().cuda(), PAIR)]"),
    ([0, 0], "[len(list(copy.parameters())) for copy in replicate(Watched().cuda(), PAIR)]"),
    (
        [CUDA0, CUDA1],
        "[y.device for y in parallel_apply([nn.ReLU(), nn.ReLU()], [(gpu,), (gpu1,)], devices=PAIR)]",
    ),
):
    TABLE.add(expect, call, gpus=2)


@TABLE.situation(
    [[(2, "cuda:1", "cuda:1", 1), (3, "cuda:0", "cuda:0", 0)], torch.Size([5, 2]), CUDA0], gpus=2
)
def split_of_a_batch() -> object:
    """5 rows over 2 GPUs: 3 and 2, each with its copy of the layer and its GPU as current device"""
    model = Watched()
    output = wrapped(model)(rows(5))
    return [sorted(model.seen), output.shape, output.device]


@TABLE.situation(True, gpus=2)
def same_output_and_gradient() -> object:
    """Output and summed gradients equal those of the bare module, but for rounding"""
    torch.manual_seed(0)
    model, batch = Watched().to("cuda:0"), torch.rand(5, 5, device="cuda:0")
    split = wrapped(model)(batch)
    split.square().sum().backward()
    gradient, model.fc.weight.grad = model.fc.weight.grad, None
    whole = model(batch)
    whole.square().sum().backward()
    return torch.allclose(split, whole, atol=1e-3) and torch.allclose(
        gradient, model.fc.weight.grad, atol=1e-2
    )


@TABLE.situation([CUDA0, None], gpus=2)
def gradients_land_on_the_first_gpu() -> object:
    """Gradients land on the parameters of the wrapped module, on cuda:0"""
    model = Watched()
    wrapped(model)(rows(5)).sum().backward()
    return [model.fc.weight.grad.device, model.count.grad]


@TABLE.situation([0, [1.0]], gpus=2)
def what_replicas_forget() -> object:
    """An attribute set in forward is lost with the replicas; a buffer changed in place on cuda:0 is kept"""
    model = Watched()
    wrapped(model)(rows(5))
    return [model.calls, model.count.tolist()]


@TABLE.situation(in_replica(1, TypeError, "missing 1 required positional argument: 'x'"), gpus=2)
def keyword_argument_and_small_batch() -> object:
    """One row for two GPUs, and a keyword that is no tensor: the second replica is called without the row"""
    return wrapped(Watched())(rows(1), flag=True)


class Failing(Watched):
    """A layer that adds a constant of a fixed device."""

    device = "cpu"

    def forward(self, x: torch.Tensor, flag: bool = True) -> torch.Tensor:
        return self.fc(x) + torch.zeros(2, device=self.device)


@TABLE.situation(in_replica(0, RuntimeError, "found at least two devices, cuda:0 and cpu!"), gpus=2)
def constant_on_the_cpu() -> object:
    """forward adds a CPU tensor: the error tells the replica"""
    return wrapped(Failing())(rows(4))


@TABLE.situation(in_replica(1, RuntimeError, "found at least two devices, cuda:1 and cuda:0!"), gpus=2)
def constant_on_the_first_gpu() -> object:
    """forward adds a tensor of cuda:0: replica 0 passes, replica 1 fails"""
    model = Failing()
    model.device = "cuda:0"
    return wrapped(model)(rows(4))


@TABLE.situation(in_replica(0, ValueError, "when training, got input size torch.Size([1, 5])"), gpus=2)
def batch_norm_with_one_row_each() -> object:
    """BatchNorm in training mode where each GPU gets one row"""
    return wrapped(nn.BatchNorm1d(5))(rows(2))


class Total(nn.Module):
    """A module that returns a number instead of one value per row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


@TABLE.situation(
    [
        torch.Size([2]),
        CUDA0,
        "Was asked to gather along dimension 0, but all input tensors were scalars; "
        "will instead unsqueeze and return a vector.",
    ],
    gpus=2,
)
def scalars_are_gathered_into_a_vector() -> object:
    """A scalar per replica becomes a vector, with a warning"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output = wrapped(Total())(rows(4))
    return [output.shape, output.device, str(caught[-1].message)]


class Returns(nn.Module):
    """A module that returns whatever `make` makes of its input."""

    def __init__(self, make: object) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> object:
        return self.make(x)


@TABLE.situation([torch.Size([5, 5]), [torch.Size([5]), torch.Size([5, 5])]], gpus=2)
def nested_outputs() -> object:
    """Dicts, lists and tuples of tensors are gathered leaf by leaf"""
    output = wrapped(Returns(lambda x: {"rows": x, "more": [x.sum(1), (x,)[0]]}))(rows(5))
    return [output["rows"].shape, [part.shape for part in output["more"]]]


@TABLE.situation(exactly(AssertionError, "Gather function not implemented for CPU tensors"), gpus=2)
def output_on_the_cpu() -> object:
    """forward returns a CPU tensor"""
    return wrapped(Returns(lambda x: x.cpu()))(rows(4))
