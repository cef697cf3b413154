"""Answers to the exercises of lesson 04."""

from course_utils.exercises import lesson_04

CONTEXT = """
import torch
from torch import nn
from course_utils.lesson_code import lesson_code

device = torch.device("cuda:0")
gather = lesson_code("04_cifar_training_loop", ["gather"], device=device)["gather"]


def rows_of_25():
    pool, conv = nn.MaxPool2d(2, 2), nn.Conv2d(3, 6, 5)
    return len(nn.Linear(150, 10)(pool(torch.relu(conv(torch.rand(25, 3, 32, 32)))).view(-1, 150)))


def untrained_loss():
    torch.manual_seed(0)
    logits = nn.Linear(5, 10)(torch.rand(99, 5))
    return round(nn.functional.cross_entropy(logits, torch.arange(99) % 10).item(), 2)
"""

ACTUAL = {
    "rows_out": "rows_of_25()",
    "first_loss": "untrained_loss()",
    "set_size": "round(torch.empty(50_000, 32, 32, 3, dtype=torch.uint8).nbytes / 2**20)",
}


def _guesses(name: str, **values: object) -> dict[str, str]:
    return {key: f"exercise.{name}.guess({value!r})" for key, value in values.items()}


def _card(name: str) -> dict[str, str]:
    return {word: f'{name} = "{word}"' for word in ("true", "outdated")} | {"word": f"{name} = 'sometimes'"}


def _changed(answer: str, *pairs: str) -> str:
    """Replace parts of an answer; every part has to be there."""
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in answer, old
        answer = answer.replace(old, new)
    return answer


NET, MEAN, RESUME, EPOCH = (
    getattr(lesson_04, name).worked for name in ("OneConv", "mean_loss", "resume", "faster_epoch")
)
RELU, FLATTEN = "nn.functional.relu(self.conv1(x))", "torch.flatten(x, 1)"
OLD_SIZE, RIGHT_SIZE = "8 * 6 * 6", "8 * 15 * 15"
DIVIDE = "return loss_sum.item() / samples"

RIGHT = {
    "OneConv": [
        "import torch.nn.functional as F\n"
        + _changed(NET, RELU, "F.relu(self.conv1(x))", FLATTEN, "x.reshape(x.shape[0], -1)"),
        _changed(NET, RELU, "self.conv1(x).clamp(min=0)", "nn.Linear(8 * 15 * 15, 10)", "nn.LazyLinear(10)"),
        """
class OneConv(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1800, 10))
""",
    ],
    "mean_loss": [
        """
def mean_loss(model, batches, criterion, device):
    losses, sizes = [], []
    for x, y in batches:
        with torch.no_grad():
            losses.append(criterion(model(x.to(device)), y.to(device)))
        sizes.append(len(y))
    weights = torch.tensor(sizes, device=device) / sum(sizes)
    return (torch.stack(losses) * weights).sum()
""",
        """
def mean_loss(model, batches, criterion, device):
    with torch.no_grad():
        outputs = [(model(x.to(device)), y.to(device)) for x, y in batches]
        return criterion(torch.cat([o for o, _ in outputs]), torch.cat([y for _, y in outputs])).item()
""",
    ],
    "resume": [
        """
from pathlib import Path

def save_run(file, model, optimizer, schedule, shuffler):
    part = Path(file).with_suffix(".part")
    torch.save([model.state_dict(), optimizer.state_dict(), schedule.state_dict(),
                torch.random.get_rng_state(), shuffler.get_state()], part)
    part.replace(file)

def load_run(file, model, optimizer, schedule, shuffler):
    with open(file, "rb") as stream:
        *states, rng, order = torch.load(stream)
    for thing, state in zip((model, optimizer, schedule), states):
        thing.load_state_dict(state)
    shuffler.set_state(order)
    torch.random.set_rng_state(rng)
""",
    ],
    "faster_epoch": [
        """
def faster_epoch(model, pictures, labels, criterion, optimizer):
    model.train()
    n, loss_sum, right = len(labels), 0.0, 0
    order = torch.randperm(n).to(pictures.device)
    padded = nn.functional.pad(pictures.permute(0, 3, 1, 2).float() / 64 - 2, (2, 2, 2, 2), mode="replicate")
    for rows in order.split(64):
        corners = torch.randint(5, (len(rows), 2)).tolist()
        x = torch.stack([padded[r, :, a:a + 32, b:b + 32] for r, (a, b) in zip(rows, corners)])
        flip = (torch.rand(len(rows)) < 0.5).to(x.device)
        x = torch.where(flip[:, None, None, None], x.flip(3), x)
        logits = model(x)
        loss = criterion(logits, labels[rows])
        for p in model.parameters():
            p.grad = None
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(rows)
        right += (logits.argmax(1) == labels[rows]).sum().item()
    return loss_sum / n, right / n
""",
        _changed(
            EPOCH,
            "loss = criterion(model(batch), labels[order[part]])",
            "with torch.autocast(device.type, dtype=torch.bfloat16):\n"
            "            loss = criterion(model(batch), labels[order[part]])",
        ),
    ],
}

WRONG = {
    "big_data": _card("big_data"),
    "pinned": _card("pinned"),
    "loader_mean": _card("loader_mean"),
    "rows_out": _guesses("rows_out", same=25, width=150, error="an error", other=4),
    "first_loss": _guesses(
        "first_loss", zero=0, probability=0.1, log10=1, sign=-2.3, other=10, number="high"
    ),
    "set_size": _guesses(
        "set_size", float32=586, float64=1172, colours=49, megabytes=153.6, other=3, number="much"
    ),
    "OneConv": {
        "name": _changed(NET, RELU, "F.relu(self.conv1(x))"),
        "rows": _changed(NET, RIGHT_SIZE, OLD_SIZE, FLATTEN, "x.view(-1, 8 * 6 * 6)"),
        "size": _changed(NET, RIGHT_SIZE, OLD_SIZE),
        "flat": _changed(NET, FLATTEN, "torch.flatten(x)"),
        "fixed": _changed(NET, FLATTEN, "x.view(64, -1)"),
        "still": _changed(NET, FLATTEN, "x.view(-1, 8 * 14 * 14)", RIGHT_SIZE, "8 * 14 * 14"),
        "view": _changed(NET, FLATTEN, "x.view(-1, 8 * 15 * 15)"),
        "shape": _changed(NET, "self.fc1(x)", "self.fc1(x).argmax(1)"),
        "softmax": _changed(NET, "self.fc1(x)", "self.fc1(x).softmax(1)"),
        "relu": _changed(NET, RELU, "self.conv1(x)"),
        "pool": _changed(NET, "MaxPool2d(2, 2)", "MaxPool2d(5, 5)", RIGHT_SIZE, OLD_SIZE),
        "layers": _changed(
            NET,
            RIGHT_SIZE,
            "16 * 6 * 6",
            RELU,
            "nn.functional.relu(self.conv1(x))",
            "self.pool =",
            "self.conv2 = nn.Conv2d(8, 16, 3)\n        self.pool =",
            "x = torch.flatten",
            "x = self.pool(torch.relu(self.conv2(x)))\n        x = torch.flatten",
        ),
        "mixed": _changed(NET, FLATTEN, "x.permute(1, 2, 3, 0).reshape(len(x), -1)"),
        "raises": _changed(NET, "super().__init__()", "super()"),
    },
    "mean_loss": {
        "means": _changed(MEAN, "* len(y)", "", DIVIDE, "return loss_sum.item() / len(batches)"),
        "dataset": _changed(MEAN, "* len(y)", ""),
        "sum": _changed(MEAN, DIVIDE, "return loss_sum.item()"),
        "batch_size": _changed(MEAN, "* len(y)", "* batches.batch_size"),
        "drop_last": _changed(MEAN, DIVIDE, "return loss_sum.item() / len(batches.dataset)"),
        "batches": _changed(MEAN, DIVIDE, "return loss_sum.item() / len(batches)"),
        "first": _changed(MEAN, DIVIDE, "    " + DIVIDE),
        "last": _changed(MEAN, DIVIDE, "return loss.item()"),
        "train": _changed(MEAN, "    for x, y", "    model.train()\n    for x, y"),
        "graph": _changed(MEAN, "@torch.inference_mode()\n", "", ".item()", ""),
        "number": _changed(MEAN, DIVIDE, "return f'{loss_sum.item() / samples}'"),
        "nothing": _changed(MEAN, DIVIDE, "print(loss_sum.item() / samples)"),
        "criterion": _changed(MEAN, "loss = criterion(", "loss = nn.functional.cross_entropy("),
        "other": _changed(MEAN, DIVIDE, "return 2 * loss_sum.item() / samples"),
        "raises": _changed(MEAN, "x.to(device)", "x"),
    },
    "resume": {
        "model": _changed(RESUME, 'model.load_state_dict(state["model"])', "pass"),
        "buffers": _changed(
            RESUME,
            'model.load_state_dict(state["model"])',
            "for name, parameter in model.named_parameters():\n"
            "        parameter.data.copy_(state['model'][name])",
        ),
        "optimizer": _changed(RESUME, 'optimizer.load_state_dict(state["optimizer"])', "pass"),
        "schedule": _changed(RESUME, 'schedule.load_state_dict(state["schedule"])', "pass"),
        "shuffler": _changed(RESUME, 'shuffler.set_state(state["shuffler"])', "pass"),
        "rng": _changed(RESUME, 'torch.set_rng_state(state["rng"])', "pass"),
        "seed": _changed(
            RESUME,
            "torch.get_rng_state()",
            "torch.initial_seed()",
            "torch.set_rng_state",
            "torch.manual_seed",
        ),
        "pickle": _changed(RESUME, "part.state_dict()", "part"),
        "no_file": _changed(RESUME, ", file)", ", str(file) + '.zip')"),
        "map_location": _changed(RESUME, 'map_location="cpu"', "map_location=device"),
        "disturbs": _changed(RESUME, "    parts = {", "    torch.manual_seed(0)\n    parts = {"),
        "other": _changed(
            RESUME,
            'model.load_state_dict(state["model"])',
            'model.load_state_dict(state["model"])\n    model[3].p = 0.1',
        ),
        "raises": RESUME
        + "\n\ndef load_run(file, model, optimizer, schedule, shuffler):\n    model.resume()",
    },
    "faster_epoch": {
        "count": _changed(EPOCH, "range(0, samples,", "range(0, samples - batch_size,"),
        "repeats": _changed(EPOCH, "torch.randperm(samples)", "torch.randint(samples, (samples,))"),
        "labels": _changed(EPOCH, "labels[order[part]]", "labels[part]"),
        "order": _changed(EPOCH, "torch.randperm(samples)", "torch.arange(samples)"),
        "again": _changed(EPOCH, "    order =", "    torch.manual_seed(0)\n    order ="),
        "mirror": _changed(EPOCH, "torch.rand(samples, 1) < 0.5", "torch.zeros(samples, 1) > 0"),
        "shift": _changed(EPOCH, "torch.randint(-2, 3, (samples, 2))", "torch.zeros(samples, 2).long()"),
        "range": _changed(EPOCH, ".sub_(127).div_(64)", ""),
        "zero_grad": _changed(EPOCH, "optimizer.zero_grad()\n", "\n"),
        "untrained": _changed(EPOCH, "        optimizer.step()\n", ""),
        "frozen": _changed(EPOCH, "model.train()", "model.net[0].requires_grad_(False)\n    model.train()"),
        "mean": _changed(EPOCH, "* len(batch)", "* batch_size"),
        "steps": _changed(EPOCH, "batch_size=128", "batch_size=640"),
        "learns": _changed(
            EPOCH, "model.train()", "optimizer.param_groups[0]['lr'] = 1e-5\n    model.train()"
        ),
        "raises": _changed(EPOCH, ".permute(0, 3, 1, 2)", ""),
    },
}
