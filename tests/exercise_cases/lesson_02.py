"""Answers to the exercises of lesson 02."""

CONTEXT = """
import torch
from torch import nn

device = torch.device("cuda", 0)
"""


def standardize(init: str, forward: str = "return (x - self.mean) / self.std", more: str = "") -> str:
    """The code of a class Standardize."""
    return f"""
class Standardize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        {init}

    def forward(self, x):
        {forward}
{more}
"""


def load(read: str, give: str = 'model.load_state_dict(checkpoint["model"])', back: str = "epoch") -> str:
    """The code of load_checkpoint."""
    return f"""
def load_checkpoint(path, model):
    checkpoint = torch.load(path{read})
    {give}
    epoch = checkpoint["epoch"]
    return {back}
"""


def evaluate(
    down: str = "float(total) / seen, hits.item() / seen",
    x: str = "images.to(device).float() / 255",
    gain: str = 'nn.functional.cross_entropy(logits, y, reduction="sum")',
    hit: str = "(logits.argmax(1) == y).sum()",
    device: str = "device",
) -> str:
    """The code of evaluate, with two fetches at the end."""
    return f"""
def evaluate(model, batches, device):
    device = torch.device({device})
    model = model.to(device)
    total, hits, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
    with torch.inference_mode():
        for images, labels in batches:
            x, y = {x}, labels.to(device)
            logits = model(x)
            total += {gain}
            hits += {hit}
            seen += len(labels)
    return {down}
"""


BUFFERS = 'self.register_buffer("mean", mean); self.register_buffer("std", std)'
PLAIN = "self.mean, self.std = mean, std"
ALL_AT_ONCE = """
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
"""
OWN_APPLY = """
    def _apply(self, fn, recurse=True):
        self.mean, self.std = fn(self.mean), fn(self.std)
        return super()._apply(fn, recurse)

    def get_extra_state(self):
        return {"mean": self.mean, "std": self.std}

    def set_extra_state(self, state):
        self.mean, self.std = state["mean"], state["std"]
"""
ONLY_THERE = "if fn(self.mean).is_cuda: self.mean, self.std = fn"
OWN_TO = """
    def to(self, device):
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return super().to(device)
"""
NORM = "self.norm = nn.BatchNorm1d(3, eps=1e-12, affine=False).eval(); " + (
    "self.norm.running_mean.copy_(mean); self.norm.running_var.copy_(std**2)"
)
BY_FILE = """
import io

def evaluate(model, batches, device):
    images, labels = (torch.cat(part) for part in zip(*batches))
    file = io.BytesIO()
    torch.save((images, labels), file)
    file.seek(0)
    images, labels = torch.load(file, map_location=device)
    with torch.no_grad():
        logits = model(images / 255)
        loss = nn.functional.cross_entropy(logits, labels)
    return loss.item(), (logits.argmax(1) == labels).float().mean().item()
"""

RIGHT = {
    "standardize": [
        standardize("self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)"),
        standardize(
            'self.register_buffer("shift", -mean / std); self.register_buffer("scale", 1 / std)',
            "return torch.addcmul(self.shift, x, self.scale)",
        ),
        standardize(
            'self.register_buffer("both", torch.stack([mean, std]))',
            "return x.sub(self.both[0]).div(self.both[1])",
        ),
        standardize(
            BUFFERS, "return nn.functional.batch_norm(x, self.mean, self.std**2, training=False, eps=1e-12)"
        ),
        standardize(PLAIN, more=OWN_APPLY),
    ],
    "load_checkpoint": [
        load(", map_location=torch.device('cpu')"),
        load(", map_location=lambda storage, where: storage"),
        load(", map_location='cpu', mmap=True"),
        load(", next(model.parameters()).device, weights_only=True"),
        load(", map_location='cuda:0' if torch.cuda.is_available() else 'cpu'"),
        load(
            ", map_location='cpu'",
            "for name, tensor in model.state_dict().items(): tensor.copy_(checkpoint['model'][name])",
        ),
        load(
            ", map_location='cpu'",
            "place = next(model.parameters()).device; model.cpu(); "
            "model.load_state_dict(checkpoint['model']); model.to(place)",
        ),
    ],
    "evaluate": [ALL_AT_ONCE, evaluate()],
}

WRONG = {
    "always_copies": {
        "true": 'always_copies = "true"',
        "outdated": 'always_copies = "outdated"',
        "word": "always_copies = False",
    },
    "same_object": {
        "device": "exercise.same_object.guess([2, 3])",
        "other": "exercise.same_object.guess([1, 3])",
        "dtype": 'exercise.same_object.guess("1, 2")',
        "half": "exercise.same_object.guess([1, 2, 3, 4])",
        "copy": "exercise.same_object.guess((1, 2, 3, 5))",
        "cpu": "exercise.same_object.guess([1, 2, 3, 6])",
        "form": "exercise.same_object.guess([True, True, True, False, False, False])",
    },
    "who_changes": {
        "x": 'exercise.who_changes.guess("x")',
        "both": 'exercise.who_changes.guess("Both")',
        "neither": 'exercise.who_changes.guess("neither")',
        "word": 'exercise.who_changes.guess(["model", "x"])',
    },
    "moves_computation": {
        "true": 'moves_computation = "true"',
        "outdated": 'moves_computation = "outdated"',
        "word": 'moves_computation = "no"',
    },
    "what_moves": {
        "plain": 'exercise.what_moves.guess(["weight", "mean", "mask", "scale"])',
        "list": 'exercise.what_moves.guess(["weight", "mean", "mask", "layers"])',
        "nonpersistent": 'exercise.what_moves.guess(["weight", "mean"])',
        "buffer": 'exercise.what_moves.guess(["weight"])',
        "parameter": 'exercise.what_moves.guess("mean mask")',
        "form": 'exercise.what_moves.guess(["weights"])',
    },
    "what_is_saved": {
        "nonpersistent": 'exercise.what_is_saved.guess({"weight", "mean", "mask"})',
        "plain": 'exercise.what_is_saved.guess(["weight", "mean", "scale"])',
        "list": 'exercise.what_is_saved.guess(["weight", "mean", "layers"])',
        "buffer": 'exercise.what_is_saved.guess("weight")',
        "parameter": 'exercise.what_is_saved.guess(["mean"])',
        "form": "exercise.what_is_saved.guess(2)",
    },
    "standardize": {
        "parameter": standardize(
            "self.mean, self.std = (nn.Parameter(t, requires_grad=False) for t in (mean, std))"
        ),
        "stays_behind": standardize('self.register_buffer("mean", mean); self.std = std'),
        "in_forward": standardize(PLAIN, "return (x - self.mean.to(x.device)) / self.std.to(x.device)"),
        "hard_coded": standardize("self.mean, self.std = mean.to('cuda'), std.to('cuda')"),
        "override": standardize(PLAIN, more=OWN_TO),
        "not_saved": standardize(BUFFERS.replace('", std', '", std, persistent=False')),
        "numbers": standardize(BUFFERS, "return (x - x.mean(0)) / x.std(0)"),
        "gradient": standardize(BUFFERS, "return (x.detach() - self.mean) / self.std"),
        "one_way": standardize(PLAIN, more=OWN_APPLY.replace("self.mean, self.std = fn", ONLY_THERE, 1)),
        "module": "def Standardize(mean, std):\n    return lambda x: (x - mean) / std",
        "training": standardize(NORM, "return self.norm(x)"),
        "taken": standardize(f"{PLAIN}; {BUFFERS}"),
        "raises": standardize("self.register_buffer(mean); self.register_buffer(std)"),
    },
    "save_whole_model": {
        "true": 'save_whole_model = "true"',
        "false": 'save_whole_model = "false"',
        "word": 'save_whole_model = "old"',
    },
    "load_checkpoint": {
        "map_location": load(", weights_only=True"),
        "one_gpu": load(", map_location=None if torch.cuda.is_available() else 'cpu'"),
        "weights_only": load(", map_location='cpu', weights_only=False"),
        "whole_file": load(", map_location='cpu'", "model.load_state_dict(checkpoint)"),
        "not_loaded": load(", map_location='cpu'", "..."),
        "buffers": load(
            ", map_location='cpu'",
            "for name, p in model.named_parameters(): p.data.copy_(checkpoint['model'][name])",
        ),
        "moved": load(", map_location='cpu'", "model.load_state_dict(checkpoint['model']); model.to('cpu')"),
        "replaced": load(", map_location='cpu'", "model.load_state_dict(checkpoint['model'], assign=True)"),
        "epoch": load(", map_location='cpu'", back="checkpoint"),
        "raises": load(", map_location='cpu'", "model.load(checkpoint['model'])"),
    },
    "evaluate": {
        "pair": evaluate("float(total) / seen"),
        "tensor": evaluate("total / seen, hits / seen"),
        "elsewhere": evaluate(device="'cpu'"),
        "accuracy": evaluate("float(total) / seen, float(hits) / len(batches)"),
        "batch_means": evaluate(
            "float(total) / len(batches), float(hits) / seen",
            gain="nn.functional.cross_entropy(logits, y)",
        ),
        "scaling": evaluate(x="images.to(device).float()"),
        "loss": evaluate(gain="nn.functional.cross_entropy(logits, y)"),
        "uncounted": BY_FILE,
        "raises": evaluate(x="images.to(device)"),
    },
}

ACTUAL = {
    "same_object": "[1, 2, 3]",
    "who_changes": "['model']",
    "what_moves": "['weight', 'mean', 'mask']",
    "what_is_saved": "['weight', 'mean']",
}
