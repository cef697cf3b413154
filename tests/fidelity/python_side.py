"""Leaving the GPU for Python and NumPy: what copies by itself, and what refuses."""

from .table import CPU, CUDA0, Raises, Table, exactly

TABLE = Table("NumPy and Python")

NUMPY = (
    "can't convert {} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
)
TABLE.add(
    exactly(TypeError, NUMPY.format("cuda:0")),
    "gpu.numpy()",
    "gpu.detach().numpy()",
    "gpu.requires_grad_().numpy()",
    "np.array(gpu)",
    "np.asarray(gpu)",
    "np.add(gpu, 1)",
    "gpu * np.ones(3)",
    "gpu.__array__()",
    "np.testing.assert_allclose(gpu, 1)",
)
TABLE.add(exactly(TypeError, NUMPY.format("cuda:1")), "gpu1.numpy()")
TABLE.add(
    exactly(
        RuntimeError, "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
    ),
    "gpu.requires_grad_().cpu().numpy()",
)
TABLE.add(
    [1.0, 2.0, 3.0],
    "gpu.cpu().numpy().tolist()",
    "gpu.numpy(force=True).tolist()",
    "[value.item() for value in gpu]",
)
TABLE.add(2.0, "gpu_number.item()", "float(gpu_number)", "gpu[1].item()")
TABLE.add(2, "int(gpu_number)", "round(gpu_number.item())", "len(range(gpu_index[1]))")
TABLE.add(True, "bool(gpu_number)", "not torch.tensor(False, device='cuda')", "2.0 == gpu_number.item()")
TABLE.add("2.00", 'f"{gpu_number:.2f}"')
TABLE.add(exactly(RuntimeError, "a Tensor with 3 elements cannot be converted to Scalar"), "gpu.item()")
TABLE.add(exactly(RuntimeError, "Boolean value of Tensor with more than one value is ambiguous"), "bool(gpu)")
TABLE.add(exactly(TypeError, "unsupported format string passed to Tensor.__format__"), 'f"{gpu:.2f}"')
TABLE.add(CPU, "torch.from_numpy(gpu.cpu().numpy()).device", "torch.tensor(gpu.cpu().numpy()).device")
TABLE.add(CUDA0, "[value for value in gpu][0].device", "max(gpu).device", "sum(gpu).device")
TABLE.add(
    exactly(RuntimeError, "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned"),
    "gpu.pin_memory()",
)
TABLE.add(
    exactly(RuntimeError, "Only dense CPU tensors can be pinned"),
    'torch.zeros(3, pin_memory=True, device="cuda")',
)
TABLE.add(
    Raises(
        AttributeError, "Can't get __cuda_array_interface__ on non-CUDA tensor type: torch.FloatTensor .*"
    ),
    "cpu.__cuda_array_interface__",
)
TABLE.add(
    True,
    "cpu.pin_memory().is_pinned()",
    "(lambda pinned: pinned.pin_memory() is pinned)(cpu.pin_memory())",
    "torch.zeros(3, pin_memory=True).is_pinned()",
    "cpu.pin_memory().to('cuda', non_blocking=True).is_cuda",
)
TABLE.add(False, "cpu.is_pinned()")
