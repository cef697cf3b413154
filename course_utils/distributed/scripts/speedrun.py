"""CIFAR-10 at full speed: python speedrun.py pictures.pt --recipe cpu-2-minutes --seeds 5"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

RECIPES = {  # the peak of the learning rate and the weight decay are for the mean loss of a batch
    "gpu": dict(widths=(64, 256, 256), epochs=16, batch=1024, lr=1.5, decay=1.3e-3, smooth=0.2),
    "cpu-5-minutes": dict(widths=(32, 128, 128), epochs=8, batch=256, lr=0.375, decay=5e-4),
    "cpu-2-minutes": dict(widths=(16, 64, 128), epochs=7, batch=256, lr=0.375, decay=5e-4),
}


def load(path):
    """Return pictures (n, 32, 32, 3) as uint8 and labels (n,), and the same two for the test."""
    if not Path(path).exists():
        from torchvision.datasets import CIFAR10

        sets = [CIFAR10("data", train, download=True) for train in (True, False)]
        return [torch.as_tensor(part) for data in sets for part in (data.data, data.targets)]
    saved = torch.load(path)
    return [saved[name] for name in ("pictures", "labels", "test_pictures", "test_labels")]


def gather(pictures, rows, shift, flip):
    """Fetch pictures `rows` (n,), shifted by `shift` (n, 2) pixels, mirrored where `flip` (n, 1) is True."""
    place = torch.arange(32, device=pictures.device)
    y = (place + shift[:, :1]).clamp(0, 31)  # (n, 32): each new row's old row
    x = (place + shift[:, 1:]).clamp(0, 31)
    x = torch.where(flip, x.flip(1), x)
    return pictures[rows[:, None, None], y[:, :, None], x[:, None, :]]


def numbers(pictures):
    """Turn uint8 (n, 32, 32, 3) into float32 (n, 3, 32, 32) around 0, with spread 1, in channels_last."""
    return pictures.float().sub_(121).div_(64).permute(0, 3, 1, 2)


def batches(pictures, labels, size, flip):
    """Yield each picture once, in random order, shifted, mirrored where `flip` (n, 1) is True."""
    for rows in torch.randperm(len(labels), device=labels.device).split(size):
        shift = torch.randint(-2, 3, (len(rows), 2), device=labels.device)
        yield numbers(gather(pictures, rows, shift, flip[rows])), labels[rows]


def whitening(batch, least=5e-4):
    """Make a fixed layer: 12 filters that make of 2 x 2 pixels uncorrelated numbers, and their opposites."""
    patches = functional.unfold(batch, 2).transpose(1, 2).flatten(0, 1)  # (all patches, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances + least).sqrt()).T.reshape(12, 3, 2, 2)
    conv = nn.Conv2d(3, 24, 2, bias=False).requires_grad_(False)
    conv.weight.copy_(torch.cat([filters, -filters]))
    return conv


def layer(inputs, outputs, *between):
    """Make a convolution that begins as a copy (dirac), and a BatchNorm whose scale stays 1."""
    conv, norm = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
    nn.init.dirac_(conv.weight.data[:inputs])
    norm.weight.requires_grad_(False)
    return nn.Sequential(conv, *between, norm, nn.GELU())


def make_net(widths, first):
    """Make the network: `first`, two layers of each width, one of which halves the picture."""
    layers = [first, nn.GELU()]
    for inputs, width in zip((first.out_channels, *widths), widths, strict=False):
        layers += [layer(inputs, width, nn.MaxPool2d(2)), layer(width, width)]
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(width, 10, bias=False))


def autocast(device):
    """Return the context in which the device computes with 16-bit numbers, where that is fast."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    can = torch.cpu.get_capabilities() if wide else {}
    fast = device.type == "cuda" or can.get("avx512_bf16") or can.get("amx_bf16")
    return torch.autocast(device.type, enabled=bool(fast))  # float16 on a GPU, bfloat16 on a CPU


def triangle(step, steps, peak=0.23):
    """Return the share of the learning rate: from 0.2 up to 1 at `peak` of the steps, then down to 0."""
    return min(0.2 + 0.8 * step / (peak * steps), (steps - step) / ((1 - peak) * steps))


def train(pictures, labels, widths, epochs, batch, lr, decay, smooth=0.1):
    """Return a network trained on pictures on the device; nothing in the loop waits for it."""
    model = make_net(widths, whitening(numbers(pictures[:2000])))
    model.to(labels.device, memory_format=torch.channels_last)
    lr, decay = lr / batch, decay * batch  # a batch's losses are summed: this suits float16
    weights = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    biases = [p for p in model.parameters() if p.requires_grad and p.dim() == 1]
    optimizer = torch.optim.SGD(weights, lr, momentum=0.85, nesterov=True, weight_decay=decay)
    optimizer.add_param_group({"params": biases, "lr": 64 * lr, "weight_decay": decay / 64})
    steps = epochs * len(labels.split(batch))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: triangle(step, steps))
    criterion = nn.CrossEntropyLoss(label_smoothing=smooth, reduction="sum")
    flip = torch.rand(len(labels), 1, device=labels.device) < 0.5
    for _ in range(epochs):
        for inputs, targets in batches(pictures, labels, batch, flip):
            optimizer.zero_grad()
            with autocast(labels.device):
                logits = model(inputs).float() / 9
            criterion(logits, targets).backward()
            optimizer.step()
            schedule.step()
        flip = ~flip  # alternating: a picture is mirrored in every second epoch
    return model


def predict(model, pictures):
    """Return each picture's class by the sum of the logits for it and for its mirror image."""
    model.eval()
    with torch.inference_mode(), autocast(pictures.device):
        parts = map(numbers, pictures.split(1000))
        return torch.cat([(model(part) + model(part.flip(3))).argmax(1) for part in parts])


def speedrun(data, device, recipe, seed):
    """Train, test once, and return (test accuracy, seconds)."""
    # the clock runs from the pictures in memory (uint8) to the last prediction
    torch.manual_seed(seed)
    start = time.perf_counter()
    pictures, labels, test_pictures, test_labels = (part.to(device) for part in data)
    right = predict(train(pictures, labels, **recipe), test_pictures) == test_labels
    return right.float().mean().item(), time.perf_counter() - start  # .item() waits for the device


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", nargs="?", default="pictures.pt", help="downloaded where there is none")
    parser.add_argument("--recipe", choices=RECIPES, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    try:
        data = load(args.pictures)
    except Exception as error:
        raise SystemExit(f"{args.pictures}: damaged, or missing and not downloaded: {error!r:.90}") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # on a GPU: the first run tries which kernels are fastest
    results = []
    for seed in range(-1 if device.type == "cuda" else 0, args.seeds):  # -1: a GPU's warm-up
        results.append(speedrun(data, device, RECIPES[args.recipe], seed))
        print("seed {}: accuracy {:.2%} in {:.1f} s".format(seed, *results[-1]), flush=True)
    if args.seeds > 1:
        spread, mean = torch.std_mean(torch.tensor(results[-args.seeds :]), 0)
        print("mean accuracy {:.2%} in {:.1f} s, spread {:.2%} and {:.1f} s".format(*mean, *spread))
