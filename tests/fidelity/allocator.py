"""The caching allocator: segments, splitting, empty_cache, limits, snapshots and the memory history.

The sizes are large, so that what a real GPU holds from before does not serve them; differences are compared.
"""

from typing import Any

import torch

from .memory import out_of_memory, used
from .table import Table, exactly

TABLE = Table("Caching allocator")
MIB = 2**20


@TABLE.helper
def large(mebibytes: float) -> torch.Tensor:
    """Return a tensor of so many MiB on GPU 0, from memory that no earlier tensor left in the cache."""
    torch.cuda.empty_cache()
    return torch.empty(int(mebibytes * MIB), dtype=torch.uint8, device="cuda")


@TABLE.helper
def held(mebibytes: float) -> tuple[float, float]:
    """Return by how many MiB allocated and reserved memory grow through such a tensor."""
    torch.cuda.empty_cache()
    before = used(), torch.cuda.memory_reserved()
    tensor = large(mebibytes)
    grown = used() - before[0], torch.cuda.memory_reserved() - before[1]
    del tensor
    return grown[0] / MIB, grown[1] / MIB


def figure(name: str) -> int:
    """Return one figure of memory_stats."""
    return torch.cuda.memory_stats()[name]


for mebibytes, allocated, reserved in (
    (100, 100, 100),
    (100.5, 100.5, 102),  # segments over 10 MiB are multiples of 2 MiB
    (101, 102, 102),  # up to 1 MiB left over stays with the block
):
    TABLE.add((allocated, reserved), f"held({mebibytes})")

TABLE.add(1.0, "torch.cuda.get_per_process_memory_fraction()")
TABLE.add(
    exactly(ValueError, "Invalid fraction value: 1.5. Allowed range: 0~1"),
    "torch.cuda.set_per_process_memory_fraction(1.5)",
)
TABLE.add(
    exactly(TypeError, "Invalid type for fraction argument, must be `float`"),
    "torch.cuda.set_per_process_memory_fraction(1)",
)
TABLE.add("native", "torch.cuda.get_allocator_backend()")


@TABLE.situation([0, -100 * MIB])
def del_and_empty_cache() -> object:
    """del keeps the segment reserved; empty_cache gives it back to the driver"""
    tensor = large(100)
    before = torch.cuda.memory_reserved()
    del tensor
    kept = torch.cuda.memory_reserved() - before
    torch.cuda.empty_cache()
    return [kept, torch.cuda.memory_reserved() - before]


@TABLE.situation([0, 60 * MIB, 0])
def a_cached_segment_is_cut() -> object:
    """40 MiB are cut from a cached segment of 100 MiB; empty_cache cannot give the rest back"""
    tensor = large(100)
    before, split = torch.cuda.memory_reserved(), figure("inactive_split_bytes.all.current")
    del tensor
    part = torch.empty(40 * MIB, dtype=torch.uint8, device="cuda")
    grown = torch.cuda.memory_reserved() - before
    rest = figure("inactive_split_bytes.all.current") - split
    torch.cuda.empty_cache()
    del part
    return [grown, rest, torch.cuda.memory_reserved() - before]


@TABLE.situation([0, 0])
def neighbours_merge() -> object:
    """Two freed neighbours become one free block, which serves 100 MiB again"""
    whole = large(100)
    before = torch.cuda.memory_reserved()
    del whole
    parts = [torch.empty(n * MIB, dtype=torch.uint8, device="cuda") for n in (40, 60)]
    grown = torch.cuda.memory_reserved() - before
    del parts
    whole = torch.empty(100 * MIB, dtype=torch.uint8, device="cuda")
    return [grown, torch.cuda.memory_reserved() - before - whole.nbytes + 100 * MIB]


@TABLE.situation(out_of_memory(r"100\.00 MiB"))
def a_limit() -> object:
    """Beyond set_per_process_memory_fraction an allocation fails, and the text says what is allowed"""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 64 * MIB) / total)
    try:
        return large(100)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@TABLE.situation([True, True, True])
def snapshot_adds_up() -> object:
    """The segments of memory_snapshot add up to memory_reserved, their blocks to the segments"""
    tensor = large(100)
    segments = [segment for segment in torch.cuda.memory_snapshot() if segment["device"] == 0]
    blocks = [block for segment in segments for block in segment["blocks"]]
    own = [block for block in blocks if block["address"] == tensor.untyped_storage().data_ptr()]
    total = sum(segment["total_size"] for segment in segments)
    return [
        total == torch.cuda.memory_reserved(),
        total == sum(block["size"] for block in blocks),
        [(block["requested_size"], block["state"]) for block in own] == [(100 * MIB, "active_allocated")],
    ]


def recorded(label: str = "") -> list[dict[str, Any]]:
    """Return the history of making and dropping a tensor of 100 MiB, with `label` as its metadata."""
    torch.cuda.empty_cache()
    torch.cuda.memory._record_memory_history(stacks="python")
    try:
        torch.cuda.memory._set_memory_metadata(label)
        tensor = torch.empty(100 * MIB - 100, dtype=torch.uint8, device="cuda")
        del tensor
        return torch.cuda.memory._snapshot()["device_traces"][0]
    finally:
        torch.cuda.memory._set_memory_metadata("")
        torch.cuda.memory._record_memory_history(enabled=None)


@TABLE.situation(["segment_alloc", "alloc", "free_requested", "free_completed"])
def history_actions() -> object:
    """_record_memory_history notes the segment, the allocation and its end"""
    return [entry["action"] for entry in recorded()]


@TABLE.situation([100 * MIB, 100 * MIB - 100, 100 * MIB - 100, 100 * MIB - 100])
def history_sizes() -> object:
    """Sizes in the history are those that were asked for"""
    return [entry["size"] for entry in recorded()]


@TABLE.situation([{"a label"}, True, "recorded"])
def history_labels() -> object:
    """Entries carry the thread's metadata, grow in time and know the Python line"""
    entries = recorded("a label")
    times = [entry["time_us"] for entry in entries]
    return [
        {entry["user_metadata"] for entry in entries},
        times == sorted(times),
        entries[1]["frames"][0]["name"],
    ]


@TABLE.situation([[], ""])
def history_ends() -> object:
    """Once it is off, the history is empty"""
    recorded("a label")
    return [torch.cuda.memory._snapshot()["device_traces"][0], torch.cuda.memory._get_memory_metadata()]
