"""Answers to the exercises of lesson 01."""

CONTEXT = """
import time
import timeit
from time import perf_counter

import torch
"""

_ROWS = {
    "A": '(False, 0, "build")',
    "B": '(False, 0, "driver")',
    "C": '(True, 1, "free")',
    "D": '(False, 0, "build")',
    "E": '(True, 1, "hidden")',
}


def _rows(**changed: str) -> str:
    """Return the right table but for some rows."""
    rows = _ROWS | changed
    return "five_machines = {" + ", ".join(f'"{letter}": {row}' for letter, row in rows.items()) + "}"


def _timed(before: str, after: str, returned: str = "time.perf_counter() - start") -> str:
    """Return a timing function with what it does before the clock starts and after the call."""
    return f"""
def seconds_per_call(work, device):
    {before}
    start = time.perf_counter()
    work()
    {after}
    return {returned}
"""


def _nearest(expression: str) -> str:
    """Return the function of the challenge."""
    return f"def nearest(points, centres):\n    return {expression}"


def _picks(*lines: str) -> str:
    """Return the function that picks a device."""
    return "\n    ".join(("def pick_device():", *lines))


_READY = 'torch.accelerator.synchronize(device) if device.type != "cpu" else None'
_CHECKED = "found = torch.accelerator.current_accelerator(check_available=True)"
_FALLBACK = 'if found is None: return torch.device("cpu")'

RIGHT = {
    "five_machines": [_rows(A='[False, 0, "Build "]', E='(True, 1, "HIDDEN")')],
    "pick_device": [
        _picks(
            "for kind, there in (('cuda', torch.cuda), ('mps', torch.backends.mps), ('xpu', torch.xpu)):",
            "    if there.is_available():",
            "        return torch.device(kind, 0)",
            "return torch.device('cpu')",
        ),
        _picks(
            "if not torch.accelerator.is_available():",
            "    return torch.device('cpu')",
            "kind = torch.accelerator.current_accelerator().type",
            "return torch.device(f'{kind}:{torch.accelerator.current_device_index()}')",
        ),
    ],
    "seconds_per_call": [
        "def seconds_per_call(work, device):\n    return course_utils.measure(work, device)",
        """
def seconds_per_call(work, device, calls=20):
    waits = {"cuda": lambda: torch.cuda.synchronize(device), "mps": torch.mps.synchronize}
    wait = waits.get(device.type, lambda: None)
    work(), wait()
    start = perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (perf_counter() - start) / calls
""",
        """
def seconds_per_call(work, device):
    def once():
        work()
        if torch.device("cpu") != device:
            torch.accelerator.synchronize(device)
    return min(timeit.repeat(once, number=1, repeat=9))
""".replace("return min", "once()\n    return min"),
        """
def seconds_per_call(work, device):
    work()
    if device.type != "cuda":
        return float(course_utils.measure(work, device, repeats=1))
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000
""",
        """
def seconds_per_call(work, device):
    times = []
    for _ in range(7):
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
        start = time.monotonic_ns()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        times.append((time.monotonic_ns() - start) / 1e9)
    return torch.tensor(times).median()
""",
    ],
    "nearest": [
        _nearest("((points[:, None] - centres) ** 2).sum(-1).argmin(1)"),
        _nearest("torch.stack([((points - centre) ** 2).sum(1) for centre in centres]).min(0).indices"),
        _nearest("(points @ centres.T - (centres ** 2).sum(1) / 2).argmax(dim=1)"),
        _nearest("torch.vmap(lambda point: (point - centres).norm(dim=1).argmin())(points).int()"),
    ],
}

WRONG = {
    "five_machines": {
        "gaps": _rows(E="(True, 1, ...)"),
        "rows": 'five_machines = {"A": (False, 0, "build")}',
        "types": _rows(C='(1, True, "free")'),
        "word": _rows(A='(False, 0, "windows")'),
        "contradiction": _rows(A='(False, 1, "build")'),
        "nvidia_smi": _rows(A='(True, 1, "free")'),
        "compiled": _rows(B='(True, 1, "free")'),
        "mac": _rows(D='(True, 1, "free")'),
        "no_second": _rows(E='(False, 0, "hidden")'),
        "visible": _rows(E='(True, 2, "hidden")'),
        "count": _rows(C='(True, 2, "free")'),
        "why_build": _rows(D='(False, 0, "driver")'),
        "why_driver": _rows(B='(False, 0, "build")'),
        "why_hidden": _rows(E='(True, 1, "free")'),
    },
    "available_works": {
        "true": 'available_works = "true"',
        "outdated": 'available_works = "Outdated"',
        "word": "available_works = False",
    },
    "toolkit_first": {
        "true": 'toolkit_first = "true"',
        "outdated": 'toolkit_first = "outdated"',
        "word": 'toolkit_first = "no"',
    },
    "pick_device": {
        "compiled": _picks(
            "found = torch.accelerator.current_accelerator()",
            _FALLBACK,
            "return torch.device(found.type, 0)",
        ),
        "mac": _picks("return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"),
        "intel": _picks(
            "if torch.cuda.is_available(): return torch.device('cuda', 0)",
            "return torch.device('mps', 0) if torch.backends.mps.is_available() else torch.device('cpu')",
        ),
        "old_mac": _picks(
            "if torch.backends.mps.is_built(): return torch.device('mps', 0)",
            "return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        ),
        "index": _picks(_CHECKED, "return found or torch.device('cpu')"),
        "string": _picks(_CHECKED, "return 'cpu' if found is None else f'{found.type}:0'"),
        "number": _picks(_CHECKED, _FALLBACK, "return torch.device(found.type, 1)"),
        "nothing": _picks("return torch.accelerator.current_accelerator(check_available=True)"),
        "no_gpu": _picks("return torch.device('cuda', 0)"),
        "no_cuda": _picks("return torch.device('cpu')"),
        "tensor": _picks(
            "try: return torch.ones(1, device=torch.accelerator.current_accelerator()).device",
            "except Exception: return torch.device('cpu')",
        ),
        "raises": _picks(_CHECKED, "return torch.device(found.type, 0)"),
    },
    "same_name": {
        "true": 'same_name = "true"',
        "outdated": 'same_name = "outdated"',
        "word": "same_name = True",
    },
    "who_notices": {
        "the_name": 'exercise.who_notices.guess("the name")',
        "neither": 'exercise.who_notices.guess("neither")',
        "choice": "exercise.who_notices.guess(1)",
    },
    "queue_done": {
        "returned": "exercise.queue_done.guess(5)",
        "first_launch": "exercise.queue_done.guess(15)",
        "overlap": "exercise.queue_done.guess(20)",
        "parallel": "exercise.queue_done.guess(8.0)",
        "other": "exercise.queue_done.guess(17)",
        "number": 'exercise.queue_done.guess("16")',
    },
    "seconds_per_call": {
        "launch": _timed("work()", ""),
        "before": _timed("work()", _READY),
        "warm_up": _timed(_READY, _READY),
        "cpu": _timed(
            "work(); torch.accelerator.synchronize(device) if device != 'cpu' else None",
            "torch.accelerator.synchronize(device) if device != 'cpu' else None",
        ),
        "other_gpu": _timed(
            "work(); torch.cuda.is_available() and torch.cuda.synchronize()",
            "torch.cuda.is_available() and torch.cuda.synchronize()",
        ),
        "mac": _timed(
            'work(); device.type == "cuda" and torch.cuda.synchronize(device)',
            'device.type == "cuda" and torch.cuda.synchronize(device)',
        ),
        "unit": _timed(f"work(); {_READY}", _READY, "(time.perf_counter() - start) * 1000"),
        "total": _timed(f"work(); {_READY}", f"work(); {_READY}"),
        "sleep": _timed(f"work(); {_READY}", "time.sleep(0.5)"),
        "sign": _timed(f"work(); {_READY}", _READY, "start - time.perf_counter()"),
        "clock": _timed(f"work(); {_READY}", _READY, "time.process_time() - start").replace(
            "time.perf_counter()", "time.process_time()"
        ),
        "never": "def seconds_per_call(work, device):\n    return 0.01",
        "nothing": _timed(f"work(); {_READY}", _READY, "print(time.perf_counter() - start)"),
    },
    "nearest": {
        "distances": _nearest("torch.cdist(points, centres).amin(dim=1)"),
        "swapped": _nearest("torch.cdist(points, centres).argmin(dim=0)"),
        "shape": _nearest("torch.cdist(points, centres).argsort(dim=1)"),
        "farthest": _nearest("torch.cdist(points, centres).argmax(dim=1)"),
        "dot": _nearest("(points @ centres.T).argmax(dim=1)"),
        "manhattan": _nearest("(points[:, None] - centres).abs().sum(-1).argmin(1)"),
        "list": _nearest("torch.cdist(points, centres).argmin(dim=1)[:, None].unbind()"),
        "left": _nearest("torch.cdist(points.cpu(), centres.cpu()).argmin(dim=1)"),
        "pair": _nearest("torch.cdist(points, centres).min(dim=1)"),
        "sum_first": _nearest("((points[:, None] - centres).sum(-1) ** 2).argmin(1)"),
        "as_many": _nearest(
            "torch.stack([torch.stack([((p - c) ** 2).sum() for c in centres]).argmin() for p in points])"
        ),
        "changed": _nearest("torch.cdist(points, centres.mul_(1)).argmin(dim=1)").replace(
            "mul_(1)", "add_(1)"
        ),
        "range": _nearest("torch.cdist(points, centres).argmin(dim=1) + 1"),
        "other": _nearest("torch.cdist(points, centres).argmin(dim=1).flip(0)"),
    },
}

ACTUAL = {"who_notices": '"the tensor"', "queue_done": "16.0"}
