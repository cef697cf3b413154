"""Streams and events of virtual GPUs. Work is done when its call returns: there is never a queue."""

import itertools
import time
from typing import Any

import torch
from torch.cuda._utils import _get_device_index

from .machine import Machine, active

_numbers = itertools.count(1)  # of streams that are not the default one


def _at_once(*_: Any) -> bool:
    """Return True at once: everything is done."""
    return True


class Stream:
    """A stream on a virtual GPU. Work is done when its call returns, so there is never a queue."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device = active().device(device)
        self.device_index = self.device.index
        self.device_type = 1  # c10::DeviceType::CUDA
        self.priority = priority
        self.stream_id = self.cuda_stream = next(_numbers)

    synchronize = wait_stream = wait_event = query = _at_once

    def is_capturing(self) -> bool:
        """Return False: there are no CUDA graphs here."""
        return False

    def record_event(self, event: "Event | None" = None) -> "Event":
        """Record `event` (a new one if None) now."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def __enter__(self) -> "Stream":
        self._context = torch.cuda.StreamContext(self)
        self._context.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._context.__exit__(*exc)

    def __eq__(self, other: object) -> bool:
        key = (self.device, self.stream_id)
        return isinstance(other, Stream) and key == (other.device, other.stream_id)

    def __hash__(self) -> int:
        return hash((self.device, self.stream_id))

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


def default_stream(device: Any = None) -> Stream:
    """Return the stream that work is put on unless another is chosen (number 0)."""
    stream = Stream(device)
    stream.stream_id = stream.cuda_stream = 0
    return stream


class Event:
    """A point in time on a virtual GPU; times are wall-clock times of the CPU that does the work."""

    def __init__(self, device: Any = None, enable_timing: bool = False, **_: Any) -> None:
        self.device = active().device(device)
        self._timing = enable_timing
        self._when: float | None = None

    def __repr__(self) -> str:
        return (
            "<torch.cuda.Event uninitialized>" if self._when is None else f"<torch.cuda.Event {id(self):#x}>"
        )

    def record(self, stream: Any = None) -> None:
        """Remember the present time."""
        self._when = time.perf_counter()

    def elapsed_time(self, end: "Event") -> float:
        """Return the milliseconds from this event to `end`; both need `enable_timing=True`."""
        if not (self._timing and end._timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._when is None or end._when is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return (end._when - self._when) * 1e3

    wait = synchronize = query = _at_once


def functions(machine: Machine) -> dict[str, Any]:
    """`torch.cuda`: streams, events and waiting."""

    def current_stream(device: Any = None) -> Stream:
        number = machine.device(device).index
        return machine.streams.setdefault(number, default_stream(number))

    def set_stream(stream: Stream | None) -> None:
        if stream is not None:
            machine.current = stream.device_index
            machine.streams[stream.device_index] = stream

    def synchronize(device: Any = None) -> None:
        machine.valid(_get_device_index(device, optional=True))
        machine.check()

    def set_sync_debug_mode(mode: int | str) -> None:
        machine.sync_debug = {"default": 0, "warn": 1, "error": 2}.get(mode, mode)

    return {
        "set_sync_debug_mode": set_sync_debug_mode,
        "get_sync_debug_mode": lambda: machine.sync_debug,
        "Stream": Stream,
        "Event": Event,
        "current_stream": current_stream,
        "default_stream": default_stream,
        "set_stream": set_stream,
        "synchronize": synchronize,
    }
