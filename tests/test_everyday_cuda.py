"""Everyday torch.cuda on virtual GPUs: cards, streams, beginnings and ends, and what takes a real GPU."""

import re
from collections.abc import Callable
from types import BuiltinFunctionType

import numpy as np
import pytest
import torch
from everyday import linear, ones
from torch.nn.parallel import comm
from torch.profiler import ProfilerActivity, profile
from torch.utils import cpp_extension

import course_utils
from course_utils.virtual import errors

pytestmark = pytest.mark.usefixtures("two_gpus")


def test_what_programs_ask_a_card_and_its_streams() -> None:
    properties = torch.cuda.get_device_properties(1)
    wanted = {name for name in dir(torch._C._CudaDeviceProperties) if not name.startswith("_")}
    assert [name for name in wanted if not hasattr(properties, name)] == []
    assert torch.cuda.Stream().device_type == 1


def test_streams_and_events_as_cuda_has_them() -> None:
    streams = [torch.cuda.Stream("cuda:1", priority=-1) for _ in range(33)]
    assert streams[0] == streams[32] != streams[1]  # a pool of 32
    assert (streams[0].priority, torch.cuda.Stream(priority=9).priority) == (-1, 0)
    assert torch.cuda.Stream.priority_range() == (0, -3)
    with torch.cuda.stream(streams[1]):
        assert torch.cuda.current_stream() == streams[1]
        assert torch.cuda.current_device() == 1
    assert torch.cuda.current_stream() == torch.cuda.default_stream(0)
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
        torch.cuda.current_stream("cpu")
    first, second, plain = torch.cuda.Event(True), torch.cuda.Event(enable_timing=True), torch.Event("cuda")
    assert (first.device, plain.device) == (None, torch.device("cuda"))
    first.record()
    second.record(streams[0])
    assert isinstance(first, torch.Event)
    assert first.device == torch.device("cuda:0")
    with pytest.raises(RuntimeError, match="Event device 0 does not match recording"):
        first.record(streams[0])
    with pytest.raises(torch.AcceleratorError, match="invalid resource handle"):
        first.elapsed_time(second)


BEGINNINGS = torch.cuda.init, torch.cuda.current_device, torch.cuda.get_rng_state_all, lambda: ones(2)


@pytest.mark.parametrize("use", BEGINNINGS)
def test_cuda_is_begun_by_its_first_use(use: Callable[[], object]) -> None:
    assert torch.cuda.is_available()
    assert torch.cuda.device_count()
    torch.cuda.manual_seed(1)
    assert not torch.cuda.is_initialized()
    use()
    assert torch.cuda.initial_seed() == 1
    assert torch.cuda.is_initialized()


SPLITS: dict[str, tuple[str, Callable[[], object]]] = {
    "gather nothing": ("Expected at least one tensor to gather from", lambda: comm.gather([])),
    "scatter to nobody": ("Expected at least one device to scatter to", lambda: comm.scatter(ones(2), [])),
    "chunks": ("same length, but got len(devices) = 2 and len(chunk_sizes) = 1",
               lambda: comm.scatter(ones(2), [0, 1], [2])),
    "shapes": ("Input tensor at index 1 has invalid shape [2, 2], but expected [4, 2]",
               lambda: comm.gather([ones(4, 3), ones(2, 2, device="cuda:1")], 1)),
    "gather into": ("Expected out tensor to have shape [4], but got [3]",
                    lambda: comm.gather([ones(2), ones(2)], out=ones(3))),
    "gather from the CPU": ("but tensor at index 1 has device 'cpu'",
                            lambda: comm.gather([ones(2), torch.ones(2)], out=ones(4))),
    "scatter to nothing": ("Expected at least one output tensor", lambda: comm.scatter(ones(2), out=[])),
    "scatter to the CPU": ("but output tensor at index 0 has device 'cpu'",
                           lambda: comm.scatter(ones(2), out=[torch.ones(2)])),
    "scatter shapes": ("Output tensor at index 1 has incorrect shape: [1, 1, 2]. Expected same shape "
                       "except for scatter dim 0 as the source tensor: [2, 2]",
                       lambda: comm.scatter(ones(2, 2), out=[ones(1, 2), ones(1, 1, 2)])),
    "scatter sizes": ("along scatter dim 1 does not match the source tensor size at dim 1. Expected 3, but "
                      "got total size 2",
                      lambda: comm.scatter(ones(2, 3), dim=-1, out=[ones(2, 1), ones(2, 1)])),
    "broadcast shapes": ("same shape as the source tensor [2], but output tensor at index 0 has shape [3]",
                         lambda: comm.broadcast(ones(2), out=[ones(3)])),
    "broadcast from": ("All tensors must be on devices[0]: 1",
                       lambda: comm.broadcast_coalesced([ones(2)], [1, 0])),
}  # fmt: skip


@pytest.mark.parametrize(("text", "run"), SPLITS.values(), ids=SPLITS)
def test_splitting_and_gathering_check_what_they_are_given(text: str, run: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError) as found:
        run()
    assert text in str(found.value)


JITTED = "template <typename T> T f(T x) { return x; }"


ABSENT: dict[str, Callable[[], object]] = {
    "a graph": lambda: torch.cuda.CUDAGraph(),
    "callables": lambda: torch.cuda.make_graphed_callables(linear(), (ones(2, 3),)),
    "a memory pool": lambda: torch.cuda.MemPool(),
    "a stream of others": lambda: torch.cuda.ExternalStream(8),
    "settings of the allocator": lambda: torch.cuda.memory._set_allocator_settings("max_split_size_mb:1"),
    "another allocator": lambda: torch.cuda.memory.CUDAPluggableAllocator("x.so", "a", "b"),
    "a handle": lambda: torch.cuda.current_blas_handle(),
    "the runtime": lambda: torch.cuda.cudart().cudaHostRegister(0, 1, 0),
    "the driver": lambda: torch.cuda.temperature(),
    "a kernel": lambda: torch.cuda._compile_kernel("", "f"),
    "an extension": lambda: cpp_extension.CUDAExtension("f", ["f.cu"]),
    "Triton": lambda: pytest.importorskip("triton").runtime.driver.active.get_current_device(),
    "a jitted kernel": lambda: torch.cuda.jiterator._create_jit_fn(JITTED)(ones(2)),
    "an operator of CUDA alone": lambda: torch._masked_scale(ones(2), ones(2), 2.0),
    "an offset": lambda: torch.Generator("cuda").get_offset(),
    "DLPack": lambda: torch.from_dlpack(ones(2)),
    "DLPack to NumPy": lambda: np.from_dlpack(ones(2)),
    "a capsule": lambda: torch.utils.dlpack.to_dlpack(ones(2)),
    "export": lambda: torch.export.export(linear(), (ones(2, 3),)),
    "nested": lambda: torch.nested.nested_tensor([ones(2), ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([ones(2), ones(3)], layout=torch.jagged),
    "jagged views": lambda: torch.nested.as_nested_tensor([ones(2), ones(3)], layout=torch.jagged),
    "nested numbers": lambda: torch.nested.nested_tensor([[1.0], [2.0, 3.0]], device="cuda"),
    "nested, moved": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]).cuda(),
    "quantized": lambda: torch.quantize_per_tensor(ones(2), 0.1, 0, torch.quint8),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("run", ABSENT.values(), ids=ABSENT)
def test_what_takes_a_real_gpu_is_refused_in_one_line(run: Callable[[], object]) -> None:
    with pytest.raises(NotImplementedError) as found:
        run()
    assert str(found.value).startswith("Virtual GPUs do not have")
    assert "\n" not in str(found.value)


def test_every_c_function_of_cuda_is_stood_in_for_or_refused() -> None:
    kept = re.compile(f"_(cuda|nccl|gds|accelerator)_({errors.ABSENT['but_for'].replace(' ', '|')})")
    names = [
        name for name in dir(torch._C) if name.startswith(("_cuda_", "_nccl_", "_accelerator_", "_gds_"))
    ]
    found = {name: getattr(torch._C, name) for name in names if not kept.match(name)}
    native = [name for name, value in found.items() if isinstance(value, BuiltinFunctionType)]
    assert native == []


def test_who_asked_for_the_memory_in_use() -> None:
    seen: list[tuple[int, ...]] = []
    torch._C._cuda_attach_out_of_memory_observer(lambda *numbers: seen.append(numbers))
    torch.cuda.memory._record_memory_history("state", context="state", stacks="python")
    kept = torch.empty(3 * 2**20, device="cuda:1")
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**40, device="cuda:1")
    snapshot = torch.cuda.memory._snapshot()
    torch.cuda.memory._record_memory_history(None)
    blocks = [block for segment in snapshot["segments"] for block in segment["blocks"]]
    (block,) = [block for block in blocks if block["requested_size"] == kept.nbytes]
    assert block["frames"][0]["name"] == "test_who_asked_for_the_memory_in_use"
    assert [len(trace) for trace in snapshot["device_traces"]] == [0, 1]
    assert [numbers[:3] for numbers in seen] == [(1, 2**42, 2**31)]


def test_the_profiler_says_what_is_done(capfd: pytest.CaptureFixture[str]) -> None:
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as seen, torch.cuda.nvtx.range("a sum"):
        ones(2) + 1
    assert "aten::add" in seen.key_averages().table()
    assert "Failed to record CUDA event" not in capfd.readouterr().err


OUTLIVED: dict[str, Callable[[torch.Tensor], object]] = {
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "cuda": lambda x: x.cuda(),
    "add": lambda x: x + 1,
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "copy_": lambda x: torch.zeros(2).copy_(x),
    "index": lambda x: x[0],
}


@pytest.mark.parametrize("use", OUTLIVED.values(), ids=OUTLIVED)
def test_a_tensor_that_outlives_its_gpu_says_so(use: Callable[[torch.Tensor], object]) -> None:
    x = ones(2)
    course_utils.virtual.switch_off()
    with pytest.raises(RuntimeError, match="The virtual GPUs are switched off, but this tensor"):
        use(x)
    assert repr(x) == "<a tensor on cuda:0 of virtual GPUs that are switched off>"
