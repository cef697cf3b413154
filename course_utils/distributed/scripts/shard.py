"""Train one model twice, with DDP and with FSDP2, and measure what each rank holds and what travels.

    torchrun --standalone --nproc-per-node 2 shard.py

Every rank prints its own figures; rank 0 also writes those of all ranks to shard.pt in the current folder.
"""

import argparse
import gc
import os
import sys
from collections import Counter

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

MIB = 2**20
# the collectives of a training step: PyTorch's name inside, ours, and which argument is the whole tensor
COLLECTIVES = {
    "allreduce_": ("all-reduce", 0),
    "_allgather_base_": ("all-gather", 0),
    "_reduce_scatter_base_": ("reduce-scatter", 1),
}


def build(device, width, blocks):
    """Some linear layers of `width` x `width`, and a last one for ten classes; the same on every rank."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.Linear(width, 10)).to(device)


def shard(model, device):
    """Cut every parameter into one part per rank; each rank keeps its own."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in list(model)[:-1]:
        fully_shard(layer, mesh=mesh)  # put together when its turn comes, and let go of again
    return fully_shard(model, mesh=mesh)  # what is left: the last layer


def held(tensors):
    """Bytes of memory behind these tensors on this rank."""
    parts = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    storages = [part.untyped_storage() for part in parts]  # several tensors may share one
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class Traffic(TorchDispatchMode):
    """Counts the bytes of the whole tensors that each kind of collective puts together in a `with` block."""

    def __init__(self):
        super().__init__()
        self.bytes = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d" and func._opname in COLLECTIVES:
            name, place = COLLECTIVES[func._opname]
            tensors = args[place] if isinstance(args[place], list) else [args[place]]
            self.bytes[name] += sum(tensor.nbytes for tensor in tensors)
        return func(*args, **(kwargs or {}))


def train(tool, device, options):
    """Train for some steps, all on the same 64 rows; return the losses and this rank's figures in bytes."""
    data = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, options.width, generator=data), torch.randint(10, (64,), generator=data)
    rank, world = dist.get_rank(), dist.get_world_size()
    x, y = x.chunk(world)[rank].to(device), y.chunk(world)[rank].to(device)

    model = build(device, options.width, options.blocks)
    whole = []  # bytes of parameters that lie here in one piece while a layer computes
    for layer in model:
        layer.register_forward_hook(
            lambda *_: whole.append(held(p for p in model.parameters() if not isinstance(p, DTensor)))
        )
    wrapped = shard(model, device) if tool == "fsdp" else DistributedDataParallel(model)
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=0.001)
    losses = []
    for _ in range(options.steps):
        optimizer.zero_grad()
        with Traffic() as traffic:
            loss = cross_entropy(wrapped(x), y)
            loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    state = [value for entry in optimizer.state.values() for value in entry.values() if value.numel() > 1]
    bytes_held = {
        "parameters": held(model.parameters()),
        "gradients": held(parameter.grad for parameter in model.parameters()),
        "optimizer state": held(state),
    }
    mean = torch.stack(losses)
    dist.all_reduce(mean)  # each rank saw the loss of its own rows
    return {
        "losses": (mean / world).tolist(),
        "held": bytes_held,
        "whole at most": max(whole),
        "traffic": dict(traffic.bytes),
        "peak": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()

    enough = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpus = enough and dist.is_nccl_available()
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpus else "cpu")
    if on_gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpus else "gloo")

    results = {}
    for tool in ("ddp", "fsdp"):
        if on_gpus:
            gc.collect()  # the model before hangs in a cycle with its own hooks
            torch.cuda.reset_peak_memory_stats(device)
        results[tool] = train(tool, device, options)
        sizes = ", ".join(f"{name} {size / MIB:.2f}" for name, size in results[tool]["held"].items())
        print(f"{tool:4} holds MiB: {sizes}")
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, results)
    if dist.get_rank() == 0:
        torch.save(everyone, "shard.pt")
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # at once: while Python tidies up, a thread of gloo that still holds a tensor would abort


if __name__ == "__main__":
    main()
