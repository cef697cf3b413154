"""Random numbers per device, events and streams."""

import torch

from .table import CPU, CUDA0, CUDA1, Raises, Table, exactly

TABLE = Table("Random numbers, events and streams")

GENERATOR = "Expected a '{}' device type for generator but found '{}'"
TABLE.add(
    exactly(RuntimeError, GENERATOR.format("cuda", "cpu")),
    'torch.randn(3, device="cuda", generator=torch.Generator())',
    'torch.randint(9, (3,), device="cuda", generator=torch.Generator())',
    'torch.randperm(3, device="cuda", generator=torch.Generator())',
    "gpu.normal_(generator=torch.Generator())",
    "torch.multinomial(gpu, 1, generator=torch.Generator())",
    "torch.bernoulli(gpu / 3, generator=torch.Generator())",
)
TABLE.add(
    exactly(RuntimeError, GENERATOR.format("cpu", "cuda")),
    'torch.randn(3, generator=torch.Generator("cuda"))',
)
TABLE.add(CUDA0, 'torch.randn(3, device="cuda", generator=torch.Generator("cuda")).device')
TABLE.add(torch.device("cuda"), 'torch.Generator("cuda").device')
TABLE.add(CUDA1, 'torch.Generator("cuda:1").device')
TABLE.add(CPU, "torch.cuda.get_rng_state().device", 'torch.Generator("cuda").get_state().device')
TABLE.add(torch.uint8, "torch.cuda.get_rng_state().dtype")
TABLE.add(torch.Size([16]), "torch.cuda.get_rng_state().shape")
TABLE.add(True, "len(torch.cuda.get_rng_state_all()) == COUNT")
TABLE.add(
    exactly(TypeError, "RNG state must be a torch.ByteTensor"),
    "torch.cuda.set_rng_state(torch.cuda.get_rng_state().cuda())",
)


@TABLE.situation([7, 7, True])
def one_seed_for_all() -> object:
    """torch.manual_seed seeds the CPU and every GPU; the same seed gives the same numbers"""
    torch.manual_seed(7)
    first = torch.rand(3, device="cuda")
    torch.manual_seed(7)
    return [torch.initial_seed(), torch.cuda.initial_seed(), torch.equal(first, torch.rand(3, device="cuda"))]


@TABLE.situation([5, 7], gpus=2)
def seed_of_the_current_device() -> object:
    """torch.cuda.manual_seed seeds the current GPU alone"""
    torch.manual_seed(7)
    torch.cuda.manual_seed(5)
    return [generator.initial_seed() for generator in torch.cuda.default_generators[:2]]


@TABLE.situation({9})
def seed_of_all_devices() -> object:
    """torch.cuda.manual_seed_all seeds every GPU"""
    torch.cuda.manual_seed_all(9)
    return {generator.initial_seed() for generator in torch.cuda.default_generators}


@TABLE.situation([True, True])
def state_can_be_put_back() -> object:
    """A draw changes get_rng_state; set_rng_state brings the same draw again"""
    state = torch.cuda.get_rng_state()
    first = torch.rand(3, device="cuda")
    changed = not torch.equal(state, torch.cuda.get_rng_state())
    torch.cuda.set_rng_state(state)
    return [changed, torch.equal(first, torch.rand(3, device="cuda"))]


@TABLE.situation(True)
def gpu_generator_repeats() -> object:
    """A GPU generator with the same seed draws the same numbers"""
    draws = [torch.rand(3, device="cuda", generator=torch.Generator("cuda").manual_seed(3)) for _ in range(2)]
    return torch.equal(*draws)


@TABLE.situation(True)
def streams_of_cpu_and_gpu_are_separate() -> object:
    """Drawing on the CPU does not change a GPU's state"""
    torch.cuda.manual_seed(1)
    state = torch.cuda.get_rng_state()
    torch.rand(3)
    return torch.equal(state, torch.cuda.get_rng_state())


@TABLE.situation(exactly(RuntimeError, GENERATOR.format("cuda", "cpu")))
def shuffling_under_a_gpu_default_device() -> object:
    """DataLoader(shuffle=True) while the default device is CUDA"""
    with torch.device("cuda"):
        return next(iter(torch.utils.data.DataLoader([1, 2, 3], shuffle=True)))


TABLE.add(True, "torch.cuda.current_stream() == torch.cuda.default_stream()", "torch.cuda.Stream().query()")
TABLE.add(CUDA0, "torch.cuda.Stream().device", 'torch.Stream(device="cuda:0").device')
TABLE.add(CUDA1, "torch.cuda.Stream(device=1).device")
TABLE.add(True, "torch.cuda.Event().query()")
TABLE.add(False, "torch.cuda.is_current_stream_capturing()")
TABLE.add("<torch.cuda.Event uninitialized>", "repr(torch.cuda.Event())")
TABLE.add(0, "torch.cuda.get_sync_debug_mode()")


@TABLE.helper
def elapsed(timing: bool = True, first: bool = True, second: bool = True) -> float:
    """Return the milliseconds between two events, recorded or not."""
    start, end = (torch.cuda.Event(enable_timing=timing) for _ in range(2))
    if first:
        start.record()
    if second:
        end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


TABLE.add(True, "isinstance(elapsed(), float) and elapsed() >= 0")
TABLE.add(
    exactly(ValueError, "Both events must be created with argument 'enable_timing=True'."),
    "elapsed(timing=False)",
)
TABLE.add(
    exactly(ValueError, "Both events must be recorded before calculating elapsed time."),
    "elapsed(first=False)",
    "elapsed(second=False)",
    "elapsed(first=False, second=False)",
)


@TABLE.situation([True, True, True, [2.0, 2.0]])
def stream_context() -> object:
    """with torch.cuda.stream(s): s is current, and afterwards the stream before"""
    stream, before = torch.cuda.Stream(), torch.cuda.current_stream()
    with torch.cuda.stream(stream):
        inside = torch.cuda.current_stream() == stream
        result = torch.ones(2, device="cuda") + 1
    torch.cuda.current_stream().wait_stream(stream)
    result.record_stream(torch.cuda.current_stream())
    stream.synchronize()
    return [inside, torch.cuda.current_stream() == before, stream.query(), result.tolist()]


@TABLE.situation(exactly(RuntimeError, "called a synchronizing CUDA operation"))
def sync_debug_mode() -> object:
    """set_sync_debug_mode("error"): .item() raises"""
    number = torch.ones(1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        return number.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# The text 2.11 ends with one more line, about TORCH_USE_CUDA_DSA.
DEVICE_SIDE_ASSERT = Raises(
    torch.AcceleratorError,
    r"CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in "
    r"https://docs\.nvidia\.com/cuda/cuda-runtime-api/group__CUDART__TYPES\.html for more information\.\n"
    r"CUDA kernel errors might be asynchronously reported at some other API call, "
    r"so the stacktrace below might be incorrect\.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    r"(Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions\.\n)?",
)
