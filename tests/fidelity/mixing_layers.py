"""Mixing devices in layers and losses: a module on one device, its input or target on another."""

import torch
from torch import nn

from .table import CUDA0, Raises, Table, exactly, other_device, two_devices

TABLE = Table("Mixing devices in layers and losses")


def wrapper(method: str, argument: str, device: str = "cpu", others: str = "cuda:0") -> Raises:
    """Expect the text of a kernel that names an argument; by default that argument is on the CPU."""
    return other_device(argument, device, others, f"wrapper_CUDA_{method}")


def swapped(method: str, argument: str) -> Raises:
    """The same with the named argument on the GPU and the others on the CPU."""
    return wrapper(method, argument, "cuda:0", "cpu")


TABLE.add(wrapper("addmm", "mat1"), "nn.Linear(3, 2).cuda()(cpu_square)", "nn.Linear(3, 2).cuda()(cpu)")
TABLE.add(wrapper("addmm", "mat1"), "nn.Linear(3, 2).cuda()(cpu_square.repeat(2, 1, 1))")
TABLE.add(swapped("addmm", "mat1"), "nn.Linear(3, 2)(gpu_square)")
TABLE.add(swapped("mm", "mat2"), "nn.Linear(3, 2, bias=False).cuda()(cpu_square)")
TABLE.add(wrapper("mm", "mat2"), "nn.Linear(3, 2, bias=False)(gpu_square)")
TABLE.add(wrapper("addmm", "mat1", "cuda:0", "cuda:1"), 'nn.Linear(3, 2).to("cuda:1")(gpu_square)')
TABLE.add(wrapper("addmm", "mat1"), "nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).cuda()(cpu_images)")

# A convolution compares types, not devices. The longer ending comes from the branch for CPU inputs.
TYPES = "Input type ({}) and {} type ({}) should be the same"
MKLDNN = " or input should be a MKLDNN tensor and weight is a dense tensor"
GPU_FLOAT, CPU_FLOAT = "torch.cuda.FloatTensor", "torch.FloatTensor"
TABLE.add(
    exactly(RuntimeError, TYPES.format(GPU_FLOAT, "weight", CPU_FLOAT)),
    "nn.Conv2d(3, 2, 3)(gpu_images)",
    "nn.Conv2d(3, 2, 3, bias=False)(gpu_images)",
    "nn.ConvTranspose2d(3, 2, 3)(gpu_images)",
    "nn.Conv1d(3, 2, 3)(gpu_images[:, :, 0])",
    "nn.Conv3d(3, 2, 3)(gpu_images[..., None].expand(2, 3, 8, 8, 4))",
)
TABLE.add(
    exactly(RuntimeError, TYPES.format(CPU_FLOAT, "weight", GPU_FLOAT) + MKLDNN),
    "nn.Conv2d(3, 2, 3).cuda()(cpu_images)",
    "nn.Conv2d(3, 2, 3, bias=False).cuda()(cpu_images)",
    "nn.ConvTranspose2d(3, 2, 3).cuda()(cpu_images)",
    "nn.Conv1d(3, 2, 3).cuda()(cpu_images[:, :, 0])",
    "nn.Conv3d(3, 2, 3).cuda()(cpu_images[..., None].expand(2, 3, 8, 8, 4))",
)
TABLE.add(
    exactly(RuntimeError, TYPES.format("c10::Half", "bias", "float")),
    "nn.Conv2d(3, 2, 3).cuda()(gpu_images.half())",
)
TABLE.add(
    wrapper("_cudnn_convolution", "weight", "cuda:1", "cuda:0"), 'nn.Conv2d(3, 2, 3).to("cuda:1")(gpu_images)'
)
TABLE.add(
    exactly(RuntimeError, "mat1 and mat2 must have the same dtype, but got Half and Float"),
    "nn.Linear(3, 2).cuda()(gpu_square.half())",
)

# On CUDA inputs cuDNN's batch norm is called; both spellings are the same check.
TABLE.add(
    Raises(RuntimeError, wrapper("_XXX_batch_norm", "weight").pattern.replace("XXX", "(cudnn|native)")),
    "nn.BatchNorm2d(3)(gpu_images)",
    "nn.BatchNorm2d(3).eval()(gpu_images)",
    "nn.BatchNorm1d(3)(gpu_square)",
)
TABLE.add(
    swapped("_native_batch_norm", "weight"),
    "nn.BatchNorm2d(3).cuda()(cpu_images)",
    "nn.BatchNorm1d(3).cuda().eval()(cpu_square)",
)
TABLE.add(wrapper("_native_layer_norm", "weight"), "nn.LayerNorm(3)(gpu_square)")
TABLE.add(swapped("_native_layer_norm", "weight"), "nn.LayerNorm(3).cuda()(cpu_square)")
TABLE.add(wrapper("_native_group_norm", "weight"), "nn.GroupNorm(1, 3)(gpu_images)")
TABLE.add(wrapper("__fused_rms_norm", "weight"), "nn.RMSNorm(3)(gpu_square)")
TABLE.add(wrapper("__prelu_kernel", "weight"), "nn.PReLU()(gpu)")
TABLE.add(wrapper("_index_select", "index"), "nn.Embedding(5, 2).cuda()(cpu_index)")
TABLE.add(swapped("_index_select", "index"), "nn.Embedding(5, 2)(gpu_index)")
TABLE.add(
    wrapper("_grid_sampler_2d", "grid"),
    "F.grid_sample(gpu_images, torch.zeros(2, 4, 4, 2), align_corners=False)",
)
TABLE.add(swapped("mm", "mat2"), "nn.MultiheadAttention(3, 1).cuda()(*[cpu_images[0, :, :3, :3]] * 3)")
TABLE.add(
    exactly(
        RuntimeError,
        "Expected query, key, and value to have the same device type, but got query.device: cuda:0 "
        "key.device: cpu and value.device: cuda:0 instead.",
    ),
    "F.scaled_dot_product_attention(gpu_images, cpu_images, gpu_images)",
)
RNN = "Input and {} tensors are not at the same device, found input tensor at {} and {} tensor at {}"
for layer in ("LSTM", "GRU", "RNN"):
    TABLE.add(
        exactly(RuntimeError, RNN.format("parameter", "cpu", "parameter", "cuda:0")),
        f"nn.{layer}(3, 2).cuda()(cpu_square)",
    )
    TABLE.add(
        exactly(RuntimeError, RNN.format("parameter", "cuda:0", "parameter", "cpu")),
        f"nn.{layer}(3, 2)(gpu_square)",
    )
TABLE.add(
    exactly(RuntimeError, RNN.format("hidden", "cuda:0", "hidden", "cpu")),
    "nn.GRU(3, 2).cuda()(gpu_square, torch.zeros(1, 2))",
    "nn.LSTM(3, 2).cuda()(gpu_square, (torch.zeros(1, 2), torch.zeros(1, 2)))",
)

LABELS = "torch.tensor([0, 1, 2])"
TABLE.add(
    wrapper("nll_loss_forward", "target"),
    f"F.cross_entropy(gpu_square, {LABELS})",
    f"nn.CrossEntropyLoss(label_smoothing=0.1)(gpu_square, {LABELS})",
    f"F.nll_loss(gpu_square, {LABELS})",
)
TABLE.add(swapped("nll_loss_forward", "target"), f"F.cross_entropy(cpu_square, {LABELS}.cuda())")
TABLE.add(wrapper("nll_loss_forward", "weight"), f"F.cross_entropy(gpu_square, {LABELS}.cuda(), weight=cpu)")
TABLE.add(swapped("nll_loss_forward", "weight"), f"F.cross_entropy(cpu_square, {LABELS}, weight=gpu)")
TABLE.add(
    wrapper("_nll_loss2d_forward", "target"),
    "F.cross_entropy(gpu_images, torch.zeros(2, 8, 8, dtype=torch.long))",
)
TABLE.add(
    wrapper("nll_loss_forward", "target", "cuda:1"), f"F.cross_entropy(gpu_square, {LABELS}.to('cuda:1'))"
)
TABLE.add(wrapper("_huber_loss", "target"), "F.huber_loss(gpu, cpu)")
TABLE.add(
    two_devices("cuda:0", "cpu"),
    "F.mse_loss(gpu, cpu)",
    "F.mse_loss(cpu, gpu)",
    "F.l1_loss(gpu, cpu)",
    "F.smooth_l1_loss(gpu, cpu)",
    "F.binary_cross_entropy(torch.sigmoid(gpu), torch.sigmoid(cpu))",
    "F.binary_cross_entropy_with_logits(gpu, cpu)",
    "F.binary_cross_entropy_with_logits(gpu, gpu, pos_weight=cpu)",
    "F.kl_div(gpu, cpu)",
    "F.cross_entropy(gpu_square, cpu_square)",
)
TABLE.add(
    CUDA0,
    "nn.Linear(3, 2).cuda()(gpu_square).device",
    "nn.Conv2d(3, 2, 3).cuda()(gpu_images).device",
    "nn.BatchNorm2d(3).cuda()(gpu_images).device",
    "nn.Embedding(5, 2).cuda()(gpu_index).device",
    "nn.LSTM(3, 2).cuda()(gpu_square)[0].device",
    "nn.MultiheadAttention(3, 1).cuda()(*[gpu_square] * 3)[0].device",
    f"F.cross_entropy(gpu_square, {LABELS}.cuda()).device",
    "F.dropout(gpu).device",
    "F.max_pool2d(gpu_images, 2).device",
    "F.one_hot(gpu_index, 3).device",
    "F.interpolate(gpu_images, scale_factor=2).device",
)


@TABLE.situation(wrapper("addmm", "mat1", "cuda:0", "cpu"))
def one_parameter_left_behind() -> object:
    """A Linear layer on the GPU whose bias was replaced by one on the CPU"""
    layer = nn.Linear(3, 2).cuda()
    layer.bias = nn.Parameter(torch.zeros(2))
    return layer(torch.ones(2, 3, device="cuda"))


@TABLE.situation(exactly(RuntimeError, TYPES.format(GPU_FLOAT, "bias", CPU_FLOAT)))
def convolution_bias_left_behind() -> object:
    """A convolution on the GPU whose bias was replaced by one on the CPU"""
    layer = nn.Conv2d(3, 2, 3).cuda()
    layer.bias = nn.Parameter(torch.zeros(2))
    return layer(torch.ones(2, 3, 8, 8, device="cuda"))


@TABLE.situation(two_devices("cuda:0", "cpu"))
def mask_made_in_forward() -> object:
    """A tensor created inside forward without device= meets the GPU"""

    class Masked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.ones(x.shape[1])

    return Masked().cuda()(torch.ones(2, 3, device="cuda"))
