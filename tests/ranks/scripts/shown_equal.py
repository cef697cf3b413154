"""What several processes compute on GPUs equals what one computes on the CPU; started by `try --nproc`.

Written as for NVIDIA GPUs: nothing in here knows that they are virtual. Argument: a folder for a checkpoint,
which four processes save and two load.
"""

import copy
import os
import sys

import torch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

RANK, RANKS = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
STEPS = 3


class Block(nn.Module):
    """A norm and two layers, as in a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(self.norm(x))))


def network() -> nn.Sequential:
    """The same small network at each call."""
    torch.manual_seed(0)
    return nn.Sequential(Block(), Block())


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one step."""
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 8, generator=generator), torch.randn(8, 3, 8, generator=generator)


def train(model: nn.Module, part: int = 0, parts: int = 1, clip: float = 0) -> list[float]:
    """Train some steps on this process's part of each batch; return the losses, averaged over processes."""
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.01), []
    for step in range(STEPS):
        x, y = (half.chunk(parts)[part] for half in batch(step))
        if parts > 1:
            x, y = x.cuda(), y.cuda()
        loss = functional.mse_loss(model(x).float(), y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().clone()
        if parts > 1:
            distributed.all_reduce(mean, distributed.ReduceOp.AVG)
        losses.append(mean.item())
    return losses


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on the CPU."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()


def assert_same_gradients(model: nn.Module, alone: nn.Module) -> None:
    for mine, one in zip(model.parameters(), alone.parameters(), strict=True):
        assert_close(whole(mine.grad), one.grad)


def data_parallel(mesh: DeviceMesh) -> None:
    alone, model = network(), network().cuda()
    if RANK:
        nn.init.zeros_(model[0].up.weight)  # rank 0's parameters count
    for options in ({}, {"gradient_as_bucket_view": True}, {"static_graph": True}):
        wrapped = DistributedDataParallel(model, device_ids=[RANK], **options)
        x, y = batch(0)
        for network_, inputs, targets in ((alone, x, y), (wrapped, *shares(x, y))):
            network_.zero_grad()
            functional.mse_loss(network_(inputs), targets).backward()
        assert_same_gradients(model, alone)
        assert all(parameter.grad.is_cuda for parameter in model.parameters())


def synchronized_norm(mesh: DeviceMesh) -> None:
    """Batch norm over all processes: outputs, gradients and running statistics."""
    torch.manual_seed(0)
    alone = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(alone)).cuda()
    wrapped = DistributedDataParallel(model, device_ids=[RANK])
    x, y = batch(0)
    y = y[:, :1, :6].expand(-1, 4, -1)
    for network_, inputs, targets in ((alone, x, y), (wrapped, *shares(x, y))):
        functional.mse_loss(network_(inputs), targets).backward()
    assert_same_gradients(model, alone)
    assert_close(model[1].running_var.cpu(), alone[1].running_var)
    assert_close(model[1].running_mean.cpu(), alone[1].running_mean)


def shares(*tensors: Tensor) -> list[Tensor]:
    """This process's part of each tensor, on its GPU."""
    return [tensor.chunk(RANKS)[RANK].cuda() for tensor in tensors]


def sharded(mesh: DeviceMesh, **options: object) -> nn.Module:
    """The network under FSDP2."""
    model = network() if "offload_policy" in options else network().cuda()
    for module in (*model, model):
        fully_shard(module, mesh=mesh, **options)
    return model


def fully_sharded(mesh: DeviceMesh) -> None:
    expected = train(network())
    bfloat16 = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
    assert_close(train(sharded(mesh), RANK, RANKS), expected)
    assert_close(train(sharded(mesh, reshard_after_forward=False), RANK, RANKS), expected)
    assert_close(train(sharded(mesh, offload_policy=CPUOffloadPolicy()), RANK, RANKS), expected)
    assert_close(train(sharded(mesh), RANK, RANKS, clip=0.1), train(network(), clip=0.1))
    mixed = train(sharded(mesh, mp_policy=bfloat16), RANK, RANKS)
    assert mixed != expected
    assert_close(mixed, expected, rtol=0.02, atol=0.02)


def tensor_parallel(mesh: DeviceMesh) -> None:
    inner = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    sequence = {
        "norm": SequenceParallel(),
        "up": ColwiseParallel(input_layouts=Shard(1)),
        "down": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),
    }
    x = torch.randn(2, 2 * RANKS, 8, generator=torch.Generator().manual_seed(0))
    for plan in (inner, sequence):
        alone, model = network()[0], parallelize_module(network()[0].cuda(), mesh, plan)
        inputs = distribute_tensor(x.cuda(), mesh, [Shard(1)]) if plan is sequence else x.cuda()
        ours, theirs = model(inputs), alone(x)
        assert_close(whole(ours), theirs.detach())
        for output in (ours, theirs):
            output.square().sum().backward()
        assert_same_gradients(model, alone)


def attention(mesh: DeviceMesh) -> None:
    """A part of the batch, or of the heads, on each process."""
    for place in (Shard(0), Shard(1)):
        given = [torch.randn(4, 4, 3, 2, generator=torch.Generator().manual_seed(n)) for n in range(3)]
        parts = [distribute_tensor(one.cuda(), mesh, [place]).requires_grad_() for one in given]
        given = [one.requires_grad_() for one in given]
        results = [functional.scaled_dot_product_attention(*one, is_causal=True) for one in (parts, given)]
        assert results[0].placements == (place,)
        assert_close(whole(results[0]), results[1].detach())
        for result in results:
            result.square().sum().backward()
        assert_close([whole(one.grad) for one in parts], [one.grad for one in given])


def loss_of_parts(mesh: DeviceMesh) -> None:
    """Cross entropy of logits whose classes are spread over the processes."""
    plan = ColwiseParallel(output_layouts=Shard(-1), use_local_output=False)
    alone, model = network()[0].up, parallelize_module(network()[0].up.cuda(), mesh, plan)
    x, classes = batch(0)[0][:, 0], torch.arange(8)
    functional.cross_entropy(alone(x), classes).backward()
    with loss_parallel():
        functional.cross_entropy(model(x.cuda()), classes.cuda()).backward()
    assert_same_gradients(model, alone)


def pipelines(mesh: DeviceMesh) -> None:
    for schedule, each in ((ScheduleGPipe, 1), (Schedule1F1B, 1), (ScheduleInterleaved1F1B, 2)):
        torch.manual_seed(0)
        layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(RANKS * each))
        (x, y), count = batch(0), RANKS * each
        functional.mse_loss(nn.Sequential(*layers)(x), y).backward()
        expected = [
            parameter.grad.clone() for layer in layers[RANK::RANKS] for parameter in layer.parameters()
        ]
        layers.zero_grad()
        device = torch.device("cuda", RANK)
        stages = [
            PipelineStage(layers[number].cuda(), number, count, device)
            for number in range(RANK, count, RANKS)
        ]
        runs = schedule(stages if each > 1 else stages[0], n_microbatches=4, loss_fn=functional.mse_loss)
        given = (x.cuda(),) if RANK == 0 else ()
        runs.step(*given, **({"target": y.cuda()} if RANK == RANKS - 1 else {}))
        found = [parameter.grad.cpu() for layer in layers[RANK::RANKS] for parameter in layer.parameters()]
        assert_close(found, expected)


def two_dimensions(mesh: DeviceMesh) -> None:
    expected = train(network())
    hybrid = init_device_mesh("cuda", (2, RANKS // 2), mesh_dim_names=("replicate", "shard"))
    assert_close(train(sharded(hybrid), RANK, RANKS), expected)
    both = init_device_mesh("cuda", (2, RANKS // 2), mesh_dim_names=("data", "tensor"))
    model = network().cuda()
    for block in model:
        parallelize_module(block, both["tensor"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        fully_shard(block, mesh=both["data"])
    fully_shard(model, mesh=both["data"])
    assert_close(train(model, both["data"].get_local_rank(), 2), expected)


def checkpoints(mesh: DeviceMesh) -> None:
    """Four processes save what two load: parameters and the optimizer's state."""
    model = sharded(mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    x, y = shares(*batch(0))
    functional.mse_loss(model(x), y).backward()
    optimizer.step()
    trained = [whole(parameter) for parameter in model.parameters()]
    if RANKS == 4:
        states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
        checkpoint.save(states, checkpoint_id=sys.argv[1])
        return
    model = sharded(mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
    checkpoint.load(states, checkpoint_id=sys.argv[1])
    set_state_dict(model, optimizer, model_state_dict=states["model"], optim_state_dict=states["optimizer"])
    assert_close([whole(parameter) for parameter in model.parameters()], trained)
    assert {state["step"].item() for state in optimizer.state.values()} == {1}


def moved(mesh: DeviceMesh) -> None:
    """A module of DTensors goes to other devices and types, and is made on `meta` and filled later."""
    model = sharded(mesh)
    part = model[0].up.weight
    assert part.is_cuda
    assert part.device == part.to_local().device == torch.device("cuda", RANK)
    whole_before = whole(part)
    model.cpu()
    assert model[0].up.weight.to_local().is_cpu
    model.cuda().double()
    assert model[0].up.weight.device == torch.device("cuda", RANK)
    assert_close(whole(model[0].up.weight), whole_before.double())
    with torch.device("meta"):
        later = nn.Linear(8, 8)
    fully_shard(later, mesh=mesh).to_empty(device="cuda")
    torch.manual_seed(0)
    nn.init.normal_(later.weight)
    rows = whole(later.weight)
    assert len(rows.unique()) == rows.numel()  # each part drew numbers of its own
    later(torch.ones(2, 8, device="cuda")).sum().backward()
    assert later.weight.grad.is_cuda


if __name__ == "__main__":  # no device is set: the first mesh does it
    distributed.init_process_group("nccl", device_id=torch.device("cuda", RANK))
    for name in sys.argv[2:]:
        globals()[name](init_device_mesh("cuda", (RANKS,)))
        if RANK == 0:
            print(name, flush=True)
    distributed.destroy_process_group()
