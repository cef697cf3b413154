"""`torch.cuda` and `torch.accelerator` for virtual GPUs: questions about devices and memory."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch.cuda._utils import _get_device_index

from . import streams
from .machine import Machine

NAME = "Virtual GPU (CPU)"
CAPABILITY = (8, 0)  # behaves as an Ampere card: bfloat16 is supported


def _devices(machine: Machine) -> dict[str, Any]:
    """`torch.cuda`: which devices there are and which is current."""

    def properties(device: Any = None) -> SimpleNamespace:
        number = _get_device_index(device, optional=True)
        if not 0 <= number < machine.count:
            raise AssertionError("Invalid device id")
        return SimpleNamespace(
            name=NAME,
            major=CAPABILITY[0],
            minor=CAPABILITY[1],
            total_memory=machine.capacity,
            multi_processor_count=1,
            is_integrated=0,
            is_multi_gpu_board=0,
            warp_size=32,
            gcnArchName=NAME,
        )

    def exchange(device: int) -> int:
        before = machine.current
        if device >= 0:
            machine.current = device
        return before

    def set_device(device: Any) -> None:
        number = _get_device_index(device)
        if number >= 0:
            machine.current = number

    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_initialized": True,
        "_is_compiled": lambda: True,
        "_lazy_init": machine.check,
        "init": machine.check,
        "device_count": lambda: machine.count,
        "current_device": lambda: machine.current,
        "set_device": set_device,
        "_exchange_device": exchange,
        "_maybe_exchange_device": exchange,
        "get_device_name": lambda device=None: properties(device).name,
        "get_device_properties": properties,
        "get_device_capability": lambda device=None: (properties(device).major, properties(device).minor),
        "get_arch_list": lambda: ["sm_80"],
        "is_bf16_supported": lambda including_emulation=True: True,
        "can_device_access_peer": lambda device, peer: device != peer,
        "is_current_stream_capturing": lambda: False,
        "ipc_collect": lambda: None,
        "utilization": lambda device=None: 0,
    }


def _memory(machine: Machine) -> dict[str, Any]:
    """`torch.cuda`: bytes allocated, reserved, free."""

    def of(device: Any) -> Any:
        number = _get_device_index(device, optional=True)
        if not 0 <= number < machine.count:
            raise RuntimeError(f"Invalid device argument {chr(number)}: did you call init?")
        return machine.memory[number]

    def free_and_total(device: Any = None) -> tuple[int, int]:
        number = machine.valid(_get_device_index(device, optional=True))
        return machine.capacity - machine.memory[number].reserved, machine.capacity

    def reset_peak(device: Any = None) -> None:
        memory = of(device)
        memory.peak, memory.reserved_peak, memory.live_peak = memory.allocated, memory.reserved, memory.live

    def empty_cache() -> None:
        for memory in machine.memory:
            memory.empty_cache()

    return {
        "memory_allocated": lambda device=None: of(device).allocated,
        "max_memory_allocated": lambda device=None: of(device).peak,
        "memory_reserved": lambda device=None: of(device).reserved,
        "max_memory_reserved": lambda device=None: of(device).reserved_peak,
        "memory_stats": lambda device=None: statistics(of(device)),
        "mem_get_info": free_and_total,
        "reset_peak_memory_stats": reset_peak,
        "reset_max_memory_allocated": reset_peak,
        "reset_accumulated_memory_stats": lambda device=None: None,
        "empty_cache": empty_cache,
    }


def statistics(memory: Any) -> dict[str, int]:
    """Return the counters under the names of `torch.cuda.memory_stats` (one pool: all blocks are 'all')."""
    stats: dict[str, int] = {"num_ooms": memory.ooms, "num_alloc_retries": memory.ooms}
    freed = memory.total_allocated - memory.allocated
    used = (memory.allocated, memory.peak, memory.total_allocated, freed)
    held = (
        memory.reserved,
        memory.reserved_peak,
        memory.reserved_peak,
        memory.reserved_peak - memory.reserved,
    )
    count = (memory.live, memory.live_peak, memory.allocations, memory.allocations - memory.live)
    zero = (0, 0, 0, 0)
    table = {"allocated_bytes": used, "active_bytes": used, "requested_bytes": used, "reserved_bytes": held}
    table |= {"allocation": count, "active": count, "segment": zero}
    table |= {"inactive_split_bytes": zero, "inactive_split": zero}
    for metric, values in table.items():
        for pool, numbers in (("all", values), ("large_pool", zero), ("small_pool", zero)):
            for what, number in zip(("current", "peak", "allocated", "freed"), numbers, strict=True):
                stats[f"{metric}.{pool}.{what}"] = number
    for metric in ("oversize_allocations", "oversize_segments"):
        stats |= {f"{metric}.{what}": 0 for what in ("current", "peak", "allocated", "freed")}
    return stats


def _accelerator(machine: Machine, cuda: dict[str, Any]) -> dict[str, Any]:
    """The C functions below `torch.accelerator`; its Python layer stays as it is."""

    def select(index: int) -> None:
        machine.current = index

    return {
        "_accelerator_getAccelerator": lambda: torch.device("cuda"),
        "_accelerator_getDeviceIndex": lambda: machine.current,
        "_accelerator_setDeviceIndex": select,
        "_accelerator_exchangeDevice": cuda["_exchange_device"],
        "_accelerator_maybeExchangeDevice": cuda["_maybe_exchange_device"],
        "_accelerator_getStream": cuda["current_stream"],
        "_accelerator_setStream": cuda["set_stream"],
        "_accelerator_synchronizeDevice": cuda["synchronize"],
        "_accelerator_isAllocatorInitialized": lambda: True,
        "_accelerator_emptyCache": cuda["empty_cache"],
        "_accelerator_getDeviceStats": lambda device: torch.cuda.memory_stats_as_nested_dict(device),
        "_accelerator_getMemoryInfo": cuda["mem_get_info"],
        "_accelerator_resetPeakStats": cuda["reset_peak_memory_stats"],
        "_accelerator_resetAccumulatedStats": lambda device: None,
        "_cuda_getCurrentRawStream": lambda device: 0,
    }


def _nested(memory: Any) -> dict[str, Any]:
    """Return `statistics` as the nested dictionary the C functions give."""
    nested: dict[str, Any] = {}
    for key, value in statistics(memory).items():
        *path, last = key.split(".")
        place = nested
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value
    return nested


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) for `torch.cuda`, `torch.accelerator` and what they share."""
    cuda = _devices(machine) | streams.functions(machine) | _memory(machine)
    cuda["memory_stats_as_nested_dict"] = lambda device=None: _nested(
        machine.memory[machine.device(device).index]
    )
    for name, value in cuda.items():
        yield torch.cuda, name, value
        if hasattr(torch.cuda.memory, name):
            yield torch.cuda.memory, name, value
    for name, value in _accelerator(machine, cuda).items():
        yield torch._C, name, value
    yield torch, "Stream", streams.Stream
    yield torch, "Event", streams.Event
    yield torch.backends.cudnn, "is_acceptable", lambda tensor: False  # RNNs run their CPU kernels
