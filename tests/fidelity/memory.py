"""Memory: bytes per tensor, views, frees, peaks, and running out.

The rows look at differences of `memory_allocated`, since a real GPU may hold more from before. The sizes:
every storage is rounded up to 512 bytes (`kMinBlockSize` in PyTorch's CUDACachingAllocator).
"""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import nn

from .table import Raises, Table

TABLE = Table("Memory")

SIZE = r"\d+(\.\d\d)? (bytes|KiB|MiB|GiB)"
# "Including non-PyTorch memory, ..." needs NVML; with a memory limit set, "... allowed; " follows.
OOM = (
    rf"CUDA out of memory\. Tried to allocate {{}}\. "
    rf"GPU {{}} has a total capacity of {SIZE} of which {SIZE} is free\. "
    rf"(Process \d+ has {SIZE} memory in use\. )*"
    rf"(Including non-PyTorch memory, this process has {SIZE} memory in use\. )?({SIZE} allowed; )?"
    rf"Of the allocated memory {SIZE} is allocated by PyTorch, "
    rf"and {SIZE} is reserved by PyTorch but unallocated\. "
    r"If reserved but unallocated memory is large try setting "
    r"PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation\.  "
    r"See documentation for Memory Management  \(https://docs\.pytorch\.org/docs/stable/notes/cuda\.html"
    r"#optimizing-memory-usage-with-pytorch-cuda-alloc-conf\)"
)


def out_of_memory(size: str = SIZE, device: str = "0") -> Raises:
    """Expect the out-of-memory error for an allocation of `size` (a pattern) on a device."""
    return Raises(torch.OutOfMemoryError, OOM.format(size, device))


def used(device: int = 0) -> int:
    """Return the bytes of the tensors on a GPU."""
    return torch.cuda.memory_allocated(device)


@TABLE.helper
def cost(make: Callable[[], object]) -> int:
    """Return the bytes that what `make` returns occupies on GPU 0."""
    before = used()
    kept = make()
    after = used()
    del kept
    return after - before


@TABLE.helper
def too_much() -> int:
    """Return a number of bytes that GPU 0 does not have: its total memory and 1 GiB."""
    return torch.cuda.get_device_properties(0).total_memory + 2**30


for nbytes, call in (
    (512, 'torch.zeros(1, device="cuda")'),
    (512, 'torch.zeros(128, device="cuda")'),
    (1024, 'torch.zeros(129, device="cuda")'),
    (512, 'torch.zeros(256, dtype=torch.half, device="cuda")'),
    (0, 'torch.zeros(0, device="cuda")'),
    (1024, "torch.zeros(129).cuda()"),
    (4 * 2**20, 'torch.zeros(2**20, device="cuda")'),
    (16 * 3 * 32 * 32 * 4, 'torch.zeros(16, 3, 32, 32, device="cuda")'),
    (4096 + 512, "nn.Linear(100, 10).cuda()"),
    (0, "gpu[1:]"),
    (0, "gpu.view(3, 1).expand(3, 5)"),
    (0, "gpu.detach()"),
    (0, 'gpu.to("cuda")'),
    (0, "gpu.cpu()"),
    (512, "gpu + 1"),
    (1024, "[gpu.clone(), gpu.clone()]"),
    (0, "gpu.add_(1)"),
):
    TABLE.add(nbytes, f"cost(lambda: {call})")

TABLE.add(True, "torch.cuda.OutOfMemoryError is torch.OutOfMemoryError")
TABLE.add(True, "issubclass(torch.OutOfMemoryError, RuntimeError)")
TABLE.add(True, "torch.cuda.memory_reserved() >= torch.cuda.memory_allocated()")
TABLE.add(True, "torch.cuda.mem_get_info()[0] <= torch.cuda.mem_get_info()[1]")
TABLE.add(True, "torch.cuda.memory_allocated() == torch.cuda.memory_allocated('cuda:0')")
TABLE.add(True, "torch.cuda.memory_allocated() == torch.accelerator.memory_allocated()")
TABLE.add(True, 'torch.cuda.memory_stats()["allocated_bytes.all.current"] == torch.cuda.memory_allocated()')
TABLE.add(
    out_of_memory(),
    'torch.empty(too_much(), dtype=torch.uint8, device="cuda")',
    'torch.zeros(too_much() // 4, device="cuda")',
    "torch.empty(1, dtype=torch.uint8).expand(too_much()).cuda()",
)
TABLE.add(
    Raises(torch.OutOfMemoryError, r"CUDA out of memory\. Tried to allocate more than 1EB memory\."),
    'torch.empty(2**60, dtype=torch.uint8, device="cuda")',
)


@TABLE.situation([1024, 1024, 0])
def view_keeps_memory() -> object:
    """A view keeps all the memory of its base; both gone, the memory is free"""
    before = used()
    base = torch.zeros(256, device="cuda")
    view = base[3:]
    seen = [used() - before]
    del base
    seen.append(used() - before)
    del view
    return [*seen, used() - before]


@TABLE.situation([2048, 0])
def peak_and_current() -> object:
    """max_memory_allocated keeps the highest, reset_peak_memory_stats sets it to the current"""
    before = used()
    torch.cuda.reset_peak_memory_stats()
    two = [torch.zeros(256, device="cuda") for _ in range(2)]
    del two
    peak = torch.cuda.max_memory_allocated() - before
    torch.cuda.reset_peak_memory_stats()
    return [peak, torch.cuda.max_memory_allocated() - used()]


@TABLE.situation([0, 1024, 0], gpus=2)
def each_gpu_has_its_own_count() -> object:
    """A tensor on cuda:1 is counted there alone"""
    before = used(0), used(1)
    tensor = torch.zeros(256, device="cuda:1")
    seen = [used(0) - before[0], used(1) - before[1]]
    del tensor
    return [*seen, used(1) - before[1]]


@TABLE.situation([4608, 9216, 4608, 0])
def training_memory() -> object:
    """Linear(100, 10): parameters, then as much for gradients; zero_grad frees them; .cpu() the rest"""
    before = used()
    layer = nn.Linear(100, 10).cuda()
    seen = [used() - before]
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    seen.append(used() - before)
    layer.zero_grad()
    seen.append(used() - before)
    layer.cpu()
    return [*seen, used() - before]


@TABLE.situation([4608, 13824])
def adam_memory() -> object:
    """Adam's first step adds two states of the parameters' size; their step counters stay on the CPU"""
    before = used()
    layer = nn.Linear(100, 10).cuda()
    optimizer = torch.optim.Adam(layer.parameters())
    seen = [used() - before]
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    layer.zero_grad()
    return [*seen, used() - before]


@TABLE.situation([256 * 4 + 512, 256 * 4])
def dropout_memory() -> object:
    """Dropout of 256 floats keeps its result and a mask of 1 byte each; in evaluation it keeps nothing new"""
    given = torch.ones(256, device="cuda", requires_grad=True)
    before = used()
    result = nn.functional.dropout(given, 0.5)
    seen = [used() - before]
    del result
    clone = nn.functional.dropout(given, 0.5, training=False).clone()
    return [*seen, used() - before + 0 * clone.numel()]


@TABLE.situation([512, 4096])
def growing_in_place() -> object:
    """tensor.resize_ to more elements takes a bigger storage"""
    before = used()
    tensor = torch.zeros(100, device="cuda")
    seen = [used() - before]
    tensor.resize_(1000)
    return [*seen, used() - before]


@TABLE.situation([True, 0])
def failed_allocation_changes_nothing() -> object:
    """After an out-of-memory error num_ooms has counted, tensors are as before, and small ones still fit"""
    before, failures = used(), torch.cuda.memory_stats()["num_ooms"]
    with suppress(torch.OutOfMemoryError):
        torch.empty(too_much(), dtype=torch.uint8, device="cuda")
    torch.zeros(1, device="cuda")
    return [torch.cuda.memory_stats()["num_ooms"] == failures + 1, used() - before]


@TABLE.situation(out_of_memory(r"(\d+\.00 MiB|\d+\.\d\d GiB)", "1"), gpus=2)
def out_of_memory_names_the_device() -> object:
    """The error of cuda:1 says GPU 1; large sizes are rounded up to 2 MiB"""
    nbytes = torch.cuda.get_device_properties(1).total_memory + 2**30 + 1
    return torch.empty(nbytes, dtype=torch.uint8, device="cuda:1")


@TABLE.situation([True, True])
def cached_memory() -> object:
    """A freed tensor stays reserved until empty_cache gives it back to the driver"""
    torch.cuda.empty_cache()
    tensor = torch.zeros(8 * 2**20, device="cuda")
    held = torch.cuda.memory_reserved()
    del tensor
    cached = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    return [cached == held, torch.cuda.memory_reserved() <= held - 32 * 2**20]
