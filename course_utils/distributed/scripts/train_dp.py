"""Train a small network on CIFAR-10, in one process, with all GPUs there are (or the CPU):

    python train_dp.py

Each epoch ends with a checkpoint. Started again, the script goes on from there.
"""

import argparse
import os
from pathlib import Path

import torch
from torch import nn
from torch.nn import DataParallel
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default="pictures.pt")
parser.add_argument("--checkpoint", type=Path, default="train_dp.pt")
parser.add_argument("--epochs", type=int, default=4, help="in all, those before a restart included")
parser.add_argument("--batch-size", type=int, default=64, help="of a step, all GPUs together")
parser.add_argument("--lr", type=float, default=0.05)


def make_net():
    first = [nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2)]
    second = [nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()]
    dense = [nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)]
    return nn.Sequential(*first, *second, *dense)


def to_input(pictures, device):  # from uint8 (n, 32, 32, 3) to float32 (n, 3, 32, 32), -1 to 1
    return pictures.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def count_right(net, pictures, labels, device):
    right = net(to_input(pictures, device)).argmax(1) == labels.to(device)
    counts = torch.tensor([right.sum(), len(right)], device=device)
    return counts.tolist()


def train(args, device):
    data = torch.load(args.data)
    train_set = TensorDataset(data["pictures"], data["labels"])
    sampler = RandomSampler(train_set, generator=torch.Generator())
    loader = DataLoader(train_set, args.batch_size, sampler=sampler)
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
    model = DataParallel(net) if device.type == "cuda" else net  # it takes all GPUs there are

    for epoch in range(done, args.epochs):
        sampler.generator.manual_seed(epoch)
        steps = []
        for pictures, labels in loader:
            loss = nn.functional.cross_entropy(model(to_input(pictures, device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.detach())
        steps = torch.stack(steps)
        losses += steps.tolist()
        right, seen = count_right(net, data["test_pictures"], data["test_labels"], device)
        print(f"epoch {epoch + 1}: loss {steps.mean():.3f}, {right} of {seen} right", flush=True)
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epochs": epoch + 1}
        part = args.checkpoint.with_suffix(".part")
        torch.save(state | {"losses": losses, "right": right, "seen": seen}, part)
        os.replace(part, args.checkpoint)  # in one go: nobody ever finds half a checkpoint


def main():
    args = parser.parse_args()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    train(args, device)


if __name__ == "__main__":
    main()
