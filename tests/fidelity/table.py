"""What a row of the fidelity table is, and how one is run."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CPU = torch.device("cpu")
CUDA0 = torch.device("cuda", 0)
CUDA1 = torch.device("cuda", 1)
_DEVICES = {"cpu": CPU, "gpu": CUDA0, "gpu1": CUDA1}
_OBJECTS: dict[str, Callable[[], torch.Tensor]] = {
    "": lambda: torch.tensor([1.0, 2.0, 3.0]),
    "number": lambda: torch.tensor(2.0),
    "square": lambda: torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]),
    "index": lambda: torch.tensor([0, 2]),
    "mask": lambda: torch.tensor([True, False, True]),
    "images": lambda: torch.ones(2, 3, 8, 8),
}


@dataclass(frozen=True)
class Raises:
    """An exception: its exact class, and a regular expression for its whole text (newlines count)."""

    kind: type[Exception]
    pattern: str

    def __str__(self) -> str:
        text = re.sub(r"\\(.)", r"\1", self.pattern)
        return f"{self.kind.__name__}: {text}"


@dataclass(frozen=True)
class Row:
    """One call and what CUDA does.

    Attributes:
        topic: heading in the printed table.
        call: the Python expression that is evaluated, or the name of the situation that `run` makes.
        expect: what comes out: a value compared with `==`, or `Raises`.
        gpus: how many GPUs the call needs.
        run: the call as a function where it does not fit in one expression.
        helpers: the topic's own functions that the expression uses.
    """

    topic: str
    call: str
    expect: object
    gpus: int = 1
    run: Callable[[], object] | None = None
    helpers: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class Table:
    """The rows of one topic, filled in at import, and the functions their expressions may use."""

    topic: str
    rows: list[Row] = field(default_factory=list)
    helpers: dict[str, Any] = field(default_factory=dict)

    def helper(self, thing: Any) -> Any:
        """Let the expressions of this topic use the decorated function or class."""
        self.helpers[thing.__name__] = thing
        return thing

    def add(self, expect: object, *calls: str, gpus: int = 1) -> None:
        """Add expressions that all end the same way; one that names gpu1 or cuda:1 needs two GPUs."""
        for call in calls:
            needed = 2 if re.search(r"gpu1|cuda:1|cuda\(1\)|device=1\b", call) else 1
            self.rows.append(Row(self.topic, call, expect, max(gpus, needed), helpers=self.helpers))

    def situation(
        self, expect: object, gpus: int = 1
    ) -> Callable[[Callable[[], object]], Callable[[], object]]:
        """Add the decorated function; its docstring is what the table prints."""

        def register(run: Callable[[], object]) -> Callable[[], object]:
            self.rows.append(Row(self.topic, (run.__doc__ or run.__name__).strip(), expect, gpus, run))
            return run

        return register


def exactly(kind: type[Exception], text: str) -> Raises:
    """Expect this very text."""
    return Raises(kind, re.escape(text))


def two_devices(first: str, second: str) -> Raises:
    """Expect the text of element-wise operations (TensorIterator)."""
    found = f"found at least two devices, {first} and {second}!"
    return exactly(RuntimeError, f"Expected all tensors to be on the same device, but {found}")


def other_device(argument: str, device: str, others: str, method: str) -> Raises:
    """Expect the text of all other kernels: it names the argument, and the kernel's wrapper."""
    where = f"got {argument} is on {device}, different from other tensors on {others}"
    check = f"(when checking argument in method {method})"
    return exactly(RuntimeError, f"Expected all tensors to be on the same device, but {where} {check}")


def names(call: str) -> dict[str, Any]:
    """Make the objects that an expression names: cpu, gpu (on cuda:0), gpu1 (on cuda:1), gpu_index, ..."""
    made = {"torch": torch, "nn": nn, "F": F, "np": np, "COUNT": torch.cuda.device_count()}
    for word in set(re.findall(r"\w+", call)):
        place, _, kind = word.partition("_")
        if place in _DEVICES and kind in _OBJECTS:
            made[word] = _OBJECTS[kind]().to(_DEVICES[place])
    return made


def evaluate(row: Row) -> object:
    """Run the row's call and return what came out."""
    if row.run is not None:
        return row.run()
    return eval(row.call, names(row.call) | row.helpers)  # the expressions are the table's own


def matches(row: Row, outcome: object) -> bool:
    """Say whether a value or a raised exception is what the row expects."""
    if isinstance(row.expect, Raises):
        right_kind = type(outcome) is row.expect.kind
        return right_kind and re.fullmatch(row.expect.pattern, str(outcome), re.DOTALL) is not None
    return not isinstance(outcome, BaseException) and bool(outcome == row.expect)
