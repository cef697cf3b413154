"""Creating: every way to make a tensor lands where it says."""

import numpy as np
import torch
from torch import nn

from .table import CPU, CUDA0, CUDA1, Table

TABLE = Table("Creating tensors")

TABLE.add(
    CUDA0,
    'torch.zeros(2, device="cuda").device',
    'torch.ones(2, device="cuda:0").device',
    "torch.empty(2, device=0).device",
    'torch.full((2,), 7.0, device=torch.device("cuda")).device',
    'torch.rand(2, device=torch.device("cuda", 0)).device',
    'torch.randn(2, device="cuda").device',
    'torch.randint(9, (2,), device="cuda").device',
    'torch.randperm(4, device="cuda").device',
    'torch.normal(0.0, 1.0, (2,), device="cuda").device',
    'torch.arange(4, device="cuda").device',
    'torch.linspace(0, 1, 3, device="cuda").device',
    'torch.logspace(0, 1, 3, device="cuda").device',
    'torch.eye(3, device="cuda").device',
    'torch.tril_indices(3, 3, device="cuda").device',
    'torch.empty_strided((2, 2), (1, 2), device="cuda").device',
    'torch.tensor([1, 2], device="cuda").device',
    'torch.as_tensor([1, 2], device="cuda").device',
    'torch.asarray([1, 2], device="cuda").device',
    'torch.as_tensor(np.ones(2), device="cuda").device',
    'torch.scalar_tensor(1.0, device="cuda").device',
    'torch.hann_window(4, device="cuda").device',
    "torch.zeros_like(gpu).device",
    'torch.zeros_like(cpu, device="cuda").device',
    'torch.rand_like(cpu, device="cuda").device',
    "torch.full_like(gpu, 3.0).device",
    "torch.randn_like(gpu).device",
    "torch.empty_like(gpu).device",
    "gpu.new_zeros(2).device",
    "gpu.new_tensor([1.0]).device",
    "gpu.new_full((2,), 1.0).device",
    "torch.tensor(gpu.tolist(), device=gpu.device).device",
    'torch.tensor([gpu_number, gpu_number], device="cuda").device',
    "torch.cuda.FloatTensor([1.0, 2.0]).device",
    'nn.Linear(2, 2, device="cuda").weight.device',
    'nn.Parameter(torch.zeros(2, device="cuda")).device',
    'nn.BatchNorm1d(2, device="cuda").running_mean.device',
    'nn.Embedding(4, 2, device="cuda").weight.device',
    'nn.MultiheadAttention(4, 2, device="cuda").in_proj_weight.device',
)
TABLE.add(
    CUDA1,
    'torch.zeros(2, device="cuda:1").device',
    "torch.zeros(2, device=1).device",
    "torch.zeros_like(gpu1).device",
    'nn.Linear(2, 2, device="cuda:1").bias.device',
    'torch.arange(3, device=torch.device("cuda", 1)).device',
)
TABLE.add(
    CPU,
    "torch.from_numpy(np.ones(2)).device",
    'torch.zeros_like(gpu, device="cpu").device',
    'gpu.new_zeros(2, device="cpu").device',
    "torch.tensor([gpu_number, gpu_number]).device",
    "torch.tensor(gpu.tolist()).device",
    'torch.as_tensor(gpu, device="cpu").device',
)
TABLE.add(True, "torch.as_tensor(gpu) is gpu", "torch.zeros(2, device='cuda', requires_grad=True).is_leaf")
TABLE.add(torch.float16, 'torch.zeros(2, dtype=torch.half, device="cuda").dtype')
TABLE.add([0, 1, 2], 'torch.arange(3, device="cuda").tolist()')
TABLE.add([[1.0, 0.0], [0.0, 1.0]], 'torch.eye(2, device="cuda").tolist()')


@TABLE.situation([CUDA0, CUDA0, CUDA0, CUDA0, CPU, CPU])
def default_device_context() -> object:
    """with torch.device("cuda:0"): factories and layers land there; from_numpy and device="cpu" do not"""
    with torch.device("cuda:0"):
        made = [torch.zeros(1), torch.tensor([1.0]), nn.Linear(1, 1).weight, torch.arange(2)]
        made += [torch.from_numpy(np.ones(1)), torch.zeros(1, device="cpu")]
    return [tensor.device for tensor in made]


@TABLE.situation([CUDA1, CUDA0, CUDA1, 0], gpus=2)
def default_device_is_not_current_device() -> object:
    """with torch.device("cuda:1"): device="cuda" still means the current device, which stays 0"""
    with torch.device("cuda:1"):
        made = [torch.zeros(1).device, torch.zeros(1, device="cuda").device]
        return [*made, torch.get_default_device(), torch.cuda.current_device()]


@TABLE.situation([CUDA0, CUDA0, CPU])
def set_default_device() -> object:
    """torch.set_default_device("cuda"): factories follow; None puts the CPU back"""
    torch.set_default_device("cuda")
    try:
        made = [torch.zeros(1).device, torch.get_default_device()]
    finally:
        torch.set_default_device(None)
    return [*made, torch.zeros(1).device]


@TABLE.situation(["tensor([0., 0.], device='cuda:0')", "tensor([0., 0.])"])
def print_under_default_device() -> object:
    """Under a CUDA default device a tensor still prints its device"""
    with torch.device("cuda"):
        return [repr(torch.zeros(2)), repr(torch.zeros(2, device="cpu"))]


TABLE.add(
    [1.0, 2.0], "gpu_square.new_tensor([1, 2]).tolist()", 'gpu.new_tensor([1, 2], device="cpu").tolist()'
)
TABLE.add((CUDA0, torch.float32), "gpu.new_tensor(cpu_index).device, gpu.new_tensor(cpu_index).dtype")
TABLE.add((CPU, torch.int64), "cpu_index.new_tensor(gpu).device, cpu_index.new_tensor(gpu).dtype")
