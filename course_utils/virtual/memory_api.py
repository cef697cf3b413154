"""The C functions below `torch.cuda.memory`, for virtual GPUs: figures, limits, snapshots, history."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from .allocator import Allocator
from .blocks import BYTE_COUNTERS, COUNTERS, Counter, Segment
from .machine import Machine

_OLD = torch.__version__ < "2.12"  # compares as versions


def statistics(memory: Allocator) -> dict[str, Any]:
    """Return the counters as the nested dictionary that `torch.cuda.memory_stats` flattens.

    No block waits for another stream here, so what is allocated is also what is active.
    """
    pools = {"all": memory.statistics} | {pool.name: pool.statistics for pool in memory.pools}
    nested: dict[str, Any] = {
        name: {pool: asdict(statistics[name]) for pool, statistics in pools.items()}
        for name in COUNTERS + BYTE_COUNTERS
    }
    nested["active"], nested["active_bytes"] = nested["allocation"], nested["allocated_bytes"]
    for name in ("oversize_allocations", "oversize_segments"):
        nested[name] = asdict(Counter())
    nested |= {"num_alloc_retries": memory.retries, "num_ooms": memory.ooms}
    nested["num_sync_all_streams"] = memory.synchronizations
    nested |= {"num_device_alloc": memory.device_allocations, "num_device_free": memory.device_frees}
    return nested | {"max_split_size": -1} | ({} if _OLD else {"num_oom_rejections": 0})


def _counters(memory: Allocator) -> Iterator[Any]:
    for statistics_ in (memory.statistics, *(pool.statistics for pool in memory.pools)):
        yield from statistics_.values()


def describe(segment: Segment, device: int) -> dict[str, Any]:
    """Return a segment and its blocks as `torch.cuda.memory_snapshot` lists them."""
    blocks, block = [], segment.first
    while block is not None:
        state = "active_allocated" if block.used else "inactive"
        place = {"address": block.address, "size": block.size, "requested_size": block.requested}
        blocks.append({**place, "state": state, "frames": list(block.frames) if block.used else []})
        block = block.after
    used = [block for block in blocks if block["state"] == "active_allocated"]
    allocated = sum(block["size"] for block in used)
    return {
        "device": device,
        "address": segment.address,
        "total_size": segment.size,
        "allocated_size": allocated,
        "active_size": allocated,
        "requested_size": sum(block["requested_size"] for block in used),
        "stream": 0,
        "segment_type": "small" if segment.pool.name == "small_pool" else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": [],
        "blocks": blocks,
    }


def _snapshot(machine: Machine) -> dict[str, Any]:
    """Return the state and the history of all devices."""
    every = [(memory.index, segment) for memory in machine.memory for segment in memory.segments.values()]
    return {
        "segments": [
            describe(segment, index) for index, segment in sorted(every, key=lambda s: s[1].address)
        ],
        "device_traces": [list(trace) for trace in machine.history.traces],
        "allocator_settings": {"expandable_segments": False, "max_split_size": -1},
        "external_annotations": [],
    }


def _functions(machine: Machine) -> dict[str, Any]:
    history = machine.history

    def of(device: int) -> Allocator:
        if not 0 <= device < machine.count:
            raise RuntimeError(f"Invalid device argument {chr(device)}: did you call init?")
        return machine.memory[device]

    def reset_peak(device: int) -> None:
        for counter in _counters(of(device)):
            counter.peak = counter.current

    def reset_accumulated(device: int) -> None:
        for counter in _counters(of(device)):
            counter.allocated = counter.freed = 0
        of(device).reset_events()

    def empty_cache(*_: Any) -> None:
        for memory in machine.memory:
            memory.empty_cache()

    def limit(fraction: float, device: int) -> None:
        of(device).fraction, of(device).limited = fraction, True

    def set_metadata(text: str) -> None:
        history.metadata = text

    return {
        "memoryStats": lambda device: statistics(of(device)),
        "resetPeakMemoryStats": reset_peak,
        "resetAccumulatedMemoryStats": reset_accumulated,
        "emptyCache": empty_cache,
        "setMemoryFraction": limit,
        "getMemoryFraction": lambda device: of(device).fraction,
        "memorySnapshot": lambda pool=None: _snapshot(machine),
        "record_memory_history": history.record,
        "attach_out_of_memory_observer": lambda tell: history.observers.append(tell),
        "isHistoryEnabled": lambda: history.on,
        "setMemoryMetadata": set_metadata,
        "getMemoryMetadata": lambda: history.metadata,
        "memoryMetadataSupported": lambda: True,
        "getAllocatorBackend": lambda: "native",
    }


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value); the Python layer of `torch.cuda.memory` stays as it is."""
    yield from ((torch._C, f"_cuda_{name}", value) for name, value in _functions(machine).items())
