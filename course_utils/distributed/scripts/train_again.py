"""Go on with a training that was saved, with one process per GPU."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def make_net():
    return nn.Sequential(nn.Linear(256, 2048), nn.ReLU(), nn.Linear(2048, 10))


def main():
    dist.init_process_group("nccl")
    rank = dist.get_rank()
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.manual_seed(rank)
    net = make_net().cuda()
    if rank == 0:
        torch.save(net.state_dict(), "last.pt")  # as an earlier run would have done
    dist.barrier()
    net.load_state_dict(torch.load("last.pt"))
    net = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        x, y = torch.rand(64, 256).cuda(), torch.randint(10, (64,)).cuda()
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"three steps further, loss {loss.item():.1f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
