"""Streams and events of virtual GPUs. Work is done when its call returns: there is never a queue."""

import itertools
import time
from collections import defaultdict
from typing import Any

import torch

from .errors import WORDS, invalid_handle, refusal, refuse
from .machine import Machine, active

_PRIORITIES = (0, -3)  # the lowest and the highest that PyTorch asks for
_POOL = 32  # streams of one priority on a device; the next one is the first again
_numbers: dict[tuple[int, int], itertools.count] = defaultdict(itertools.count)


def _at_once(*_: Any) -> bool:
    """Return True at once: everything is done."""
    return True


class Stream:
    """A stream on a virtual GPU. Work is done when its call returns, so there is never a queue."""

    def __init__(
        self,
        device: Any = None,
        priority: int = 0,
        *,
        stream_id: int | None = None,
        device_index: int = 0,
        device_type: int = 1,  # c10::DeviceType::CUDA
    ) -> None:
        self.device = active().device(device_index if stream_id is not None else device)
        self.device_index, self.device_type = self.device.index, device_type
        if stream_id is None:  # the number tells the priority, as in c10/cuda/CUDAStream.cpp
            wanted = max(min(priority, _PRIORITIES[0]), _PRIORITIES[1])
            number = next(_numbers[self.device_index, wanted]) % _POOL
            stream_id = number << 5 | (1 - wanted) << 1 | 1
        self.stream_id = self.cuda_stream = self.native_handle = stream_id
        self.priority = 1 - (stream_id >> 1 & 15) if stream_id else 0

    synchronize = wait_stream = wait_event = query = _at_once

    @staticmethod
    def priority_range() -> tuple[int, int]:
        """Return the lowest and the highest priority; the highest is the smallest number."""
        return _PRIORITIES

    def is_capturing(self) -> bool:
        """Return False: there are no CUDA graphs here."""
        return False

    def record_event(self, event: "Event | None" = None) -> "Event":
        """Record `event` (a new one if None) now."""
        event = CudaEvent() if event is None else event
        event.record(self)
        return event

    def __enter__(self) -> "Stream":
        self._contexts = [*getattr(self, "_contexts", ()), torch.cuda.StreamContext(self)]
        self._contexts[-1].__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._contexts.pop().__exit__(*exc)

    def __eq__(self, other: object) -> bool:
        key = (self.device, self.stream_id)
        return isinstance(other, Stream) and key == (other.device, other.stream_id)

    def __hash__(self) -> int:
        return hash((self.device, self.stream_id))

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class Event:
    """A point in time on a virtual GPU; times are wall-clock times of the CPU that does the work."""

    _refusal = "stream_of_other_index"

    def __init__(
        self,
        device: Any = None,
        *,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess: bool = False,
    ) -> None:
        self.device: torch.device | None = torch.device(active().device(device).type)
        self._timing = enable_timing
        self._when: float | None = None

    @property
    def event_id(self) -> int:
        """A number that no other event has, 0 until it is recorded."""
        return 0 if self._when is None else id(self)

    def __repr__(self) -> str:
        index = -1 if self._when is None else self.device.index
        place = f"device_type={self.device.type}, device_index={index}"
        return f"torch.Event {place}, event_flag={self._timing:d}, event_id={self.event_id}"

    def record(self, stream: Stream | None = None) -> None:
        """Remember the present time, and the device that it is recorded on."""
        stream = torch.cuda.current_stream() if stream is None else stream
        if self._when is not None and self.device != stream.device:
            refuse(WORDS[self._refusal].format(self.device.index, stream.device_index))
        self.device, self._when = stream.device, time.perf_counter()

    def elapsed_time(self, end: "Event") -> float:
        """Return the milliseconds from this event to `end`; both need `enable_timing=True`."""
        if not (self._timing and end._timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._when is None or end._when is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if self.device != end.device:
            raise invalid_handle()
        return (end._when - self._when) * 1e3

    wait = synchronize = query = _at_once
    ipc_handle = from_ipc_handle = refusal("an event of another process")


class CudaEvent(Event):
    """`torch.cuda.Event`: it has no device until it is recorded."""

    _refusal = "stream_of_other_device"

    def __init__(
        self,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess: bool = False,
        external: bool = False,
    ) -> None:
        super().__init__(enable_timing=enable_timing)
        self.device = None

    @property
    def cuda_event(self) -> int:
        """The number of the event."""
        return self.event_id

    def __repr__(self) -> str:
        return f"<torch.cuda.Event {f'{self.event_id:#x}' if self.event_id else 'uninitialized'}>"


CLASSES = {"Stream": Stream, "Event": CudaEvent}  # of torch.cuda


def functions(machine: Machine) -> dict[str, Any]:
    """The C functions below `torch.cuda`: the current stream of each device, and waiting."""

    def described(device: int, number: int) -> tuple[int, int, int]:
        return number, machine.valid(device), 1

    def set_stream(stream_id: int, device_index: int, device_type: int) -> None:
        machine.current = device_index
        machine.streams[device_index] = stream_id

    def set_sync_debug_mode(mode: int) -> None:
        machine.sync_debug = mode

    return {
        "_cuda_set_sync_debug_mode": set_sync_debug_mode,
        "_cuda_get_sync_debug_mode": lambda: machine.sync_debug,
        "_cuda_getCurrentStream": lambda device: described(device, machine.streams.get(device, 0)),
        "_cuda_getDefaultStream": lambda device: described(device, 0),
        "_cuda_getCurrentRawStream": lambda device: machine.streams.get(device, 0),
        "_cuda_setStream": set_stream,
        "_cuda_synchronize": machine.check,
        "_cuda_sleep": lambda cycles: None,  # it delays a queue, and there is none
    }
