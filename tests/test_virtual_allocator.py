"""The caching allocator of the virtual GPUs: bytes counted by hand, and what holds after any history."""

import gc
import itertools
import pickle
import random
from collections.abc import Iterator

import pytest
import torch

import course_utils
from course_utils.virtual.allocator import Allocator
from course_utils.virtual.blocks import Block
from course_utils.virtual.history import History

MIB = 2**20


@pytest.fixture
def allocator() -> Allocator:
    return Allocator(256 * MIB, 0, History(1))


@pytest.fixture
def machine() -> Iterator[course_utils.virtual.Machine]:
    with course_utils.virtual_gpus(count=2, memory="256 MiB") as machine:
        yield machine


def chain(allocator: Allocator) -> list[list[Block]]:
    """Return the blocks of every segment, lowest first."""
    found = []
    for segment in allocator.segments.values():
        blocks, block = [], segment.first
        while block is not None:
            blocks.append(block)
            block = block.after
        found.append(blocks)
    return found


def check(allocator: Allocator, live: list[Block]) -> None:
    """Assert that blocks fill their segments, free neighbours are merged, and every counter is right."""
    used, free = 0, set()
    for segment, blocks in zip(allocator.segments.values(), chain(allocator), strict=True):
        assert blocks[0].address == segment.address
        assert sum(block.size for block in blocks) == segment.size
        for one, two in itertools.pairwise(blocks):
            assert one.address + one.size == two.address
            assert two.before is one
            assert one.used or two.used
        used += sum(block.size for block in blocks if block.used)
        free |= {(block.size, block.address) for block in blocks if not block.used}
    assert {id(block) for block in live} == {id(b) for blocks in chain(allocator) for b in blocks if b.used}
    assert sorted(free) == sorted(entry[:2] for pool in allocator.pools for entry in pool.free)
    assert all(pool.free == sorted(pool.free) for pool in allocator.pools)
    counts = {name: counter.current for name, counter in allocator.statistics.items()}
    split = [b for blocks in chain(allocator) for b in blocks if not b.used and len(blocks) > 1]
    assert counts == {
        "allocation": len(live),
        "segment": len(allocator.segments),
        "inactive_split": len(split),
        "allocated_bytes": used,
        "reserved_bytes": sum(segment.size for segment in allocator.segments.values()),
        "inactive_split_bytes": sum(block.size for block in split),
        "requested_bytes": sum(block.requested for block in live),
    }


@pytest.mark.parametrize("seed", range(8))
def test_after_any_history_blocks_and_counters_agree(allocator, seed):
    draw, live = random.Random(seed), []
    sizes = [lambda: draw.randint(1, 4000), lambda: draw.randint(1, MIB), lambda: draw.randint(MIB, 30 * MIB)]
    for _ in range(300):
        if draw.random() < 0.55:
            try:
                live.append(allocator.malloc(draw.choice(sizes)()))
            except torch.OutOfMemoryError:
                assert all(len(blocks) > 1 or blocks[0].used for blocks in chain(allocator))
        elif live:
            allocator.free(live.pop(draw.randrange(len(live))))
        if draw.random() < 0.03:
            allocator.empty_cache()
        assert allocator.reserved <= allocator.capacity
        check(allocator, live)
    for block in live:
        allocator.free(block)
    allocator.empty_cache()
    assert (allocator.allocated, allocator.reserved, allocator.segments) == (0, 0, {})


def test_small_and_large_requests_by_hand(allocator):
    small = allocator.malloc(1)
    assert (small.size, allocator.allocated, allocator.reserved) == (512, 512, 2 * MIB)
    allocator.malloc(MIB)  # 1 MiB is still small, and fits behind the first
    assert (allocator.allocated, allocator.reserved) == (512 + MIB, 2 * MIB)
    allocator.malloc(MIB + 1)  # large: from a new segment of 20 MiB
    assert (allocator.allocated, allocator.reserved) == (512 + MIB + MIB + 512, 22 * MIB)
    allocator.malloc(10 * MIB)  # fits in the rest of it
    assert allocator.reserved == 22 * MIB
    allocator.malloc(10 * MIB)  # does not: 10 MiB and more get a segment of their own
    assert allocator.reserved == 32 * MIB


def test_the_smallest_free_block_that_fits_is_taken(allocator):
    blocks = [allocator.malloc(size * MIB) for size in (60, 30, 40)]
    for block in blocks:
        allocator.free(block)
    assert allocator.malloc(29 * MIB).address == blocks[1].address


def test_fragmentation_fails_where_the_sum_would_do(allocator):
    """Every second of 60 blocks of 4 MiB is freed: 136 MiB are free, but no 40 MiB in one piece."""
    blocks = [allocator.malloc(4 * MIB) for _ in range(60)]  # five in each segment of 20 MiB
    for block in blocks[::2]:
        allocator.free(block)
    assert allocator.capacity - allocator.allocated == 256 * MIB - 120 * MIB
    with pytest.raises(torch.OutOfMemoryError, match=r"120\.00 MiB is reserved by PyTorch but unallocated"):
        allocator.malloc(40 * MIB)
    assert (allocator.ooms, allocator.retries) == (1, 1)


def test_a_full_device_gives_its_cache_back_before_it_fails(allocator):
    allocator.free(allocator.malloc(200 * MIB))
    assert allocator.reserved == 200 * MIB
    allocator.malloc(100 * MIB + 1)  # cut from the cached segment
    assert allocator.reserved == 200 * MIB
    allocator.malloc(56 * MIB)
    with pytest.raises(torch.OutOfMemoryError):
        allocator.malloc(120 * MIB)


def test_demand_changes_nothing_when_there_is_room(allocator):
    allocator.demand(256 * MIB)
    assert allocator.reserved == 0
    with pytest.raises(torch.OutOfMemoryError):
        allocator.demand(256 * MIB + 1)


def test_memory_freed_by_the_garbage_collector_inside_malloc_waits_its_turn(allocator, monkeypatch):
    """A storage may die at any moment, also while a block is being cut."""
    first = allocator.malloc(3 * MIB)
    cut = Allocator._cut

    def collected(self, *details):
        if not self._waiting:
            self.free(first)
        return cut(self, *details)

    monkeypatch.setattr(Allocator, "_cut", collected)
    second = allocator.malloc(3 * MIB)
    assert second.address != first.address
    check(allocator, [second])


def test_limits_count_reserved_memory_and_can_be_taken_back(machine):
    torch.cuda.set_per_process_memory_fraction(0.5, 1)
    with pytest.raises(torch.OutOfMemoryError, match=r"128\.00 MiB allowed; Of the allocated memory"):
        torch.empty(129 * MIB, dtype=torch.uint8, device="cuda:1")
    assert torch.empty(129 * MIB, dtype=torch.uint8, device="cuda:0").nbytes == 129 * MIB
    torch.cuda.set_per_process_memory_fraction(1.0, 1)
    assert torch.empty(129 * MIB, dtype=torch.uint8, device="cuda:1").nbytes == 129 * MIB


def test_addresses_of_views_and_empty_tensors(machine):
    base = torch.zeros(10, device="cuda")
    assert base.untyped_storage().data_ptr() == base.data_ptr()
    assert base[3:].data_ptr() == base.data_ptr() + 12
    assert torch.zeros(0, device="cuda").data_ptr() == 0


def test_memory_summary_and_dumped_snapshot(machine, tmp_path):
    torch.cuda.memory._record_memory_history()
    kept = torch.zeros(MIB, device="cuda:1")
    torch.cuda.memory._dump_snapshot(str(tmp_path / "snapshot.pickle"))
    torch.cuda.memory._record_memory_history(enabled=None)
    snapshot = pickle.loads((tmp_path / "snapshot.pickle").read_bytes())
    assert [e["action"] for e in snapshot["device_traces"][1]] == ["segment_alloc", "alloc"]
    assert snapshot["device_traces"][0] == []
    assert snapshot["segments"][0]["blocks"][0]["frames"][0]["filename"] == __file__
    assert "4096 KiB" in torch.cuda.memory_summary(1)
    assert kept.data_ptr() == snapshot["device_traces"][1][1]["addr"]


def test_history_repeats_exactly_but_for_its_clock(machine):
    def entries():
        torch.cuda.memory._record_memory_history(stacks="python")
        tensor = torch.zeros(1000, device="cuda")
        del tensor
        found = list(torch.cuda.memory._snapshot()["device_traces"][0])
        torch.cuda.memory._record_memory_history(enabled=None)
        return [{k: v for k, v in entry.items() if k not in ("time_us", "frames")} for entry in found]

    assert entries()[-3:] == entries()


def test_bytes_come_back_from_a_reference_cycle(machine):
    holder = [torch.zeros(MIB, device="cuda")]
    holder.append(holder)
    del holder
    gc.collect()
    assert torch.cuda.memory_allocated() == 0
