"""Rows of the table in which the virtual GPUs are known to differ from CUDA, and why.

The test expects each of these rows to fail on virtual GPUs, and fails itself once one no longer does.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Gap:
    """A known difference; `only`: how the torch versions that have it begin, () for all."""

    reason: str
    only: tuple[str, ...] = ()


_SUBCLASS = "a virtual tensor is a subclass of torch.Tensor that holds a CPU tensor"
_C_CODE = "the check is in C code that sees the CPU tensor inside"
_OLD_NODE = "until 2.11 the copy is a Python autograd function, which has its own name"
GAPS = {
    "type(gpu) is torch.Tensor": Gap(_SUBCLASS),
    "type(nn.Linear(1, 1).cuda().weight) is nn.Parameter": Gap(_SUBCLASS + "; isinstance holds"),
    "isinstance(gpu, torch.FloatTensor)": Gap(_C_CODE),
    'torch.meshgrid(gpu, cpu, indexing="ij")': Gap(_C_CODE),
    "torch.take_along_dim(gpu, cpu_index)": Gap(_C_CODE + "; the error comes one step later, from gather"),
    "torch.sum(gpu, 0, out=cpu_number)": Gap("an out= on the wrong device gets the text of other kernels"),
    "nn.RMSNorm(3)(gpu_square)": Gap("on the CPU it is several operations; the first of them refuses"),
    "gpu_square.half() @ gpu_square": Gap("the CPU kernel calls the arguments m1 and m2"),
    "torch.cuda.get_rng_state().shape": Gap(
        "a virtual GPU draws with the CPU's generator and its larger state"
    ),
    "cpu.__setitem__(gpu > 1, 0.0)": Gap("assignment by mask runs as masked_fill there", only=("2.15",)),
    'autocast("cpu") leaves operations on the GPU alone': Gap("a virtual GPU's operations run on the CPU"),
    "gpu.requires_grad_().cpu().grad_fn.name()": Gap(_OLD_NODE, only=("2.10", "2.11")),
    "gpu.requires_grad_().to('cuda:1').grad_fn.name()": Gap(_OLD_NODE, only=("2.10", "2.11")),
    "cpu.requires_grad_().cuda().grad_fn.name()": Gap(_OLD_NODE, only=("2.10", "2.11")),
}


def gap_of(call: str) -> str | None:
    """Return why virtual GPUs miss a row with this version of torch; None where they do not."""
    gap = GAPS.get(call)
    return gap.reason if gap and (not gap.only or torch.__version__.startswith(gap.only)) else None
