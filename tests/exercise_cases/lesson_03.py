"""Answers to the exercises of lesson 03."""

from course_utils.exercises import lesson_03

CONTEXT = """
import torch
from torch import nn

device = torch.device("cuda:0")


def text_of(work):
    try:
        work()
    except Exception as error:
        return str(error)
    return ""


def named_argument():
    model = nn.Linear(3, 2, bias=False).to(device)
    return text_of(lambda: model(torch.rand(4, 3))).split("got ")[-1].split()[0]


def raised():
    gpu, cpu = torch.rand(4, 3, device=device), torch.rand(4, 3)
    order, start = torch.randperm(4, device=device), (torch.zeros(1, 5), torch.zeros(1, 5))
    lines = [
        lambda: nn.Embedding(10, 4).to(device)(torch.tensor([1, 5, 2])),
        lambda: torch.cat([gpu, cpu]),
        lambda: nn.LSTM(3, 5).to(device)(gpu, start),
        lambda: cpu[order],
        lambda: gpu[order.cpu()],
    ]
    return "".join(str(i) for i, line in enumerate(lines, start=1) if text_of(line))


def allowed():
    gpu, cpu = torch.ones(3, device=device), torch.ones(3)
    number, gpu_number = torch.tensor(2.0), torch.tensor(2.0, device=device)
    index, gpu_index = torch.tensor([0, 2]), torch.tensor([0, 2], device=device)
    lines = {
        "a": lambda: gpu * 2.0,
        "b": lambda: gpu * number,
        "c": lambda: cpu * gpu_number,
        "d": lambda: gpu * torch.tensor([2.0]),
        "e": lambda: gpu[index],
        "f": lambda: cpu[gpu_index],
        "g": lambda: cpu.copy_(gpu),
        "h": lambda: cpu.add_(gpu),
    }
    return "".join(letter for letter, line in lines.items() if not text_of(line))
"""

ACTUAL = {"named": "named_argument()", "raising": "raised()", "allowed_mixes": "allowed()"}


def _guesses(name: str, **values: object) -> dict[str, str]:
    return {key.replace("_", " "): f"exercise.{name}.guess({value!r})" for key, value in values.items()}


def _words(name: str, *words: object) -> dict[str, str]:
    return {("word" if word == "no" else word): f'{name} = "{word}"' for word in words}


# ---- the script with six bugs, with any of them repaired ------------------------------------------------
_REPAIRS = {
    "constants": (
        "self.mean, self.std = torch.linspace(0.2, 0.8, 6), torch.full((6,), 0.3)",
        'self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))\n'
        '        self.register_buffer("std", torch.full((6,), 0.3))',
    ),
    "layers": (
        "[nn.Linear(6, 6), nn.Linear(6, 6)]",
        "nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])",
    ),
    "mask": ("torch.arange(6) < 4", "torch.arange(6, device=x.device) < 4"),
    "loss": ("[1.0, 2.0, 4.0])", "[1.0, 2.0, 4.0], device=device)"),
    "loop": (
        "test_batches:\n        guess",
        "test_batches:\n        x, y = x.to(device), y.to(device)\n        guess",
    ),
    "metric": ("torch.zeros(3)", "torch.zeros(3, device=device)"),
    "too many": ('.to("cuda:0")', ""),
}


def changed(*changes: tuple[str, str], script: str = "") -> str:
    """Return the repaired script, or another, with some of its text replaced."""
    script = script or repaired(*_REPAIRS)
    for old, new in changes:
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    return script


def repaired(*bugs: str) -> str:
    """Return the script with the named bugs repaired."""
    return changed(*[_REPAIRS[bug] for bug in bugs], script=lesson_03.six_bugs.stub)


def _all_but(bug: str) -> str:
    return repaired(*[other for other in _REPAIRS if other != bug])


_LAYER_BY_LAYER = "for layer in self.hidden:\n            x = layer(x).relu()"
_METRIC_ON_CPU = ("torch.zeros(3, device=device)", "torch.zeros(3)")
_NORMALISED = "self.mean) / self.std"

RIGHT = {
    "add_positions": [
        "def add_positions(x):\n    return x + x.new_ones(x.shape[1]).cumsum(0) - 1",
        "def add_positions(x):\n    return x + torch.cumsum(torch.ones_like(x), dim=1) - 1",
        "def add_positions(x):\n    return torch.stack([x[:, i] + i for i in range(x.shape[1])], dim=1)",
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
    ],
    "six_bugs": [
        changed((_NORMALISED, "torch.linspace(0.2, 0.8, 6, device=x.device)) / 0.3")),
        changed(
            (_LAYER_BY_LAYER, "x = self.hidden(x)"),
            (
                _REPAIRS["layers"][1],
                "nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())",
            ),
        ),
        changed(
            (
                "mask = torch.arange(6, device=x.device) < 4  # the last two columns are padding",
                "x = torch.cat([x[:, :4], torch.zeros_like(x[:, 4:])], dim=1)",
            ),
            ("self.last((x * mask))", "self.last(x)"),
        ),
        changed(_METRIC_ON_CPU, ("minlength=3)", "minlength=3).cpu()")),
        changed(
            _METRIC_ON_CPU,
            (
                "x, y = x.to(device), y.to(device)\n        guess = model(x).argmax(dim=1)",
                "guess = model(x.to(device)).argmax(dim=1).cpu()",
            ),
        ),
        changed(
            (
                "    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], device=device))\n",
                "",
            ),
            ("criterion(model(x), y)", "nn.functional.cross_entropy(model(x), y, weight=model.weight)"),
            (
                "self.last = nn",
                'self.register_buffer("weight", torch.tensor([1.0, 2.0, 4.0]))\n        self.last = nn',
            ),
        ),
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
    ],
}

WRONG = {
    "named": _guesses("named", mat1="input", self="self", other="index"),
    "raising": _guesses("raising", all="12345", turned="1235", indices="123", embedding="234", other="14"),
    "allowed_mixes": _guesses(
        "allowed_mixes",
        strict="a",
        one_element="abdeg",
        gpu_number="abceg",
        gpu_index="abefg",
        in_place="abegh",
        number="aeg",
        index="abg",
        copying="abe",
        missed="beg",
    ),
    "one_device": _words("one_device", "true", "outdated", "no"),
    "long_tensor": _words("long_tensor", "true", "false", "no"),
    "add_cuda": _words("add_cuda", "true", "outdated", "no"),
    "add_positions": {
        "fixed": "def add_positions(x):\n    return x + torch.arange(x.shape[1]).to(device)",
        "copy": "def add_positions(x):\n    return x + torch.arange(x.shape[1]).to(x.device)",
        "moved": "def add_positions(x):\n    return x.cpu() + torch.arange(x.shape[1])",
        "values": "def add_positions(x):\n    return x + torch.arange(x.shape[0], device=x.device)[:, None]",
        "in place": "def add_positions(x):\n    x += torch.arange(x.shape[1], device=x.device)\n    return x",
        "dtype": "def add_positions(x):\n"
        "    return x + torch.arange(x.shape[1], dtype=torch.float64, device=x.device)",
        "gradient": "def add_positions(x):\n    return x.data + torch.arange(x.shape[1], device=x.device)",
        "return": "def add_positions(x):\n    x + torch.arange(x.shape[1], device=x.device)",
    },
    "left_behind": {
        "parameters": """
def left_behind(model, device):
    return [name for name, b in model.named_buffers() if b.device != device]
""",
        "buffers": """
def left_behind(model, device):
    return [name for name, p in model.named_parameters() if p.device != device]
""",
        "state_dict": """
def left_behind(model, device):
    names = [name for name, t in model.state_dict().items() if t.device != device]
    for prefix, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.device != device:
                names.append(f"{prefix}.{key}".lstrip("."))
    return names
""",
        "plain": """
def left_behind(model, device):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, t in tensors if t.device != device]
""",
        "nested": """
def left_behind(model, device):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    tensors += [(k, v) for k, v in vars(model).items() if isinstance(v, torch.Tensor)]
    return [name for name, t in tensors if t.device != device]
""",
        "prefix": """
def left_behind(model, device):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    for module in model.modules():
        tensors += [(k, v) for k, v in vars(module).items() if isinstance(v, torch.Tensor)]
    return [name for name, t in tensors if t.device != device]
""",
        "dot": lesson_03.left_behind.worked.replace('.lstrip(".")', ""),
        "twice": """
def left_behind(model, device):
    found = []
    for prefix, module in model.named_modules():
        start = prefix + "." if prefix else ""
        tensors = [*module.named_parameters(), *module.named_buffers(), *vars(module).items()]
        found += [start + k for k, v in tensors if isinstance(v, torch.Tensor) and v.device != device]
    return found
""",
        "comparison": lesson_03.left_behind.worked.replace("tensor.device !=", "str(tensor.device) !="),
        "index": lesson_03.left_behind.worked.replace(
            "tensor.device != device", "tensor.device.type != device.type"
        ),
        "fixed": lesson_03.left_behind.worked.replace("!= device]", '!= torch.device("cuda:0")]'),
        "all": """
def left_behind(model, device):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    names = [name for name, tensor in tensors if tensor.device != device]
    for prefix, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                names.append(f"{prefix}.{key}".lstrip("."))
    return names
""",
        "names": "def left_behind(model, device):\n"
        "    return [p for p in model.parameters() if p.device != device]",
        "moved": "def left_behind(model, device):\n"
        "    before = {n: p.device for n, p in model.named_parameters()}\n"
        "    model.to(device)\n"
        "    return [n for n, place in before.items() if place != device]",
        "several": lesson_03.left_behind.worked.replace("return [", "return [").replace(
            "!= device]", "!= device][:2]"
        ),
    },
    "six_bugs": {
        "constants": changed(
            (
                "self.mean, self.std =",
                'self.register_buffer("mean", torch.linspace(0.2, 0.8, 6))\n        _, self.std =',
            ),
            script=lesson_03.six_bugs.stub,
        ),
        "layers": repaired("constants"),
        "mask": repaired("constants", "layers"),
        "loss": repaired("constants", "layers", "mask", "metric"),
        "loop": repaired("constants", "layers", "mask", "loss"),
        "metric": repaired("constants", "layers", "mask", "loss", "loop"),
        "hard-coded": _all_but("too many"),
        "untrained": changed(
            ("x = layer(x).relu()", "x = layer.to(x.device)(x).relu()"), script=_all_but("layers")
        ),
        "constants trained": changed(
            (
                _REPAIRS["constants"][0],
                "self.mean = nn.Parameter(torch.linspace(0.2, 0.8, 6))\n"
                "        self.std = nn.Parameter(torch.full((6,), 0.3))",
            ),
            script=_all_but("constants"),
        ),
        "copies": changed(
            (_NORMALISED, "self.mean.to(x.device)) / self.std.to(x.device)"), script=_all_but("constants")
        ),
        "stuck": changed(
            ("    def __init__(self):", "    def __init__(self, device):"),
            (
                _REPAIRS["constants"][0],
                "self.mean = torch.linspace(0.2, 0.8, 6).to(device)\n"
                "        self.std = torch.full((6,), 0.3).to(device)",
            ),
            ("model = Net()", "model = Net(device)"),
            script=_all_but("constants"),
        ),
        "changed": changed(("weight=torch.tensor([1.0, 2.0, 4.0], device=device)", "")),
        "elsewhere": changed(("    model = Net()", '    device = "cpu"\n    model = Net()')),
        "counts": changed(("y[guess == y]", "guess")),
        "other": changed(
            ("x, y = x.to(device), y.to(device)\n        optimizer", "x = x.to(device)\n        optimizer")
        ),
        "raises": changed(("minlength=3)", "minlength=3).numpy()")),
    },
    "accuracy": {
        "memory": """
def accuracy(model, batches, device):
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    return (model(x.to(device)).argmax(dim=1) == y.to(device)).float().mean().item()
""",
        "kept": """
def accuracy(model, batches, device):
    guesses = []
    for start in range(0, len(batches), 3):
        x = torch.cat([x for x, _ in batches[start : start + 3]]).to(device)
        guesses.append(model(x).argmax(dim=1))
    return (torch.cat(guesses).cpu() == torch.cat([y for _, y in batches])).float().mean().item()
""",
        "fixed": """
def accuracy(model, batches, device):
    guesses = torch.cat([model(x.cuda()).argmax(dim=1) for x, _ in batches])
    return (guesses.cpu() == torch.cat([y for _, y in batches])).float().mean().item()
""",
        "mean of means": """
def accuracy(model, batches, device):
    shares = []
    for x, y in batches:
        shares.append((model(x.to(device)).argmax(dim=1) == y.to(device)).float().mean().item())
    return sum(shares) / len(shares)
""",
        "elsewhere": """
def accuracy(model, batches, device):
    model.cpu()
    right = sum((model(x).argmax(dim=1) == y).sum().item() for x, y in batches)
    return right / sum(len(y) for _, y in batches)
""",
        "tensor": """
def accuracy(model, batches, device):
    guesses = torch.cat([model(x.to(device)).argmax(dim=1) for x, _ in batches])
    return (guesses.cpu() == torch.cat([y for _, y in batches])).float().mean()
""",
        "rows": """
def accuracy(model, batches, device):
    x, y = batches[0]
    return (model(x.to(device)).argmax(dim=1) == y.to(device)).float().mean().item()
""",
        "count": """
def accuracy(model, batches, device):
    return sum((model(x.to(device)).argmax(1) == y.to(device)).sum().item() for x, y in batches)
""",
        "number": """
def accuracy(model, batches, device):
    shares = [(model(x.to(device)).argmax(dim=1) == y.to(device)).float() for x, y in batches]
    print(torch.cat(shares).mean())
""",
        "raises": """
def accuracy(model, batches, device):
    guesses = torch.cat([model(x.to(device)).argmax(dim=1) for x, _ in batches])
    return (guesses == torch.cat([y for _, y in batches])).float().mean().item()
""",
    },
}
