"""Mixed precision: the dtype of each operation under autocast, and GradScaler.

The dtypes are listed at https://docs.pytorch.org/docs/stable/amp.html (CUDA Op-Specific Behavior).
"""

from collections.abc import Callable

import torch
from torch import nn

from .table import CUDA0, Raises, Table, exactly

TABLE = Table("Mixed precision")
HALF, FLOAT = torch.float16, torch.float32


@TABLE.helper
def autocast_dtype(call: Callable[..., torch.Tensor], dtype: torch.dtype = HALF) -> torch.dtype:
    """Return the dtype of a call inside autocast: x is float32, h its float16 copy, 4x4, on the GPU."""
    x = torch.rand(4, 4, device="cuda")
    images = torch.rand(1, 3, 8, 8, device="cuda")
    with torch.autocast("cuda", dtype=dtype):
        return call(x, x.half(), images).dtype


def under_autocast(expect: object, *calls: str) -> None:
    """Add calls on x, h and images, each run under autocast to float16."""
    TABLE.add(expect, *(f"autocast_dtype(lambda x, h, images: {call})" for call in calls))


under_autocast(
    HALF,
    "x @ x",
    "torch.bmm(x[None], x[None])",
    "torch.addmm(x, x, x)",
    "F.linear(x, x)",
    "nn.Linear(4, 2).cuda()(x)",
    "F.conv2d(images, images[:, :, :3, :3])",
    "nn.LSTMCell(4, 4).cuda()(x)[0]",
    "F.prelu(x, x[0, :1])",
    "F.relu(h)",
    "h.sigmoid()",
    "F.gelu(h)",
    "h.mean()",
    "h.max()",
    "h * 2.0",
    "F.max_pool2d(h[None], 2)",
)
under_autocast(
    FLOAT,
    "x + x",
    "F.relu(x)",
    "h + x",
    "torch.cat([h, x])",
    "torch.stack([h, x])",
    "torch.addcmul(h, h, x)",
    "h.exp()",
    "h.sum()",
    "h.softmax(-1)",
    "h.log_softmax(-1)",
    "h.pow(2)",
    "h.norm()",
    "h.cumsum(0)",
    "F.layer_norm(h, (4,))",
    "F.group_norm(h, 2)",
    "F.mse_loss(h, h)",
    "torch.cdist(h, h)",
    'F.cross_entropy(h, torch.zeros(4, dtype=torch.long, device="cuda"))',
    "F.binary_cross_entropy_with_logits(h, h)",
    "x.cpu() @ x.cpu()",
)
under_autocast(torch.float64, "x.double() @ x.double()")
UNSAFE = "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.*"
under_autocast(Raises(RuntimeError, UNSAFE), "F.binary_cross_entropy(h, h)")
TABLE.add(torch.bfloat16, "autocast_dtype(lambda x, h, images: x @ x, torch.bfloat16)")
TABLE.add(FLOAT, "autocast_dtype(lambda x, h, images: x @ x, torch.float32)")
TABLE.add((HALF, torch.bfloat16), '(torch.get_autocast_dtype("cuda"), torch.get_autocast_dtype("cpu"))')


@TABLE.situation([True, False, FLOAT, HALF, FLOAT])
def autocast_state() -> object:
    """autocast("cuda") is on for CUDA, off for the CPU; enabled=False inside it switches it off"""
    x = torch.rand(2, 2, device="cuda")
    with torch.autocast("cuda"):
        seen = [torch.is_autocast_enabled("cuda"), torch.is_autocast_enabled("cpu")]
        with torch.autocast("cuda", enabled=False):
            seen.append((x @ x).dtype)
        return [*seen, (x @ x).dtype, (x.cpu() @ x.cpu()).dtype]


@TABLE.situation(FLOAT)
def autocast_of_the_cpu() -> object:
    """autocast("cpu") leaves operations on the GPU alone"""
    x = torch.rand(2, 2, device="cuda")
    with torch.autocast("cpu"):
        return (x @ x).dtype


@TABLE.situation([HALF, FLOAT])
def autocast_gradients() -> object:
    """Under autocast the output is float16, the gradient of a float32 weight float32"""
    weight = torch.rand(2, 2, device="cuda", requires_grad=True)
    with torch.autocast("cuda"):
        output = weight @ weight
    output.float().sum().backward()
    return [output.dtype, weight.grad.dtype]


@TABLE.situation([65536.0, CUDA0, [65536.0], [1.0], 65536.0])
def grad_scaler() -> object:
    """GradScaler("cuda"): the first scale is 65536, unscale_ divides the gradients, a good step keeps it"""
    parameter = nn.Parameter(torch.ones(1, device="cuda"))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler = torch.amp.GradScaler("cuda")
    loss = scaler.scale(parameter.sum())
    loss.backward()
    seen = [scaler.get_scale(), loss.device, parameter.grad.tolist()]
    scaler.unscale_(optimizer)
    seen.append(parameter.grad.tolist())
    scaler.step(optimizer)
    scaler.update()
    return [*seen, scaler.get_scale()]


@TABLE.situation([[1.0], 32768.0])
def grad_scaler_skips_inf() -> object:
    """GradScaler skips a step with an infinite gradient and halves its scale"""
    parameter = nn.Parameter(torch.ones(1, device="cuda"))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler = torch.amp.GradScaler("cuda")
    scaler.scale(parameter.sum() * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    return [parameter.tolist(), scaler.get_scale()]


@TABLE.situation(exactly(ValueError, "Attempting to unscale FP16 gradients."))
def grad_scaler_refuses_half() -> object:
    """GradScaler.unscale_ of a float16 parameter's gradient"""
    parameter = nn.Parameter(torch.ones(1, device="cuda").half())
    scaler = torch.amp.GradScaler("cuda")
    scaler.scale(parameter.sum()).backward()
    return scaler.unscale_(torch.optim.SGD([parameter], lr=0.1))


TABLE.add(
    exactly(RuntimeError, "expected mat1 and mat2 to have the same dtype, but got: c10::Half != float"),
    "gpu_square.half() @ gpu_square",
)
