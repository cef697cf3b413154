"""Answers to the exercises of lesson 06."""

CONTEXT = """
import gc
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
"""


def _log(
    scores: str = "scores = model(x)",
    loss: str = "loss.item()",
    last: str = "scores.detach().cpu()",
    error: str = "str(error)",
    mean: str = "sum(self.losses) / len(self.losses)",
) -> str:
    """Return the log with these expressions."""
    return f"""
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None

    def batch(self, model, x, y):
        try:
            {scores}
            loss = F.cross_entropy(scores, y)
            self.losses.append({loss})
            self.last = {last}
        except ValueError as error:
            self.failed.append({error})

    def mean(self):
        return {mean}
"""


def _accumulate(
    loss: str = 'F.cross_entropy(model(a), b, reduction="sum") / valid',
    *,
    before: str = "optimizer.zero_grad()",
    inside: str = "",
    after: str = "optimizer.step()",
    parts: str = "zip(x.split(size), y.split(size))",
) -> str:
    """Return a step by accumulation with these lines."""
    return f"""
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    {before}
    for a, b in {parts}:
        loss = {loss}
        loss.backward()
        {inside}
    {after}
"""


_LATE = """
def accumulate(model, optimizer, x, y, size):
    optimizer.zero_grad()
    total = 0
    for a, b in zip(x.split(size), y.split(size)):
        total = total + F.cross_entropy(model(a), b, reduction="sum")
    (total / (y != -100).sum()).backward()
    optimizer.step()
"""

_SUM = 'F.cross_entropy(model(a), b, reduction="sum")'


def _careful(
    caught: str = "torch.OutOfMemoryError",
    *,
    zero: str = "optimizer.zero_grad()",
    loss: str = 'F.cross_entropy(model(a), b, reduction="sum") / len(x)',
    handler: str = "if size == 1: raise",
    again: str = "size //= 2",
    returned: str = "return size",
    inner: str = "pass",
) -> str:
    """Return a step that survives, as a loop, with these lines."""
    return f"""
def careful_step(model, optimizer, x, y, size):
    while True:
        {zero}
        try:
            for a, b in zip(x.split(size), y.split(size)):
                loss = {loss}
                loss.backward()
                {inner}
            optimizer.step()
            {returned}
        except {caught} as error:
            {handler}
        {again}
"""


def _golf(body: str) -> str:
    """Return the golf's step with these lines."""
    lines = "\n    ".join(body.strip().splitlines())
    return f"def smallest_step(model, optimizer, x, y):\n    {lines}\n"


_PARTS = """
optimizer.zero_grad()
optimizer.param_groups[0]["foreach"] = False
for a, b in zip(x.split(16), y.split(16)):
    (F.cross_entropy(model(a), b, reduction="sum") / len(x)).backward()
optimizer.step()
"""
_HOOKS = """
def now(p):
    optimizer.step()
    p.grad = None
hooks = [p.register_post_accumulate_grad_hook(now) for p in model.parameters()]
F.cross_entropy(model(x), y).backward()
for hook in hooks:
    hook.remove()
"""

RIGHT = {
    "ValidationLog": [
        _log(),
        _log(loss="loss.detach()", last="scores.detach()", mean="torch.stack(self.losses).mean()"),
        _log("with torch.no_grad(): scores = model(x)", "float(loss)", "scores.clone()", "error.args[0]"),
        _log(error="error.with_traceback(None)", last="scores.data.cpu()"),
        """
class ValidationLog:
    def __init__(self):
        self.total, self.count, self.failed = 0.0, 0, []

    @torch.no_grad()
    def batch(self, model, x, y):
        try:
            scores = model(x)
            loss = F.cross_entropy(scores, y)
        except ValueError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        else:
            self.last = scores
            self.total += loss
            self.count += 1

    def mean(self):
        return (self.total / self.count).item()
""",
    ],
    "accumulate": [
        _accumulate(),
        _accumulate("F.cross_entropy(model(a), b) * (b != -100).sum() / valid"),
        _accumulate(before="model.zero_grad()", after="optimizer.step(); optimizer.zero_grad()"),
        _accumulate(before="optimizer.zero_grad(); x, y = x[y != -100], y[y != -100]"),
        _accumulate(parts="((a, b) for a, b in zip(x.split(size), y.split(size)) if (b != -100).any())"),
        _accumulate(
            "F.cross_entropy(model(x[a:a + size]), y[a:a + size], reduction='none').sum() / valid",
            parts="((start, 0) for start in range(0, len(x), size))",
        ),
        _accumulate(
            "F.cross_entropy(model(a), b, reduction='sum')",
            after="[p.grad.div_(valid) for p in model.parameters()]; optimizer.step()",
        ),
        _accumulate(
            "F.nll_loss(model(a).log_softmax(1), b, reduction='sum') / valid",
            parts="torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), size)",
        ),
    ],
    "careful_step": [
        _careful(),
        _careful(
            handler="failed = True",
            again="if size == 1: raise torch.OutOfMemoryError('no')\n        size //= 2",
        ),
        _careful(
            "RuntimeError",
            handler="if size == 1 or not isinstance(error, torch.cuda.OutOfMemoryError): raise",
        ),
        """
def careful_step(model, optimizer, x, y, size):
    fits = False
    while not fits:
        model.zero_grad()
        try:
            for start in range(0, len(x), size):
                part = slice(start, start + size)
                (F.cross_entropy(model(x[part]), y[part]) * len(x[part]) / len(x)).backward()
            fits = True
        except torch.OutOfMemoryError as error:
            message = str(error)
        if not fits:
            gc.collect()
            torch.cuda.empty_cache()
            if size == 1:
                raise torch.OutOfMemoryError(message)
            size = size // 2
    optimizer.step()
    optimizer.zero_grad()
    return size
""",
    ],
    "smallest_step": [
        _golf(_PARTS),
        _golf(_HOOKS),
        _golf(
            "optimizer.zero_grad(); h = x\n"
            "for block in model: h = checkpoint(block, h, use_reentrant=False)\n"
            "F.cross_entropy(h, y).backward(); optimizer.step(); optimizer.zero_grad()"
        ),
        _golf(
            "grads = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))\n"
            "for p, g in zip(model.parameters(), grads): p.grad = g\n"
            "optimizer.step(); optimizer.zero_grad()"
        ),
    ],
}

WRONG = {
    "first_step": {
        "number": 'exercise.first_step.guess("24")',
        "before": "exercise.first_step.guess(0)",
        "one_layer": "exercise.first_step.guess(8)",
        "one_average": "exercise.first_step.guess(12)",
        "all": "exercise.first_step.guess(36)",
        "other": "exercise.first_step.guess(6)",
    },
    "emptied": {
        "allocated": 'exercise.emptied.guess("allocated")',
        "both": 'exercise.emptied.guess("both")',
        "neither": 'exercise.emptied.guess("Neither")',
        "choice": "exercise.emptied.guess(64)",
    },
    "ValidationLog": {
        "losses": _log(loss="loss"),
        "last": _log(last="scores"),
        "error": _log(error="error"),
        "mean": _log(mean="sum(self.losses)"),
        "failed": _log(error="None"),
        "scores": _log(last="scores.argmax(1).cpu()"),
        "not_good": _log("self.last = scores = model(x).detach()", last="scores"),
        "raises": _log(loss="loss.numpy()"),
    },
    "empty_cache_helps": {
        "true": 'empty_cache_helps = "true"',
        "outdated": 'empty_cache_helps = "outdated"',
        "word": "empty_cache_helps = False",
    },
    "accumulate": {
        "no_division": _accumulate("F.cross_entropy(model(a), b)"),
        "parts_alike": _accumulate("F.cross_entropy(model(a), b) / math.ceil(len(x) / size)"),
        "summed": _accumulate(_SUM),
        "all_samples": _accumulate(f"{_SUM} / len(x)"),
        "steps": _accumulate(after="", inside="optimizer.step()"),
        "no_step": _accumulate(after=""),
        "last_only": _accumulate(before="", inside="", after="optimizer.step()").replace(
            "        loss =", "        optimizer.zero_grad()\n        loss ="
        ),
        "stale": _accumulate(before=""),
        "dropped": _accumulate(
            f"{_SUM.replace('(a)', '(x[a:a + size])').replace(', b', ', y[a:a + size]')} / valid",
            parts="((i * size, 0) for i in range(len(x) // size))",
        ),
        "chunk": _accumulate(parts="zip(x.chunk(size), y.chunk(size))"),
        "whole": _accumulate(parts="[(x, y)]"),
        "late": _LATE,
        "parts": _accumulate(parts="zip(x.split(1), y.split(1))"),
    },
    "late_backward": {
        "true": 'late_backward = "true"',
        "outdated": 'late_backward = "outdated"',
        "word": "late_backward = True",
    },
    "mixed_halves": {
        "true": 'mixed_halves = "true"',
        "outdated": 'mixed_halves = "outdated"',
        "word": "mixed_halves = 0.5",
    },
    "half_gradient": {
        "same": 'exercise.half_gradient.guess("the same")',
        "infinite": 'exercise.half_gradient.guess("infinite")',
        "choice": "exercise.half_gradient.guess(0.5)",
    },
    "scaler_name": {
        "true": 'scaler_name = "true"',
        "false": 'scaler_name = "false"',
        "word": 'scaler_name = "old"',
    },
    "careful_step": {
        "swallow": _careful("RuntimeError"),
        "endless": _careful(handler="pass", again="size = max(1, size // 2)"),
        "zero": _careful(handler="pass"),
        "silent": _careful(handler="if size == 1: return size"),
        "inside": """
def careful_step(model, optimizer, x, y, size):
    optimizer.zero_grad()
    try:
        for a, b in zip(x.split(size), y.split(size)):
            (F.cross_entropy(model(a), b, reduction="sum") / len(x)).backward()
        optimizer.step()
        return size
    except torch.OutOfMemoryError:
        if size == 1:
            raise
        return careful_step(model, optimizer, x, y, size // 2)
""",
        "kept": _careful(handler="kept = error\n            if size == 1: raise"),
        "left": _careful(zero="pass", inner="pass").replace(
            "    while True:", "    optimizer.zero_grad()\n    while True:"
        ),
        "parts_alike": _careful(loss="F.cross_entropy(model(a), b) / math.ceil(len(x) / size)"),
        "no_division": _careful(loss="F.cross_entropy(model(a), b)"),
        "steps": _careful(inner="optimizer.step()"),
        "returned": _careful(returned="return loss"),
        "batch": """
def careful_step(model, optimizer, x, y, size):
    while True:
        optimizer.zero_grad()
        try:
            F.cross_entropy(model(x[:size]), y[:size]).backward()
            optimizer.step()
            return size
        except torch.OutOfMemoryError:
            if size == 1: raise
        size //= 2
""",
    },
    "smallest_step": {
        "samples": _golf("F.cross_entropy(model(x[:64]), y[:64]).backward(); optimizer.step()"),
        "scale": _golf(
            "for a, b in zip(x.split(16), y.split(16)): F.cross_entropy(model(a), b).backward()\n"
            "optimizer.step()"
        ),
        "precision": _golf(
            "with torch.autocast(x.device.type, torch.bfloat16): loss = F.cross_entropy(model(x), y)\n"
            "loss.backward(); optimizer.step()"
        ),
        "elsewhere": _golf(
            "with torch.autograd.graph.save_on_cpu(): loss = F.cross_entropy(model(x), y)\n"
            "loss.backward(); optimizer.step()"
        ),
        "reset": _golf(
            "F.cross_entropy(model(x), y).backward(); optimizer.step(); optimizer.zero_grad()\n"
            "torch.cuda.reset_peak_memory_stats()"
        ),
        "no_step": _golf("F.cross_entropy(model(x), y).backward()"),
        "steps": _golf(
            "for a, b in zip(x.split(64), y.split(64)):\n"
            "    optimizer.zero_grad(); F.cross_entropy(model(a), b).backward(); optimizer.step()"
        ),
        "left": _golf(_HOOKS.partition("for hook in")[0]),
        "changed": _golf(f"{_PARTS.strip()}\nmodel.half()"),
        "gradient": _golf(
            "optimizer.zero_grad()\n"
            "for a, b in zip(x.split(16), y.split(16)):\n"
            "    optimizer.zero_grad(); (F.cross_entropy(model(a), b)).backward()\n"
            "optimizer.step()"
        ),
        "other_step": _golf(
            f"optimizer.param_groups[0]['lr'] = 1e-2\n{_PARTS.strip()}\n"
            "optimizer.param_groups[0]['lr'] = 1e-3"
        ),
    },
}

ACTUAL = {"first_step": "24.0", "emptied": '"reserved"', "half_gradient": '"zero"'}
