"""The memory history of the virtual GPUs: what `torch.cuda.memory._record_memory_history` asks for.

Entries have the form that `torch.cuda.memory._snapshot` gives on a real GPU, so a dumped snapshot opens in
PyTorch's viewer (https://docs.pytorch.org/memory_viz). Their `time_us` is no time but a count that grows with
every event: it repeats exactly.
"""

import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).parent)
_clock = itertools.count(1)


def now() -> int:
    """Return a `time_us` later than that of every entry so far, and earlier than that of the next."""
    return next(_clock)


def python_stack() -> tuple[dict[str, Any], ...]:
    """Return the Python frames that led here, innermost first, without those of the virtual GPUs."""
    frames, frame = [], sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_HERE):
            frames.append({"name": code.co_name, "filename": code.co_filename, "line": frame.f_lineno})
        frame = frame.f_back
    return tuple(frames)


class History:
    """What happened to the memory of `count` devices, while somebody asked for it.

    Attributes:
        traces: for each device its entries, oldest first.
    """

    def __init__(self, count: int) -> None:
        self.traces: list[deque[dict[str, Any]]] = [deque() for _ in range(count)]
        self.on = False
        self.observers: list[Callable[[int, int, int, int], None]] = []  # of devices that are full
        self._context: str | None = None
        self._skipped: frozenset[str] = frozenset()
        self._thread = threading.local()

    def record(
        self,
        enabled: str | None = "all",
        context: str | None = "all",
        stacks: str = "all",
        max_entries: int = sys.maxsize,
        clear_history: bool = False,
        compile_context: bool = False,
        global_record_annotations: bool = False,
        skip_actions: list[str] | None = None,
        *_: Any,
    ) -> None:
        """Switch recording on or off, as the C function below `torch.cuda.memory` does.

        With `enabled="state"` there is no history, but blocks that are in use tell who asked for them.
        """
        for value, known in ((enabled, (None, "state", "all")), (context, (None, "state", "alloc", "all"))):
            if value not in known:
                raise RuntimeError(f"expected one of {known}, got {value!r}")
        self.on, self._context = enabled is not None, context
        max_entries = max_entries if enabled == "all" else 1
        self._skipped = frozenset(skip_actions or ())
        kept = [] if clear_history or not self.on else self.traces
        self.traces = [
            deque(kept[i] if kept else (), min(max_entries, sys.maxsize)) for i in range(len(self.traces))
        ]

    def add(
        self, action: str, device: int, address: int, size: int, **more: int
    ) -> tuple[dict[str, Any], ...]:
        """Note one event; return the Python stack that was noted with it."""
        if not self.on or action in self._skipped:
            return ()
        taking = action in ("alloc", "segment_alloc", "oom")
        known = self._context == "all" or (self._context is not None and taking)
        frames = python_stack() if known else ()
        place = more or {"addr": address}
        entry = {"action": action, **place, "size": size, "stream": 0, "time_us": now()}
        entry |= {"compile_context": "N/A", "user_metadata": self.metadata}
        entry["frames"] = [] if self._context == "state" else list(frames)
        self.traces[device].append(entry)
        return frames

    @property
    def metadata(self) -> str:
        """The text that this thread puts on its entries."""
        return getattr(self._thread, "metadata", "")

    @metadata.setter
    def metadata(self, text: str) -> None:
        self._thread.metadata = text
