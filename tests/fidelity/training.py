"""Training: autograd across devices, layers that learn, optimizers and their state."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import _default_to_fused_or_foreach
from torch.utils.checkpoint import checkpoint

from .table import CPU, CUDA0, CUDA1, Raises, Table, exactly, other_device, two_devices

TABLE = Table("Training: autograd and optimizers")

TABLE.helpers["default_to_fused_or_foreach"] = _default_to_fused_or_foreach
TABLE.add(
    (False, True),  # (fused, foreach)
    "default_to_fused_or_foreach([gpu.requires_grad_()], False)",
)
TABLE.add(
    "ToCopyBackward0",
    *(f"gpu.requires_grad_().{move}.grad_fn.name()" for move in ("cpu()", "half()", "to('cuda:1')")),
)
TABLE.add("ToCopyBackward0", "cpu.requires_grad_().cuda().grad_fn.name()")
TABLE.add(None, 'gpu.requires_grad_().to("cuda").grad_fn', "gpu.requires_grad_().cuda().grad_fn")
TABLE.add((False, True), "(cpu.requires_grad_().cuda().is_leaf, gpu.requires_grad_().is_leaf)")
INVALID = "invalid gradient at index 0 - expected device cuda:0 but got {}"
TABLE.add(exactly(RuntimeError, INVALID.format("cpu")), "(gpu.requires_grad_() * 2).backward(cpu)")
TABLE.add(exactly(RuntimeError, INVALID.format("cuda:1")), "(gpu.requires_grad_() * 2).backward(gpu1)")
ASSIGNED = (
    "attempting to assign a gradient with device type '{}' to a tensor with device type '{}'. "
    "Please ensure that the gradient and the tensor are on the same device"
)
TABLE.add(exactly(RuntimeError, ASSIGNED.format("cpu", "cuda")), 'setattr(gpu.requires_grad_(), "grad", cpu)')
TABLE.add(exactly(RuntimeError, ASSIGNED.format("cuda", "cpu")), 'setattr(cpu.requires_grad_(), "grad", gpu)')
TABLE.add(
    Raises(RuntimeError, "attempting to assign a gradient located on device with index .*"),
    'setattr(gpu.requires_grad_(), "grad", gpu1)',
)


@TABLE.situation([CPU, [2.0, 2.0], CUDA1], gpus=2)
def gradient_crosses_devices() -> object:
    """A gradient flows from cuda:1 through cuda:0 back to the CPU leaf"""
    leaf = torch.ones(2, requires_grad=True)
    moved = leaf.to("cuda:0").to("cuda:1")
    (moved * 2).sum().backward()
    return [leaf.grad.device, leaf.grad.tolist(), moved.device]


@TABLE.situation([CUDA0, [6.0, 6.0], [CUDA0]])
def gradient_stays_with_its_tensor() -> object:
    """The gradient of a GPU leaf, and what its hook sees, is on the GPU"""
    leaf = torch.full((2,), 3.0, device="cuda", requires_grad=True)
    seen = []
    leaf.register_hook(lambda gradient: seen.append(gradient.device))
    (leaf * leaf).sum().backward()
    return [leaf.grad.device, leaf.grad.tolist(), seen]


class ReturnsCpuGradient(torch.autograd.Function):
    """A function whose backward forgets the device."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.cpu()


@TABLE.situation(
    exactly(
        RuntimeError,
        "Function ReturnsCpuGradientBackward returned an invalid gradient at index 0 - "
        "expected device cuda:0 but got cpu",
    )
)
def gradient_on_the_wrong_device() -> object:
    """An autograd.Function whose backward returns a CPU gradient for a GPU input"""
    leaf = torch.ones(2, device="cuda", requires_grad=True)
    return ReturnsCpuGradient.apply(leaf).sum().backward()


@TABLE.situation([CUDA0, True])
def activation_checkpointing() -> object:
    """checkpoint(..., use_reentrant=False) gives the plain gradients, on the GPU"""
    weight = torch.ones(2, 2, device="cuda", requires_grad=True)
    batch = torch.ones(1, 2, device="cuda")
    checkpoint(lambda x: torch.tanh(x @ weight), batch, use_reentrant=False).sum().backward()
    gradient, weight.grad = weight.grad, None
    torch.tanh(batch @ weight).sum().backward()
    return [weight.grad.device, torch.equal(gradient, weight.grad)]


def trained(device: str, steps: int = 3) -> list[float]:
    """Return the losses of a few steps of a small convolutional network on a device."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)
    )
    images, labels = torch.rand(8, 3, 8, 8).to(device), torch.arange(8).to(device)
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@TABLE.situation(True)
def same_losses_as_the_cpu() -> object:
    """Three training steps on the GPU: the losses of the CPU, but for rounding"""
    return torch.allclose(torch.tensor(trained("cuda")), torch.tensor(trained("cpu")), rtol=1e-2)


@TABLE.situation([CUDA0, CUDA1, CUDA0], gpus=2)
def model_split_over_two_gpus() -> object:
    """A model on two GPUs: gradients lie with their parameters, one optimizer and one norm serve both"""
    first, second = nn.Linear(2, 2).to("cuda:0"), nn.Linear(2, 2).to("cuda:1")
    parameters = [*first.parameters(), *second.parameters()]
    second(first(torch.ones(1, 2, device="cuda:0")).to("cuda:1")).sum().backward()
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    torch.optim.AdamW(parameters).step()
    return [first.weight.grad.device, second.weight.grad.device, norm.device]


def one_step(optimizer: torch.optim.Optimizer, model: nn.Module, device: str) -> None:
    optimizer.zero_grad()
    model(torch.ones(1, 2, device=device)).sum().backward()
    optimizer.step()


def moved_too_late(make: type[torch.optim.Optimizer], **options: object) -> None:
    """Take a step on the CPU, then move the model: the optimizer's state stays behind."""
    model = nn.Linear(2, 2)
    optimizer = make(model.parameters(), lr=0.1, **options)
    one_step(optimizer, model, "cpu")
    model.cuda()
    one_step(optimizer, model, "cuda")


@TABLE.situation(two_devices("cuda:0", "cpu"))
def momentum_left_behind() -> object:
    """SGD with momentum: a step on the CPU, model.cuda(), another step"""
    return moved_too_late(torch.optim.SGD, momentum=0.9)


@TABLE.situation(two_devices("cuda:0", "cpu"))
def adam_state_left_behind() -> object:
    """Adam: a step on the CPU, model.cuda(), another step"""
    return moved_too_late(torch.optim.Adam)


@TABLE.situation(other_device("exp_avgs", "cpu", "cuda:0", "wrapper_CUDA___fused_adam_"))
def fused_adam_state_left_behind() -> object:
    """Fused Adam: a step on the CPU, model.cuda(), another step"""
    return moved_too_late(torch.optim.Adam, fused=True)


@TABLE.situation([CUDA0])
def optimizer_made_before_the_move() -> object:
    """An optimizer made before model.cuda() still holds the right parameters, as they are the same objects"""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.cuda()
    one_step(optimizer, model, "cuda")
    return [optimizer.param_groups[0]["params"][0].device]


@TABLE.situation([{"step": CPU, "exp_avg": CUDA0, "exp_avg_sq": CUDA0}, None, None])
def adam_state_devices() -> object:
    """Adam's state lies with the parameters, but for the step counter; foreach and fused default to None"""
    model = nn.Linear(2, 2).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    one_step(optimizer, model, "cuda")
    state = {name: value.device for name, value in optimizer.state[model.weight].items()}
    return [state, optimizer.defaults["foreach"], optimizer.defaults["fused"]]


@TABLE.situation({"step": CPU, "exp_avg": CUDA0, "exp_avg_sq": CUDA0})
def optimizer_state_loads_onto_the_gpu() -> object:
    """optimizer.load_state_dict puts CPU state where the parameters are"""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    one_step(optimizer, model, "cpu")
    state = copy.deepcopy(optimizer.state_dict())
    model.cuda()
    fresh = torch.optim.Adam(model.parameters())
    fresh.load_state_dict(state)
    return {name: value.device for name, value in fresh.state[model.weight].items()}


@TABLE.situation([False, False, False, True, [1.0, 2.0]])
def views_in_inference_mode() -> object:
    """In inference_mode a view of an ordinary tensor is an ordinary one; a result is not"""
    ordinary = torch.ones(2, 3, device="cuda")
    with torch.inference_mode():
        views = ordinary[:, -1], ordinary.t(), ordinary.chunk(2)[0]
        result = ordinary + 1
        ordinary[1].add_(1)
    return [*(view.is_inference() for view in views), result.is_inference(), ordinary[:, 0].tolist()]
