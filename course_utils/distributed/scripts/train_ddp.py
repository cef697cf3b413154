"""Train a small network on CIFAR-10, with one process per GPU (or two on a CPU):

    torchrun --standalone --nproc-per-node 2 train_ddp.py

Each epoch ends with a checkpoint. Started again, the script goes on from there.
"""

import argparse
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default="pictures.pt")
parser.add_argument("--checkpoint", type=Path, default="train_ddp.pt")
parser.add_argument("--epochs", type=int, default=4, help="in all, those before a restart included")
parser.add_argument("--batch-size", type=int, default=64, help="of a step, all processes together")
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--timeout", type=float, default=60, help="seconds that a process waits for the others")


def make_net():
    first = [nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2)]
    second = [nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()]
    dense = [nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)]
    return nn.Sequential(*first, *second, *dense)


def to_input(pictures, device):  # from uint8 (n, 32, 32, 3) to float32 (n, 3, 32, 32), -1 to 1
    return pictures.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def count_right(net, pictures, labels, device):
    mine = slice(dist.get_rank(), None, dist.get_world_size())  # each picture has one process
    right = net(to_input(pictures[mine], device)).argmax(1) == labels[mine].to(device)
    counts = torch.tensor([right.sum(), len(right)], device=device)
    dist.all_reduce(counts)  # sums, not means: exact where the shares differ, too
    return counts.tolist()


def check_agreement(**mine):
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    dist.barrier()  # nobody leaves while another one still reads
    for rank, theirs in enumerate(everyone):
        if theirs != everyone[0]:
            both = f"rank 0 has {everyone[0]}, rank {rank} has {theirs}"
            raise RuntimeError(f"The processes differ: {both}.")


def train(args, device, rank, world):
    data = torch.load(args.data)
    train_set = TensorDataset(data["pictures"], data["labels"])
    sampler = DistributedSampler(train_set)
    loader = DataLoader(train_set, args.batch_size // world, sampler=sampler)
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False  # full float32, so that losses can be compared
    net = make_net().to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9)
    done, losses = 0, []
    if args.checkpoint.exists():
        saved = torch.load(args.checkpoint, map_location=device)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        done, losses = saved["epochs"], saved["losses"]
    check_agreement(torch=torch.__version__, epochs=done)
    print(f"rank {rank} of {world} on {device}: {len(sampler)} pictures, {done} epochs done", flush=True)
    model = DistributedDataParallel(net)  # from here on, backward averages the gradients of all

    for epoch in range(done, args.epochs):
        sampler.set_epoch(epoch)
        steps = []
        for pictures, labels in loader:
            loss = nn.functional.cross_entropy(model(to_input(pictures, device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.detach())
        steps = torch.stack(steps) / world
        dist.all_reduce(steps)
        losses += steps.tolist()
        right, seen = count_right(net, data["test_pictures"], data["test_labels"], device)
        if rank != 0:
            continue  # one voice and one file are enough
        print(f"epoch {epoch + 1}: loss {steps.mean():.3f}, {right} of {seen} right", flush=True)
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epochs": epoch + 1}
        part = args.checkpoint.with_suffix(".part")
        torch.save(state | {"losses": losses, "right": right, "seen": seen}, part)
        os.replace(part, args.checkpoint)  # in one go: nobody ever finds half a checkpoint


@record  # lets torchrun report the error itself
def main():
    args = parser.parse_args()
    if "LOCAL_RANK" not in os.environ:
        parser.error("start it with: torchrun --standalone --nproc-per-node 2 train_ddp.py")
    enough = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    gpus = enough and dist.is_nccl_available()
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if gpus else "cpu")
    if gpus:
        torch.cuda.set_device(device)
    wait = timedelta(seconds=args.timeout)
    dist.init_process_group("nccl" if gpus else "gloo", timeout=wait, device_id=device if gpus else None)
    train(args, device, dist.get_rank(), dist.get_world_size())
    dist.barrier()  # all are done
    dist.destroy_process_group()  # not after an error: the others are not here then
    sys.stdout.flush()
    os._exit(0)  # at once: while Python tidies up, a thread of gloo that still holds a tensor would abort


if __name__ == "__main__":
    main()
