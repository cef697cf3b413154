"""The trials of lesson 01: which devices there are, how to name them, and how to time them."""

from typing import Any

import torch

from .instruments.pretend import Queues, machine
from .instruments.recorder import recording
from .lesson import Lesson
from .trying import Mistake, Seen, mistake_if, same

lesson = Lesson("01")
globals().update(lesson.exercises, summary=lesson.summary)


@lesson.trial([(letter, part) for part in ("found", "why") for letter in "ABCDE"])
def five_machines(answer: Any, letter: str, part: str) -> Any:
    """See one row of the table: what torch.cuda answers, or why."""
    mistake_if(not isinstance(answer, dict) or set(answer) != set("ABCDE"), "rows")
    row = answer[letter]
    mistake_if(not isinstance(row, tuple | list) or len(row) != 3 or None in row or ... in row, "gaps")
    available, count, why = row
    mistake_if((type(available), type(count)) != (bool, int), "types")
    mistake_if(str(why).strip().lower() not in ("build", "driver", "hidden", "free"), "word")
    mistake_if(available != (count > 0), "contradiction")
    return why.strip().lower() if part == "why" else (available, count)


@lesson.trial([(None, 0), ("cuda", 0), ("cuda", 1), ("mps", 1), ("mps", 0), ("xpu", 1)])
def pick_device(answer: Any, kind: str | None, count: int) -> Any:
    """See which device is picked on a pretended machine."""
    with machine(kind, count), recording() as record:
        try:
            got = answer()
        finally:
            mistake_if(record.calls, "tensor")
    mistake_if(isinstance(got, str), "string")
    mistake_if(not isinstance(got, torch.device), "nothing", seen=got)
    return Seen((got.type, got.index if got.type != "cpu" else None), device=got)


@lesson.trial(right=lambda seen, _: 0.95 < seen[0] < 1.06)
def seconds_per_call(answer: Any, name: str, gpus: int, backlog: float, first: float) -> Seen:
    """See how many times too long or too short work is timed; backlog and first call are multiples of it."""
    device, seconds = torch.device(name), 0.004
    queues = Queues(gpus, backlog * seconds, "cuda" if name == "cpu" else device.type)
    work = queues.work(device.index, seconds, first * seconds)
    try:
        with queues.instead(getattr(answer, "__globals__", {})):
            got = answer(work, device)
    except (RuntimeError, ValueError, AssertionError) as error:
        if device.type == "cuda":
            raise
        raise Mistake("mac" if name == "mps:0" else "cpu") from error
    got = got.item() if isinstance(got, torch.Tensor) and got.numel() == 1 else got
    mistake_if(isinstance(got, bool) or not isinstance(got, int | float), "nothing", seen=got)
    times = got / seconds if queues.calls and queues.readings else 0
    seen = (round(times, 2), queues.calls > 0, queues.readings > 0)
    return Seen(seen, calls=queues.calls, times=got / seconds)


_GIVEN = 200 * (10 * 3 + 2) + 1  # launches of the function as given, for 200 points and 10 centres
_WAYS_OUT = ("numpy", "tolist", "__array__", "__dlpack__", "cpu", "to cpu")  # data that left are not counted


@lesson.trial(right=lambda reached, least: bool((reached <= least + 0.01).all()))  # for rounding
def nearest(answer: Any, n: int, k: int, d: int) -> Seen:
    """See how far each point is from the centre that is named for it, and how many launches that takes."""
    points, centres = torch.randn(n, d), torch.randn(k, d)
    before = points.clone(), centres.clone()
    with recording() as record:
        got = answer(points, centres)
    launches = sum(operation.launch for operation in record.operations)
    for call in record.calls:
        mistake_if(call in _WAYS_OUT, "left", way="It" if call.endswith("cpu") else f"{call}()")
    mistake_if(not same((points, centres), before), "changed")
    mistake_if(isinstance(got, torch.return_types.min), "pair")
    mistake_if(not isinstance(got, torch.Tensor), "list", type=type(got).__name__)
    got = got.cpu()
    mistake_if(got.is_floating_point(), "distances")
    mistake_if(n != k and got.shape == (k,), "swapped")
    mistake_if(got.shape != (n,), "shape", shape=tuple(got.shape))
    mistake_if(got.dtype == torch.bool or not ((got >= 0) & (got < k)).all(), "range")
    mistake_if(n == 200 and launches >= _GIVEN, "as_many", launches=launches)
    distances = (points[:, None].double() - centres.double()).norm(dim=-1)
    return Seen(distances.gather(1, got.long()[:, None])[:, 0], score=launches)
