"""Train a network on small pictures, and validate it after each epoch."""

import torch
from torch import nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_net():
    first = [nn.Linear(784, 512), nn.BatchNorm1d(512), nn.GELU()]
    second = [nn.Linear(512, 512), nn.BatchNorm1d(512), nn.GELU()]
    return nn.Sequential(*first, *second, nn.Linear(512, 10))


def batches(count):
    """Yield batches of pictures and labels; random ones stand for a data set."""
    for _ in range(count):
        yield torch.rand(512, 784).to(device), torch.randint(10, (512,)).to(device)


def train(net, optimizer):
    net.train()
    for pictures, labels in batches(5):
        loss = nn.functional.cross_entropy(net(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def validate(net):
    """Return the mean loss."""
    net.eval()
    losses = []
    for pictures, labels in batches(50):
        losses.append(nn.functional.cross_entropy(net(pictures), labels))
    return sum(losses) / len(losses)


def main():
    torch.manual_seed(0)
    net = make_net().to(device)
    optimizer = torch.optim.Adam(net.parameters())
    for epoch in range(2):
        train(net, optimizer)
        print(f"epoch {epoch + 1}: trained", flush=True)
        print(f"epoch {epoch + 1}: validated, loss {validate(net):.1f}", flush=True)


if __name__ == "__main__":
    main()
