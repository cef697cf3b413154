"""Answers to the exercises of lesson 04."""

CONTEXT = """
from lesson_code import lesson_code

gather = lesson_code("04_cifar_training_loop", ["gather"], device=device)["gather"]
"""

RIGHT = {
    "OneConv": [
        """
import torch.nn.functional as F
class OneConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(8 * 15 * 15, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = x.reshape(x.shape[0], -1)
        return self.fc1(x)
""",
        """
class OneConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.LazyLinear(10)

    def forward(self, x):
        x = self.pool(self.conv1(x).clamp(min=0))
        x = torch.flatten(x, 1)
        return self.fc1(x)
""",
        """
class OneConv(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1800, 10))
""",
        """
class OneConv(nn.Module):
    def __init__(self):
        super().__init__()
        last = nn.Linear(8 * 15 ** 2, 10)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), last)
    def forward(self, x):
        return self.body(x)
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
        """
def mean_loss(model, batches, criterion, device):
    with torch.no_grad():
        pairs = [(criterion(model(x.to(device)), y.to(device)).item(), len(y)) for x, y in batches]
    return sum(a * b for a, b in pairs) / sum(b for _, b in pairs)
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
        """
def faster_epoch(model, pictures, labels, criterion, optimizer, batch_size=128):
    model.train().to(memory_format=torch.channels_last)
    device, samples, loss_sum = pictures.device, len(labels), 0.0
    order = torch.randperm(samples).to(device)
    shift = torch.randint(-2, 3, (samples, 2)).to(device)
    flip = (torch.rand(samples, 1) < 0.5).to(device)
    for start in range(0, samples, batch_size):
        part = slice(start, start + batch_size)
        batch = gather(pictures, order[part], shift[part], flip[part])
        batch = batch.float().sub_(127).div_(64).permute(0, 3, 1, 2)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = criterion(model(batch), labels[order[part]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(batch)
    return loss_sum.item() / samples
""",
    ],
}

WRONG = {
    "rows_out": [
        ("other", "exercise.rows_out.guess(4)"),
    ],
    "first_loss": [
        ("other", "exercise.first_loss.guess(10)"),
    ],
    "set_size": [
        ("other", "exercise.set_size.guess(3)"),
    ],
    "OneConv": [
        (
            "raises",
            """
class OneConv(nn.Module):
    def __init__(self):
        super()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(8 * 15 * 15, 10)

    def forward(self, x):
        x = self.pool(nn.functional.relu(self.conv1(x)))
        x = torch.flatten(x, 1)
        return self.fc1(x)
""",
        ),
        (
            "size",
            """
class OneConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(8 * 15 * 15, 10)
    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        return self.fc1(x.flatten(1))
""",
        ),
    ],
    "mean_loss": [
        (
            "other",
            """
@torch.inference_mode()
def mean_loss(model, batches, criterion, device):
    loss_sum, samples = torch.zeros((), device=device), 0
    for x, y in batches:
        loss = criterion(model(x.to(device)), y.to(device))
        loss_sum += loss * len(y)
        samples += len(y)
    return 2 * loss_sum.item() / samples
""",
        ),
        (
            "raises",
            """
@torch.inference_mode()
def mean_loss(model, batches, criterion, device):
    loss_sum, samples = torch.zeros((), device=device), 0
    for x, y in batches:
        loss = criterion(model(x), y.to(device))
        loss_sum += loss * len(y)
        samples += len(y)
    return loss_sum.item() / samples
""",
        ),
        (
            "means",
            """
def mean_loss(model, batches, criterion, device):
    total = 0
    for x, y in batches:
        total += criterion(model(x.to(device)), y.to(device)).item()
    return total / len(batches)
""",
        ),
        (
            "first",
            """
@torch.no_grad()
def mean_loss(model, batches, criterion, device):
    losses = [criterion(model(x.to(device)), y.to(device)) for x, y in batches]
    return max(losses).item()
""",
        ),
    ],
    "resume": [
        (
            "other",
            """
def save_run(file, model, optimizer, schedule, shuffler):
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save(state | {"rng": torch.get_rng_state(), "shuffler": shuffler.get_state()}, file)


def load_run(file, model, optimizer, schedule, shuffler):
    state = torch.load(file, map_location="cpu")
    model.load_state_dict(state["model"])
    model[3].p = 0.1
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["rng"])
    shuffler.set_state(state["shuffler"])
""",
        ),
        (
            "raises",
            """
def save_run(file, model, optimizer, schedule, shuffler):
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save(state | {"rng": torch.get_rng_state(), "shuffler": shuffler.get_state()}, file)


def load_run(file, model, optimizer, schedule, shuffler):
    state = torch.load(file, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["rng"])
    shuffler.set_state(state["shuffler"])

def load_run(file, model, optimizer, schedule, shuffler):
    model.resume()
""",
        ),
        (
            "shuffler",
            """
def save_run(file, model, optimizer, schedule, shuffler):
    states = {"m": model.state_dict(), "o": optimizer.state_dict(), "s": schedule.state_dict()}
    torch.save(states | {"seed": shuffler.initial_seed(), "rng": torch.get_rng_state()}, file)


def load_run(file, model, optimizer, schedule, shuffler):
    s = torch.load(file)
    model.load_state_dict(s["m"]); optimizer.load_state_dict(s["o"]); schedule.load_state_dict(s["s"])
    torch.set_rng_state(s["rng"]); shuffler.manual_seed(s["seed"])
""",
        ),
        (
            "schedule",
            """
def save_run(file, model, optimizer, schedule, shuffler):
    torch.save({"m": model.state_dict(), "o": optimizer.state_dict()}, file)


def load_run(file, model, optimizer, schedule, shuffler):
    s = torch.load(file)
    model.load_state_dict(s["m"]); optimizer.load_state_dict(s["o"])
""",
        ),
    ],
    "faster_epoch": [
        (
            "raises",
            """
def faster_epoch(model, pictures, labels, criterion, optimizer, batch_size=128):
    model.train().to(memory_format=torch.channels_last)
    device, samples, loss_sum = pictures.device, len(labels), 0.0
    order = torch.randperm(samples).to(device)
    shift = torch.randint(-2, 3, (samples, 2)).to(device)
    flip = (torch.rand(samples, 1) < 0.5).to(device)
    for start in range(0, samples, batch_size):
        part = slice(start, start + batch_size)
        batch = gather(pictures, order[part], shift[part], flip[part])
        batch = batch.float().sub_(127).div_(64)
        loss = criterion(model(batch), labels[order[part]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(batch)
    return loss_sum.item() / samples
""",
        ),
    ],
}
