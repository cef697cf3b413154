"""Answers to the exercises of lesson 07."""

CONTEXT = """
import math
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.utils.data import DistributedSampler, Subset
"""

ACTUAL = {
    "after_all_reduce": "[30.0, 30.0]",
    "rank_three_gets": "list(DistributedSampler(range(10), 4, 3, shuffle=False))",
    "same_curve": "'the same'",
    "epochs_begun": "5",
    "through_one_gpu": "4 * 999 / 1000 * 0.4",
}


def guesses(name: str, **values: str) -> dict[str, str]:
    """Return a wrong guess for each mistake."""
    return {key: f"exercise.{name}.guess({value})" for key, value in values.items()}


def words(name: str, *wrong: str) -> dict[str, str]:
    """Return the wrong answers to a myth."""
    return {word: f"{name} = {word!r}" for word in wrong} | {"word": f"{name} = 'maybe'"}


def function(head: str, body: str) -> str:
    """Return a function with this body."""
    return f"def {head}:\n    " + body.strip("\n").replace("\n", "\n    ")


def sampler(
    order: str = "torch.randperm(n, generator=torch.Generator().manual_seed(epoch)).tolist()",
    *,
    each: str = "n // world if drop_last else math.ceil(n / world)",
    padded: str = "(order * world)[: each * world]",
    share: str = "padded[rank::world]",
) -> str:
    """Return the sampler by hand with these expressions."""
    body = f"order = {order}\neach = {each}\npadded = {padded}\nreturn {share}"
    return function("sampler_by_hand(n, world, rank, epoch, drop_last)", body)


def accumulate(
    parts: str = "model.no_sync() if i < len(parts) - 1 else torch.enable_grad()",
    *,
    loss: str = "F.cross_entropy(model(x), y) / len(parts)",
    zero: str = "optimizer.zero_grad()",
    inside: str = "pass",
    after: str = "optimizer.step()",
) -> str:
    """Return a step over parts with these lines; `parts` is the context of the i-th part."""
    body = f"""
{zero}
for i, (x, y) in enumerate(parts):
    with {parts}:
        loss = {loss}
        loss.backward()
    {inside}
{after}"""
    return function("accumulate_ddp(model, optimizer, parts)", body)


def accuracy(body: str) -> str:
    """Return the exact accuracy with this body."""
    start = "rank, world = dist.get_rank(), dist.get_world_size()\n"
    return function("exact_accuracy(model, x, y)", start + body)


MINE = "right = (model(x[rank::world]).argmax(1) == y[rank::world])\n"


def save(body: str) -> str:
    """Return save_once with this body."""
    return function("save_once(model, file)", "state = model.module.state_dict()\n" + body)


def once(lines: str, after: str = "dist.barrier()") -> str:
    """Return save_once in which rank 0 runs these lines."""
    return save("if dist.get_rank() == 0:\n    " + lines.replace("\n", "\n    ") + f"\n{after}")


PART = "part = file.with_name('new.pt')\ntorch.save(state, part)\nos.replace(part, file)"


def scaled(steps: str = "math.ceil(samples / (batch * gpus))", rate: str = "gpus * rate") -> str:
    """Return scaled_up with these expressions."""
    return function("scaled_up(samples, batch, gpus, rate)", f"return {steps}, {rate}")


def needed(
    total: str = "16 * parameters", room: str = "memory - 8 * block", up: str = "-(-total // room)"
) -> str:
    """Return gpus_needed with these expressions."""
    body = f"total, room = {total}, {room}\nif room <= 0:\n    return None\nreturn {up}"
    return function("gpus_needed(parameters, block, memory)", body)


SITUATIONS = (
    "it fits and trains overnight; you have one GPU",
    "it fits; 8 GPUs here, the training should take days, not weeks",
    "it fits; two GPUs, and it must stay in a running notebook for an hour",
    "a layer fits, all weights with Adam do not; 16 GPUs",
    "a single layer is larger than a GPU; 8 GPUs in one machine",
)


def tools(*chosen: str) -> str:
    """Return the dict with these tools, written as in code."""
    return f"which_tool = {{{', '.join(f'{s!r}: {t}' for s, t in zip(SITUATIONS, chosen, strict=True))}}}"


ONE, DP, DDP, FSDP, SPLIT = "'one GPU'", "'DataParallel'", "'DDP'", "'FSDP'", "'model parallel'"


def hook(body: str, unsent: str = "bucket.buffer() + state.get(bucket.index(), 0)") -> str:
    """Return a hook with this body, which makes `mean` of `g`."""
    lines = f"world, g = dist.get_world_size(), {unsent}\n{body}\n"
    lines += "future = torch.futures.Future()\nfuture.set_result(mean)\nreturn future"
    return function("small_talk(state, bucket)", lines)


LARGEST = """
k = len(g) // 10
places = g.abs().topk(k).indices
numbers = g[places]
state[bucket.index()] = g.index_fill(0, places, 0.0)
every, where = [[torch.empty_like(t) for _ in range(world)] for t in (numbers, places)]
dist.all_gather(every, numbers)
dist.all_gather(where, places)
mean = torch.zeros_like(g).index_add_(0, torch.cat(where), torch.cat(every)) / world"""
PLAIN = "mean = bucket.buffer() / world\ndist.all_reduce(mean)"

RIGHT = {
    "after_all_reduce": ["exercise.after_all_reduce.guess((30.0, 30))"],
    "same_curve": ["exercise.same_curve.guess('The same')"],
    "through_one_gpu": ["exercise.through_one_gpu.guess(1.598)"],
    "sampler_by_hand": [
        sampler(),
        sampler("torch.randperm(n, generator=torch.Generator().manual_seed(0 + epoch))",
                padded="order[torch.arange(each * world) % n]", share="padded[rank::world].tolist()"),
        function("sampler_by_hand(n, world, rank, epoch, drop_last)", """
order = list(torch.randperm(n, generator=torch.Generator().manual_seed(epoch)))
if drop_last:
    order = order[:n - n % world]
while len(order) % world:
    order += order[:world - len(order) % world]
for i in range(rank, len(order), world):
    yield order[i]"""),
    ],
    "accumulate_ddp": [
        accumulate(),
        function("accumulate_ddp(model, optimizer, parts)", """
model.zero_grad()
for i, (x, y) in enumerate(parts):
    model.require_backward_grad_sync = i == len(parts) - 1
    F.cross_entropy(model(x), y).div(len(parts)).backward()
optimizer.step()"""),
        function("accumulate_ddp(model, optimizer, parts)", """
optimizer.zero_grad()
with model.no_sync():
    for x, y in parts:
        (F.cross_entropy(model(x), y) / len(parts)).backward()
for p in model.parameters():
    dist.all_reduce(p.grad, dist.ReduceOp.AVG)
optimizer.step()"""),
        accumulate(loss="F.cross_entropy(model(x), y)",
                   inside="if i == len(parts) - 1: [p.grad.div_(len(parts)) for p in model.parameters()]",
                   after="optimizer.step(); optimizer.zero_grad()"),
    ],
    "exact_accuracy": [
        accuracy(MINE + "counts = torch.tensor([right.sum(), len(right)])\n"
                 "dist.all_reduce(counts)\nreturn (counts[0] / counts[1]).item()"),
        accuracy(MINE + "every = [None] * world\ndist.all_gather_object(every, right.tolist())\n"
                 "flat = sum(every, [])\nreturn sum(flat) / len(flat)"),
        accuracy("mine = torch.tensor(list(DistributedSampler(y, shuffle=False)))\n"
                 "right = (model(x[mine]).argmax(1) == y[mine]).float()\n"
                 "every = torch.empty(world * len(right))\n"
                 "dist.all_gather_into_tensor(every, right)\n"
                 "return every.view(world, -1).T.flatten()[:len(y)].mean()"),
        accuracy("rows = torch.arange(len(y)).tensor_split(world)[rank]\n"
                 "total = (model(x[rows]).argmax(1) == y[rows]).sum()\n"
                 "dist.reduce(total, dst=0)\ndist.broadcast(total, src=0)\nreturn total.item() / len(y)"),
    ],
    "save_once": [
        once(PART),
        once("part = str(file) + '.part'\nwith open(part, 'wb') as f:\n    torch.save(state, f)\n"
             "Path(part).rename(file)"),
        once("handle, part = tempfile.mkstemp(dir=file.parent)\nos.close(handle)\ntorch.save(state, part)\n"
             "os.rename(part, file)", "dist.all_reduce(torch.zeros(1))"),
        save("if dist.get_rank() > 0:\n    dist.barrier()\n    return\n" + PART + "\ndist.barrier()"),
    ],
    "scaled_up": [
        scaled(),
        scaled("-(samples // -(batch * gpus))", "rate * (batch * gpus / batch)"),
        scaled("math.ceil(math.ceil(samples / gpus) / batch)"),
        scaled("len(range(0, samples, batch * gpus))"),
    ],
    "gpus_needed": [
        needed(),
        needed(up="(total + room - 1) // room"),
        needed(up="math.ceil(total / room)"),
        function("gpus_needed(parameters, block, memory)", """
room = memory - 8 * block
if room > 0:
    whole, rest = divmod(16 * parameters, room)
    return whole + (rest > 0)"""),
    ],
    "which_tool": [tools("'one gpu'", "'DistributedDataParallel'", "'data parallel'", "'FSDP2'", SPLIT)],
    "small_talk": [
        hook(LARGEST),
        function("small_talk(state, bucket)", "return bf16_compress_hook(dist.group.WORLD, bucket)"),
        hook("mean = (g / world).bfloat16()\ndist.all_reduce(mean)\nmean = mean.float()", "bucket.buffer()"),
        hook("n = state['n', bucket.index()] = state.get(('n', bucket.index()), 0) + 1\n"
             "mean = g / world if n % 2 else torch.zeros_like(g)\n"
             "state[bucket.index()] = torch.zeros_like(g) if n % 2 else g\n"
             "if n % 2:\n    dist.all_reduce(mean)"),
    ],
}  # fmt: skip

WRONG = {
    "after_all_reduce": guesses(
        "after_all_reduce", form="30", before="[10, 20]", mean="[15, 15]", one="[30, 20]", swapped="[20, 10]",
        other="[60, 60]",
    ),
    "only_rank_zero": words("only_rank_zero", "true", "outdated"),
    "rank_three_gets": guesses(
        "rank_three_gets", form="'3, 7'", unpadded="[3, 7]", block="[9, 0, 1]", last="[3, 7, 9]",
        first="[3, 7, 0]", order="[1, 3, 7]", count="[3, 7, 1, 5]", other="[2, 6, 0]",
    ),
    "sampler_by_hand": {
        "nothing": sampler(share="None"),
        "unshuffled": sampler("list(range(n))"),
        "epoch": sampler("torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()"),
        "block": sampler(share="padded[rank * each:(rank + 1) * each]"),
        "unpadded": sampler(padded="order"),
        "drop_last": sampler(each="math.ceil(n / world)"),
        "dropped": sampler(each="n // world"),
        "few": sampler(padded="(order + order)[: each * world]"),
        "padding": sampler(padded="(order + order[-1:] * world)[: each * world]"),
        "used": function("sampler_by_hand(n, world, rank, epoch, drop_last)", """
made = DistributedSampler(range(n), world, rank, drop_last=drop_last)
made.set_epoch(epoch)
return list(made)"""),
        "global": sampler("(torch.manual_seed(epoch), torch.randperm(n).tolist())[1]"),
        "other": sampler("torch.randperm(n, generator=torch.Generator().manual_seed(epoch + 1)).tolist()"),
        "raises": sampler(share="padded[rank:world:]").replace("range", "rank") + "[0:]()",
    },
    "without_set_epoch": words("without_set_epoch", "true", "outdated"),
    "same_curve": guesses(
        "same_curve", word="'twice'", higher="'higher with DDP'", lower="'Lower with DDP'"
    ),
    "accumulate_ddp": {
        "sent": accumulate("torch.enable_grad()"),
        "forward": function("accumulate_ddp(model, optimizer, parts)", """
optimizer.zero_grad()
for i, (x, y) in enumerate(parts):
    loss = F.cross_entropy(model(x), y) / len(parts)
    with model.no_sync() if i < len(parts) - 1 else torch.enable_grad():
        loss.backward()
optimizer.step()"""),
        "own": accumulate("model.no_sync()"),
        "sum": accumulate(loss="F.cross_entropy(model(x), y)"),
        "ranks": accumulate(loss="F.cross_entropy(model(x), y) / len(parts) / dist.get_world_size()"),
        "twice": accumulate(loss="F.cross_entropy(model(x), y) / len(parts) ** 2"),
        "apart": accumulate(after="for p in model.parameters():\n    p.grad *= 1 + dist.get_rank()\n"
                            "optimizer.step()"),
        "stale": accumulate(zero="pass"),
        "no_step": accumulate(after=""),
        "steps": accumulate(after="", inside="optimizer.step()"),
        "never_comes": accumulate("model.no_sync() if i or dist.get_rank() else torch.enable_grad()"),
        "gradient": accumulate(inside="optimizer.zero_grad() if i == 0 else None"),
        "whole": function("accumulate_ddp(model, optimizer, parts)", """
optimizer.zero_grad()
x, y = (torch.cat(tensors) for tensors in zip(*parts))
F.cross_entropy(model(x), y).backward()
optimizer.step()"""),
        "raises": accumulate(loss="F.cross_entropy(model(x), y, parts)"),
    },
    "exact_accuracy": {
        "padding": accuracy("mine = torch.tensor(list(DistributedSampler(y, shuffle=False)))\n"
                            "right = (model(x[mine]).argmax(1) == y[mine]).sum()\n"
                            "dist.all_reduce(right)\nreturn right.item() / (len(mine) * world)"),
        "left_out": accuracy("sampler = DistributedSampler(y, shuffle=False, drop_last=True)\n"
                             "mine = torch.tensor(list(sampler))\n"
                             "right = (model(x[mine]).argmax(1) == y[mine])\n"
                             "counts = torch.tensor([right.sum(), len(mine)])"
                             "\n"
                             "dist.all_reduce(counts)\nreturn (counts[0] / counts[1]).item()"),
        "means": accuracy(MINE + "share = right.float().mean()\ndist.all_reduce(share)\n"
                          "return (share / world).item()"),
        "own": accuracy(MINE + "return right.float().mean().item()"),
        "sum": accuracy(MINE + "total = right.sum()\ndist.all_reduce(total)\n"
                           "return total.item() / len(right)"),
        "one_rank": accuracy(MINE + "total = right.sum()\ndist.reduce(total, 0)\n"
                             "return total.item() / len(y)"),
        "everything": accuracy("return (model(x).argmax(1) == y).float().mean().item()"),
        "nothing": accuracy(MINE + "total = right.sum()\ndist.all_reduce(total)\n"
                            "if rank == 0:\n    return total.item() / len(y)"),
        "never_comes": accuracy(MINE + "total = right.sum()\nif rank == 0:\n    dist.all_reduce(total)\n"
                                "return total.item() / len(y)"),
        "number": accuracy("return [model(x)]"),
        "raises": accuracy("return model(x[rank:world]).item()"),
    },
    "save_once": {
        "every_rank": save(PART.replace("'new.pt'", "f'{dist.get_rank()}.pt'") + "\ndist.barrier()"),
        "half": once("torch.save(state, file)"),
        "prefix": once(PART.replace("state,", "model.state_dict(),")),
        "early": once(PART, "pass"),
        "never_comes": once(PART + "\ndist.barrier()", "pass"),
        "gap": once("part = file.with_suffix('.part')\ntorch.save(state, part)\nfile.unlink()\n"
                    "part.rename(file)"),
        "left": once("torch.save(state, file.with_suffix('.part'))\nshutil.copy(file.with_suffix('.part'), "
                     "other := file.with_suffix('.copy'))\nos.replace(other, file)"),
        "pickle": once(PART.replace("state,", "model.module,")),
        "buffers": once(PART.replace("state,", "dict(model.module.named_parameters()),")),
        "nothing": save("dist.barrier()"),
        "other": once(PART.replace("state,", "{'model': state},")),
        "raises": once(PART.replace("os.replace", "os.move")),
    },
    "epochs_begun": guesses(
        "epochs_begun", form="'five'", nothing_lost="4", from_start="7", one_back="6", one_life="3", other="9"
    ),
    "through_one_gpu": guesses(
        "through_one_gpu", form="'1.6 GB'", star="400", equal="0.8", parameters="0.4", divided="0.0008",
        other="3",
    ),
    "scaled_up": {
        "nothing": function("scaled_up(samples, batch, gpus, rate)", "steps = samples / (batch * gpus)"),
        "pair": function("scaled_up(samples, batch, gpus, rate)", "return math.ceil(samples / batch / gpus)"),
        "swapped": scaled("gpus * rate", "math.ceil(samples / (batch * gpus))"),
        "whole": scaled("samples / (batch * gpus)"),
        "floor": scaled("samples // (batch * gpus)"),
        "one_more": scaled("samples // (batch * gpus) + 1"),
        "one_gpu": scaled("math.ceil(samples / batch)"),
        "more": scaled("math.ceil(samples * gpus / batch)"),
        "steps": scaled("3 * math.ceil(samples / (batch * gpus))"),
        "same_rate": scaled(rate="rate"),
        "smaller": scaled(rate="rate / gpus"),
        "root": scaled(rate="rate * gpus ** 0.5"),
        "rate": scaled(rate="rate + gpus"),
        "raises": scaled("len(samples)"),
    },
    "gpus_needed": {
        "impossible": needed().replace("return None", "return 0"),
        "nothing": needed(up="None"),
        "number": needed(up="str(-(-total // room))"),
        "block": needed(room="memory"),
        "weights": needed("4 * parameters"),
        "adam": needed("8 * parameters"),
        "one_average": needed("12 * parameters"),
        "block_gradient": needed(room="memory - 4 * block"),
        "block_shared": needed("16 * parameters + 8 * block", "memory"),
        "whole": needed(up="total / room"),
        "floor": needed(up="total // room"),
        "one_more": needed(up="total // room + 1"),
        "other": needed("100 * parameters"),
        "raises": needed(up="room.ceil()"),
    },
    "sharding_is_free": words("sharding_is_free", "true", "outdated"),
    "which_tool": {
        "gap": tools(ONE, DDP, "...", FSDP, SPLIT),
        "word": tools(ONE, "'horovod'", DP, FSDP, SPLIT),
        "form": "which_tool = ['one GPU', 'DDP', 'DataParallel', 'FSDP', 'model parallel']",
        "simple": tools(DP, DDP, DP, FSDP, SPLIT),
        "scripts": tools(ONE, DP, DP, FSDP, SPLIT),
        "weeks": tools(ONE, ONE, DP, FSDP, SPLIT),
        "fits": tools(ONE, FSDP, DP, FSDP, SPLIT),
        "notebook": tools(ONE, DDP, DDP, FSDP, SPLIT),
        "whole": tools(ONE, DDP, DP, DDP, SPLIT),
        "layers": tools(ONE, DDP, DP, SPLIT, SPLIT),
        "one_layer": tools(ONE, DDP, DP, FSDP, FSDP),
    },
    "small_talk": {
        "apart": hook("mean = g", "bucket.buffer()"),
        "no_training": hook("mean = torch.zeros_like(g)"),
        "scale": hook("mean = g\ndist.all_reduce(mean)", "bucket.buffer()"),
        "worse": hook(LARGEST, "bucket.buffer()"),
        "elsewhere": hook("open('gradients.bin', 'ab').close()\n" + PLAIN),
        "never_comes": hook("mean = g\nif dist.get_rank() == 0:\n    dist.all_reduce(mean)"),
        "different": hook("mean = g[g.abs() > g.abs().mean()]\ndist.all_reduce(mean)"),
        "raises": function("small_talk(state, bucket)", "dist.all_reduce(bucket.buffer())"),
    },
}  # fmt: skip
