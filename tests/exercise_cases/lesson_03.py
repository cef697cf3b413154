"""Answers to the exercises of lesson 03."""

RIGHT = {
    "add_positions": [
        """
def add_positions(x):
    return x + x.new_ones(x.shape[1]).cumsum(0) - 1
""",
        """
def add_positions(x):
    return x + torch.cumsum(torch.ones_like(x), dim=1) - 1
""",
        """
def add_positions(x):
    return torch.stack([x[:, i] + i for i in range(x.shape[1])], dim=1)
""",
        """
def add_positions(x):
    return torch.arange(x.size(1), device=x.device, dtype=x.dtype) + x
""",
    ],
    "left_behind": [
        """
def left_behind(model, device):
    found = set()
    for prefix, module in model.named_modules():
        for key in dir(module):
            value = getattr(module, key)
            if isinstance(value, torch.Tensor) and value.device != device:
                found.add((prefix + "." if prefix else "") + key)
    return found
""",
        """
def left_behind(model, device, prefix=""):
    names = []
    for held in (model._parameters, model._buffers, model.__dict__):
        names += [prefix + k for k, v in held.items() if torch.is_tensor(v) and v.device != device]
    for name, child in model.named_children():
        names += left_behind(child, device, prefix + name + ".")
    return names
""",
        """
def left_behind(model, device):
    out = []
    for p, m in model.named_modules():
        own = {**m._parameters, **m._buffers, **m.__dict__}
        own = {k: v for k, v in own.items() if isinstance(v, torch.Tensor)}
        out += [".".join(filter(None, (p, k))) for k, v in own.items() if v.device != device]
    return tuple(out)
""",
    ],
    "six_bugs": [
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))
        self.register_buffer("std", torch.full((6,), 0.3))
        self.hidden = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - torch.linspace(0.2, 0.8, 6, device=x.device)) / 0.3
        for layer in self.hidden:
            x = layer(x).relu()
        mask = torch.arange(6, device=x.device) < 4  # the last two columns are padding
        return self.last((x * mask))


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], device=device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    right = torch.zeros(3, device=device)  # how many were right, for each class
    for x, y in test_batches:
        x, y = x.to(device), y.to(device)
        guess = model(x).argmax(dim=1)
        right += torch.bincount(y[guess == y], minlength=3)
    return model, right
""",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))
        self.register_buffer("std", torch.full((6,), 0.3))
        self.hidden = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - self.mean) / self.std
        x = self.hidden(x)
        mask = torch.arange(6, device=x.device) < 4  # the last two columns are padding
        return self.last((x * mask))


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], device=device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    right = torch.zeros(3, device=device)  # how many were right, for each class
    for x, y in test_batches:
        x, y = x.to(device), y.to(device)
        guess = model(x).argmax(dim=1)
        right += torch.bincount(y[guess == y], minlength=3)
    return model, right
""",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))
        self.register_buffer("std", torch.full((6,), 0.3))
        self.hidden = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.hidden:
            x = layer(x).relu()
        x = torch.cat([x[:, :4], torch.zeros_like(x[:, 4:])], dim=1)
        return self.last(x)


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], device=device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    right = torch.zeros(3, device=device)  # how many were right, for each class
    for x, y in test_batches:
        x, y = x.to(device), y.to(device)
        guess = model(x).argmax(dim=1)
        right += torch.bincount(y[guess == y], minlength=3)
    return model, right
""",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))
        self.register_buffer("std", torch.full((6,), 0.3))
        self.hidden = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.hidden:
            x = layer(x).relu()
        mask = torch.arange(6, device=x.device) < 4  # the last two columns are padding
        return self.last((x * mask))


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], device=device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    right = torch.zeros(3)  # how many were right, for each class
    for x, y in test_batches:
        x, y = x.to(device), y.to(device)
        guess = model(x).argmax(dim=1)
        right += torch.bincount(y[guess == y], minlength=3).cpu()
    return model, right
""",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))
        self.register_buffer("std", torch.full((6,), 0.3))
        self.hidden = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.hidden:
            x = layer(x).relu()
        mask = torch.arange(6, device=x.device) < 4  # the last two columns are padding
        return self.last((x * mask))


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], device=device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    right = torch.zeros(3)  # how many were right, for each class
    for x, y in test_batches:
        guess = model(x.to(device)).argmax(dim=1).cpu()
        right += torch.bincount(y[guess == y], minlength=3)
    return model, right
""",
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))
        self.register_buffer("std", torch.full((6,), 0.3))
        self.hidden = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.register_buffer("weight", torch.tensor([1.0, 2.0, 4.0]))
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.hidden:
            x = layer(x).relu()
        mask = torch.arange(6, device=x.device) < 4  # the last two columns are padding
        return self.last((x * mask))


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y, weight=model.weight).backward()
        optimizer.step()

    right = torch.zeros(3, device=device)  # how many were right, for each class
    for x, y in test_batches:
        x, y = x.to(device), y.to(device)
        guess = model(x).argmax(dim=1)
        right += torch.bincount(y[guess == y], minlength=3)
    return model, right
""",
    ],
    "accuracy": [
        """
def accuracy(model, batches, device):
    right = rows = 0
    for x, y in batches:
        guess = model(x.to(device)).argmax(dim=1)
        right += (guess == y.to(device)).sum().item()
        rows += len(y)
    return right / rows
""",
        """
@torch.no_grad()
def accuracy(model, batches, device):
    right = torch.zeros((), dtype=torch.long, device=device)
    for x, y in batches:
        right += (model(x.to(device)).argmax(1) == y.to(device)).sum()
    return float(right) / sum(len(y) for _, y in batches)
""",
        """
def accuracy(model, batches, device):
    guesses = []
    for start in range(0, len(batches), 3):
        x = torch.cat([x for x, _ in batches[start : start + 3]]).to(device)
        guesses.append(model(x).argmax(dim=1))
        del x
    return (torch.cat(guesses).cpu() == torch.cat([y for _, y in batches])).float().mean().item()
""",
        """
@torch.inference_mode()
def accuracy(model, batches, device):
    hits = [(model(x.to(device)).argmax(1).cpu() == y).sum().item() for x, y in batches]
    return sum(hits) / sum(len(y) for _, y in batches)
""",
    ],
}

WRONG = {
    "raising": [
        ("other", "exercise.raising.guess('14')"),
    ],
    "six_bugs": [
        (
            "raises",
            """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))
        self.register_buffer("std", torch.full((6,), 0.3))
        self.hidden = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.hidden:
            x = layer(x).relu()
        mask = torch.arange(6, device=x.device) < 4  # the last two columns are padding
        return self.last((x * mask))


def train_and_test(device, train_batches, test_batches):
    model = Net().to(device)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], device=device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train_batches:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    right = torch.zeros(3, device=device)  # how many were right, for each class
    for x, y in test_batches:
        x, y = x.to(device), y.to(device)
        guess = model(x).argmax(dim=1)
        right += torch.bincount(y[guess == y], minlength=3).numpy()
    return model, right
""",
        ),
    ],
    "accuracy": [
        (
            "raises",
            """
def accuracy(model, batches, device):
    guesses = torch.cat([model(x.to(device)).argmax(dim=1) for x, _ in batches])
    return (guesses == torch.cat([y for _, y in batches])).float().mean().item()
""",
        ),
        (
            "other",
            """
@torch.inference_mode()
def accuracy(model, batches, device):
    hits = [(model(x.to(device)).argmax(1).cpu() != y).sum().item() for x, y in batches]
    return sum(hits) / sum(len(y) for _, y in batches)
""",
        ),
    ],
    "left_behind": [
        (
            "plain",
            """
def left_behind(model, device):
    return [n for n, t in model.state_dict().items() if t.device != device]
""",
        ),
        (
            "plain",
            """
def left_behind(model, device):
    return {n: t for n, t in list(model.named_parameters()) + list(model.named_buffers()) if t.is_cpu}
""",
        ),
    ],
    "add_positions": [
        (
            "other",
            """
def add_positions(x):
    return x + torch.arange(1, x.shape[1] + 1, device=x.device)
""",
        ),
        (
            "copy",
            """
def add_positions(x):
    return (x.cpu() + torch.arange(x.shape[1])).to(x.device)
""",
        ),
    ],
}
