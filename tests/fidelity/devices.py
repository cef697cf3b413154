"""Asking for devices: what there is, which one is current, and what a wrong number gets."""

import torch

from .table import CUDA0, CUDA1, Raises, Table, exactly

TABLE = Table("Devices")

# 2.11 adds three lines about asynchronous errors, 2.15 prints them only where the error is one.
BAD_ORDINAL = Raises(
    torch.AcceleratorError,
    r"CUDA error: invalid device ordinal\nGPU device may be out of range, do you have enough GPUs\?\n"
    r"(CUDA kernel errors might be asynchronously reported.*\n)?",
)
NOT_CUDA = exactly(ValueError, "Expected a cuda device, but got: cpu")

TABLE.add(
    BAD_ORDINAL,
    'torch.zeros(2, device=f"cuda:{COUNT}")',
    "torch.tensor([1.0], device=COUNT)",
    'cpu.to(f"cuda:{COUNT}")',
    "cpu.cuda(COUNT)",
    'gpu.to(f"cuda:{COUNT}")',
    'nn.Linear(2, 2).to(f"cuda:{COUNT}")',
    'nn.Linear(2, 2, device=f"cuda:{COUNT}")',
    "torch.cuda.set_device(COUNT)",
    "torch.cuda.device(COUNT).__enter__()",
    "torch.cuda.mem_get_info(COUNT)",
    "torch.cuda.synchronize(COUNT)",
    "torch.accelerator.set_device_index(COUNT)",
)
TABLE.add(
    exactly(AssertionError, "Invalid device id"),
    "torch.cuda.get_device_properties(COUNT)",
    "torch.cuda.get_device_properties(-1)",
    "torch.cuda.get_device_name(COUNT)",
    "torch.cuda.get_device_capability(COUNT)",
)
TABLE.add(
    NOT_CUDA,
    'torch.cuda.set_device("cpu")',
    'torch.cuda.device("cpu")',
    'torch.cuda.get_device_properties("cpu")',
    'torch.cuda.memory_allocated("cpu")',
    'torch.cuda.synchronize("cpu")',
)
TABLE.add(
    exactly(ValueError, "Expected a torch.device with a specified index or an integer, but got:cuda"),
    'torch.cuda.set_device("cuda")',
)
TABLE.add(exactly(RuntimeError, "Invalid device, must be cuda device"), 'cpu.cuda("cpu")')
TABLE.add(exactly(RuntimeError, "Device index must not be negative"), "torch.zeros(2, device=-1)")
TABLE.add(
    exactly(RuntimeError, "Invalid device string: 'cuda:x'"), 'torch.device("cuda:x")', 'cpu.to("cuda:x")'
)
TABLE.add(
    Raises(RuntimeError, r"Invalid device argument .*: did you call init\?"),
    "torch.cuda.memory_allocated(COUNT)",
)
TABLE.add(
    Raises(RuntimeError, "Expected one of cpu, cuda, .* device type at start of device string: gpu"),
    'torch.zeros(2, device="gpu")',
    'cpu.to("gpu")',
)
TABLE.add(
    True,
    "torch.cuda.is_available()",
    "torch.accelerator.is_available()",
    "COUNT >= 1",
    "torch.cuda.is_initialized()",
)
TABLE.add(True, "torch.cuda.get_device_properties(0).total_memory == torch.cuda.mem_get_info(0)[1]")
TABLE.add(True, "torch.cuda.get_device_name() == torch.cuda.get_device_properties(0).name")
TABLE.add(True, "torch.accelerator.device_count() == COUNT", "torch.cuda.get_device_capability()[0] >= 5")
TABLE.add(True, "len(torch.cuda.default_generators) == COUNT", 'torch.device(f"cuda:{COUNT}").index == COUNT')
TABLE.add(torch.device("cuda"), "torch.accelerator.current_accelerator()")
TABLE.add(torch.device("cuda"), "torch.accelerator.current_accelerator(check_available=True)")
TABLE.add(torch.device("cuda", 2), "torch.device(2)")
TABLE.add(0, "torch.cuda.current_device()", "torch.accelerator.current_device_index()")
TABLE.add(
    None, "torch.cuda.synchronize()", 'torch.cuda.synchronize("cuda:0")', "torch.accelerator.synchronize()"
)
TABLE.add(
    None,
    "torch.cuda.empty_cache()",
    "torch.cuda.set_device(-1)",
    "torch.cuda.init()",
    "torch.cuda.ipc_collect()",
)


@TABLE.situation(101)
def bad_ordinal_error_code() -> object:
    """The error of a wrong device number carries CUDA's error_code"""
    try:
        torch.zeros(1, device=torch.cuda.device_count())
    except RuntimeError as error:
        return error.error_code
    return None


@TABLE.situation(0)
def failed_set_device_changes_nothing() -> object:
    """After a failed set_device the current device is the one before"""
    try:
        torch.cuda.set_device(torch.cuda.device_count())
    except torch.AcceleratorError:
        return torch.cuda.current_device()
    return None


@TABLE.situation([1, CUDA1, CUDA1, CUDA1, False, 0], gpus=2)
def set_device() -> object:
    """torch.cuda.set_device(1): "cuda" means cuda:1 from now on"""
    before = torch.ones(1, device="cuda")
    torch.cuda.set_device(1)
    try:
        seen = [
            torch.cuda.current_device(),
            torch.zeros(1, device="cuda").device,
            torch.ones(1).cuda().device,
        ]
        seen += [torch.nn.Linear(1, 1).cuda().weight.device, before.to("cuda") is before]
    finally:
        torch.cuda.set_device(0)
    return [*seen, torch.cuda.current_device()]


@TABLE.situation([1, 0, 0], gpus=2)
def device_context_nests() -> object:
    """with torch.cuda.device(1), inside it device(0): each block puts its own device back"""
    with torch.cuda.device(1):
        with torch.cuda.device(0):
            inner = torch.cuda.current_device()
        outer = torch.cuda.current_device()
    return [outer, inner, torch.cuda.current_device()]


@TABLE.situation([1, 0], gpus=2)
def device_of() -> object:
    """with torch.cuda.device_of(tensor): the tensor's device is current"""
    with torch.cuda.device_of(torch.ones(1, device="cuda:1")):
        inside = torch.cuda.current_device()
    return [inside, torch.cuda.current_device()]


@TABLE.situation(CUDA0)
def result_device_ignores_current_device() -> object:
    """The result lies where the inputs lie, whatever the current device is"""
    tensor = torch.ones(2, device="cuda:0")
    with torch.cuda.device(torch.cuda.device_count() - 1):
        return (tensor * 2).device
