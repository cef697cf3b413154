"""Answers to the exercises of lesson 02."""

RIGHT = {
    "standardize": [
        """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)

    def forward(self, x):
        return (x - self.mean) / self.std
""",
        """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("shift", -mean / std); self.register_buffer("scale", 1 / std)

    def forward(self, x):
        return torch.addcmul(self.shift, x, self.scale)
""",
        """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("both", torch.stack([mean, std]))

    def forward(self, x):
        return x.sub(self.both[0]).div(self.both[1])
""",
        """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", mean); self.register_buffer("std", std)

    def forward(self, x):
        return nn.functional.batch_norm(x, self.mean, self.std**2, training=False, eps=1e-12)
""",
        """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x):
        return (x - self.mean) / self.std

    def _apply(self, fn, recurse=True):
        self.mean, self.std = fn(self.mean), fn(self.std)
        return super()._apply(fn, recurse)

    def get_extra_state(self):
        return {"mean": self.mean, "std": self.std}

    def set_extra_state(self, state):
        self.mean, self.std = state["mean"], state["std"]
""",
        """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        for name, value in {"mean": mean, "std": std}.items():
            self.register_buffer(name, value.clone())
    def forward(self, x):
        return torch.true_divide(x - self.mean, self.std)
""",
    ],
    "load_checkpoint": [
        """
def load_checkpoint(path, model):
    checkpoint = torch.load(path, map_location=torch.device('cpu'))
    model.load_state_dict(checkpoint["model"])
    epoch = checkpoint["epoch"]
    return epoch
""",
        """
def load_checkpoint(path, model):
    checkpoint = torch.load(path, map_location=lambda storage, where: storage)
    model.load_state_dict(checkpoint["model"])
    epoch = checkpoint["epoch"]
    return epoch
""",
        """
def load_checkpoint(path, model):
    checkpoint = torch.load(path, map_location='cpu', mmap=True)
    model.load_state_dict(checkpoint["model"])
    epoch = checkpoint["epoch"]
    return epoch
""",
        """
def load_checkpoint(path, model):
    checkpoint = torch.load(path, next(model.parameters()).device, weights_only=True)
    model.load_state_dict(checkpoint["model"])
    epoch = checkpoint["epoch"]
    return epoch
""",
        """
def load_checkpoint(path, model):
    checkpoint = torch.load(path, map_location='cuda:0' if torch.cuda.is_available() else 'cpu')
    model.load_state_dict(checkpoint["model"])
    epoch = checkpoint["epoch"]
    return epoch
""",
        """
def load_checkpoint(path, model):
    checkpoint = torch.load(path, map_location='cpu')
    for name, tensor in model.state_dict().items(): tensor.copy_(checkpoint['model'][name])
    epoch = checkpoint["epoch"]
    return epoch
""",
        """
def load_checkpoint(path, model):
    checkpoint = torch.load(path, map_location='cpu')
    place = next(model.parameters()).device
    model.cpu().load_state_dict(checkpoint['model'])
    model.to(place)
    epoch = checkpoint["epoch"]
    return epoch
""",
        """
def load_checkpoint(path, model):
    ck = torch.load(path, map_location=next(model.parameters()).device)
    model.load_state_dict(ck["model"])
    return int(ck["epoch"])
""",
    ],
    "evaluate": [
        """
def evaluate(model, batches, device):
    images = torch.cat([images.flatten(1) for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches]).to(torch.uint8)
    packed = torch.cat([images, labels[:, None]], 1).cuda(device)
    with torch.no_grad():
        y = packed[:, -1].long()
        logits = model(packed[:, :-1].view(-1, 3, 16, 16) / 255)
        loss = nn.functional.cross_entropy(logits, y)
        both = torch.stack([loss, (logits.argmax(1) == y).float().mean()]).cpu()
    return both[0].item(), both[1].item()
""",
        """
def evaluate(model, batches, device):
    device = torch.device(device)
    model = model.to(device)
    total, hits, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
    with torch.inference_mode():
        for images, labels in batches:
            x, y = images.to(device).float() / 255, labels.to(device)
            logits = model(x)
            total += nn.functional.cross_entropy(logits, y, reduction="sum")
            hits += (logits.argmax(1) == y).sum()
            seen += len(labels)
    return float(total) / seen, hits.item() / seen
""",
        """
def evaluate(model, batches, device):
    with torch.no_grad():
        parts = [(model(x.to(device) / 255), y.to(device)) for x, y in batches]
        scores, y = torch.cat([s for s, _ in parts]), torch.cat([y for _, y in parts])
        return nn.functional.cross_entropy(scores, y).item(), (scores.argmax(1) == y).float().mean().item()
""",
    ],
}

WRONG = {
    "standardize": [
        (
            "raises",
            """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer(mean); self.register_buffer(std)

    def forward(self, x):
        return (x - self.mean) / self.std
""",
        ),
        (
            "parameter",
            """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.mean = nn.Parameter(mean); self.std = nn.Parameter(std)
    def forward(self, x):
        return (x - self.mean) / self.std
""",
        ),
        (
            "other",
            """
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", mean); self.register_buffer("std", std)
    def forward(self, x):
        return (x - self.mean) * self.std
""",
        ),
    ],
    "load_checkpoint": [
        (
            "raises",
            """
def load_checkpoint(path, model):
    checkpoint = torch.load(path, map_location='cpu')
    model.load(checkpoint['model'])
    epoch = checkpoint["epoch"]
    return epoch
""",
        ),
        (
            "map_location",
            """
def load_checkpoint(path, model):
    ck = torch.load(path, map_location="cuda:0")
    model.load_state_dict(ck["model"])
    return ck["epoch"]
""",
        ),
        (
            "epoch",
            """
def load_checkpoint(path, model):
    ck = torch.load(path, map_location="cpu")
    model.load_state_dict(ck["model"])
""",
        ),
    ],
    "evaluate": [
        (
            "raises",
            """
def evaluate(model, batches, device):
    device = torch.device(device)
    model = model.to(device)
    total, hits, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
    with torch.inference_mode():
        for images, labels in batches:
            x, y = images.to(device), labels.to(device)
            logits = model(x)
            total += nn.functional.cross_entropy(logits, y, reduction="sum")
            hits += (logits.argmax(1) == y).sum()
            seen += len(labels)
    return float(total) / seen, hits.item() / seen
""",
        ),
        (
            "other",
            """
def evaluate(model, batches, device):
    with torch.no_grad():
        parts = [(model(x.to(device) / 255), y.to(device)) for x, y in batches]
        scores, y = torch.cat([s for s, _ in parts]), torch.cat([y for _, y in parts])
        loss = nn.functional.cross_entropy(scores, y, reduction="sum")
        return loss.item(), (scores.argmax(1) == y).float().mean().item()
""",
        ),
    ],
}
