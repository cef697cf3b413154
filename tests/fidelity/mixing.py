"""Mixing devices in plain operations: what is allowed, and the words of each refusal.

Element-wise operations and reductions have one text, all other kernels another that names the argument;
indexing and `masked_fill` check by hand.
"""

from .table import CPU, CUDA0, CUDA1, Raises, Table, exactly, other_device, two_devices

TABLE = Table("Mixing devices in operations")
GPU_AND_CPU = two_devices("cuda:0", "cpu")

TABLE.add(
    CUDA0,
    "(gpu + cpu_number).device",
    "(cpu_number + gpu).device",
    "(gpu_number + cpu_number).device",
    "(cpu_number * gpu_number).device",
    "(gpu > cpu_number).device",
    "(gpu * 2.5).device",
    "(gpu + np.float32(1)).device",
    "gpu.add_(cpu_number).device",
    "torch.maximum(gpu, cpu_number).device",
    "torch.where(gpu > 1, gpu, cpu_number).device",
    "torch.where(gpu > 1, 1.0, 0.0).device",
    "torch.lerp(gpu, gpu, cpu_number).device",
    "gpu.masked_fill(gpu > 1, cpu_number).device",
    "gpu[cpu_index].device",
    "gpu[cpu_mask].device",
    "gpu[[0, 2]].device",
    "gpu[torch.tensor(1)].device",
    "gpu_square[gpu_index, cpu_index].device",
)
TABLE.add(CPU, "cpu[torch.tensor(1).cuda()].device")
TABLE.add([3.0, 4.0, 5.0], "(gpu + cpu_number).tolist()", "(cpu_number + gpu).tolist()")
TABLE.add(
    [1.0, 3.0],
    "gpu[cpu_index].tolist()",
    "gpu[cpu_mask].tolist()",
    "gpu[gpu_index].tolist()",
    "gpu[gpu_mask].tolist()",
)
TABLE.add(2, '[1, 2, 3][torch.tensor(1, device="cuda")]')

TABLE.add(
    GPU_AND_CPU,
    "gpu + cpu",
    "cpu + gpu",
    "gpu - cpu",
    "gpu * cpu",
    "gpu / cpu",
    "gpu**cpu",
    "gpu == cpu",
    "gpu < cpu",
    "gpu // cpu",
    "gpu % cpu",
    "cpu + gpu_number",
    "gpu.add_(cpu)",
    "cpu.add_(gpu)",
    "cpu.add_(gpu_number)",
    "torch.add(gpu, gpu, out=cpu)",
    "torch.maximum(gpu, cpu)",
    "torch.atan2(gpu, cpu)",
    "torch.logical_and(gpu, cpu)",
    "torch.where(cpu > 1, gpu, gpu)",
    "torch.where(gpu > 1, gpu, cpu)",
    "torch.where(cpu > 1, gpu, 0.0)",
    "torch.lerp(gpu, cpu, 0.5)",
    "torch.addcmul(gpu, gpu, cpu)",
    "torch.outer(gpu, cpu)",
    'torch.einsum("i,j->ij", gpu, cpu)',
    "torch.kron(gpu, cpu)",
    "torch.isclose(gpu, cpu)",
    "torch.allclose(gpu, cpu)",
    "gpu in [cpu]",
    "(gpu_square.argmax(1) == cpu_index.new_zeros(3)).sum()",
    "gpu.__setitem__(gpu_index, cpu[:2])",
    "gpu.__setitem__(cpu_index, cpu[:2])",
    "cpu.__setitem__(cpu_index, gpu[:2])",
)
TABLE.add(
    two_devices("cuda:0", "cuda:1"),
    "gpu + gpu1",
    "gpu_number + gpu1",
    "gpu == gpu1",
    "torch.allclose(gpu, gpu1)",
)

ON_CPU = {"device": "cpu", "others": "cuda:0"}
ON_GPU = {"device": "cuda:0", "others": "cpu"}
for method, argument, call in (
    ("mm", "mat2", "gpu_square @ cpu_square"),
    ("mm", "mat2", "torch.mm(gpu_square, cpu_square)"),
    ("mm", "mat2", "gpu_square.repeat(2, 1, 1) @ cpu_square"),
    ("mm", "mat2", "torch.tensordot(gpu_square, cpu_square, 1)"),
    ("bmm", "mat2", "torch.bmm(gpu_square[None], cpu_square[None])"),
    ("bmm", "mat2", "gpu_square[None, None] @ cpu_square.expand(1, 2, 3, 3)"),
    ("bmm", "mat2", 'torch.einsum("ij,jk->ik", gpu_square, cpu_square)'),
    ("_dot", "tensor", "torch.dot(gpu, cpu)"),
    ("addmm", "mat1", "torch.addmm(gpu, cpu_square, gpu_square)"),
    ("addmm", "mat2", "torch.addmm(gpu, gpu_square, cpu_square)"),
    ("linalg_cross", "other", "torch.linalg.cross(gpu, cpu)"),
    ("clamp_Tensor", "min", "torch.clamp(gpu, min=cpu)"),
    ("clamp_Tensor", "min", "torch.clamp(gpu, min=cpu_number)"),
    ("cat", "tensors", "torch.cat([gpu, cpu])"),
    ("cat", "tensors", "torch.stack([gpu, cpu])"),
    ("cat", "tensors", "torch.cat([gpu, gpu, cpu])"),
    ("cat", "tensors", "torch.vstack([gpu, cpu])"),
    ("cat", "tensors", "torch.cat([gpu, torch.empty(0)])"),
    ("_equal", "other", "torch.equal(gpu, cpu)"),
    ("_index_select", "index", "gpu.index_select(0, cpu_index)"),
    ("gather", "index", "gpu.gather(0, cpu_index)"),
    ("scatter__value", "index", "gpu.scatter_(0, cpu_index, 1.0)"),
    ("scatter__src", "src", "gpu.scatter_(0, gpu_index, cpu)"),
    ("scatter_add_", "src", "gpu.scatter_add_(0, gpu_index, cpu)"),
    ("index_add_", "index", "gpu.index_add_(0, cpu_index, gpu[:2])"),
    ("index_add_", "source", "gpu.index_add_(0, gpu_index, cpu[:2])"),
    ("index_copy_", "index", "gpu.index_copy_(0, cpu_index, gpu[:2])"),
    ("_take", "index", "gpu.take(cpu_index)"),
    ("_masked_select", "mask", "gpu.masked_select(cpu_mask)"),
    ("Tensor_bucketize", "boundaries", "torch.bucketize(gpu, cpu)"),
    ("isin_Tensor_Tensor", "test_elements", "torch.isin(gpu, cpu)"),
    ("__cdist_forward", "x2", "torch.cdist(gpu_square, cpu_square)"),
    ("_linalg_solve_ex", "B", "torch.linalg.solve(gpu_square, cpu_square)"),
):
    TABLE.add(other_device(argument, **ON_CPU, method=f"wrapper_CUDA_{method}"), call)
for method, argument, call in (
    ("mm", "mat2", "cpu_square @ gpu_square"),
    ("_dot", "tensor", "torch.dot(cpu, gpu)"),
    ("addmm", "mat1", "torch.addmm(cpu, gpu_square, gpu_square)"),
    ("baddbmm", "batch1", "torch.baddbmm(cpu_square[None], gpu_square[None], gpu_square[None])"),
    ("addmv_", "mat", "gpu_square @ cpu"),
    ("mm_out_out", "self", "torch.mm(gpu_square, gpu_square, out=cpu_square)"),
    ("cat", "tensors", "torch.cat([cpu, gpu])"),
    ("cat", "tensors", "torch.stack([cpu, gpu])"),
    ("_equal", "other", "torch.equal(cpu, gpu)"),
    ("_index_select", "index", "cpu.index_select(0, gpu_index)"),
    ("gather", "index", "cpu.gather(0, gpu_index)"),
):
    TABLE.add(other_device(argument, **ON_GPU, method=f"wrapper_CUDA_{method}"), call)
TABLE.add(other_device("mat2", "cuda:1", "cuda:0", "wrapper_CUDA_mm"), "gpu_square @ gpu1_square")
TABLE.add(other_device("tensors", "cuda:1", "cuda:0", "wrapper_CUDA_cat"), "torch.cat([gpu, gpu1])")

INDICES = "indices should be either on cpu or on the same device as the indexed tensor ({})"
TABLE.add(exactly(RuntimeError, INDICES.format("cpu")), "cpu[gpu_index]", "cpu[gpu_mask]")
TABLE.add(exactly(RuntimeError, INDICES.format("cuda:0")), "gpu[gpu1_index]")
MASK = "expected self and mask to be on the same device, but got mask on {} and self on {}"
TABLE.add(
    exactly(RuntimeError, MASK.format("cpu", "cuda:0")),
    "gpu.masked_fill(cpu_mask, 0.0)",
    "gpu.masked_fill_(cpu_mask, 0.0)",
)
TABLE.add(exactly(RuntimeError, MASK.format("cuda:0", "cpu")), "cpu.masked_fill(gpu_mask, 0.0)")
TABLE.add(
    exactly(RuntimeError, "expected device cuda:0 but got device cpu for value tensor"),
    "gpu.index_put_((gpu_index,), cpu[:2], accumulate=True)",
)
TABLE.add(
    exactly(RuntimeError, "Expected out tensor to have device cuda:0, but got cpu instead"),
    "torch.sum(gpu, 0, out=cpu_number)",
)
TABLE.add(
    exactly(RuntimeError, "meshgrid expects all tensors to have the same device"),
    'torch.meshgrid(gpu, cpu, indexing="ij")',
)
TABLE.add(
    exactly(AssertionError, "The values for attribute 'device' do not match: cuda:0 != cpu."),
    "torch.testing.assert_close(gpu, cpu)",
)
TABLE.add(
    Raises(RuntimeError, "Expected tensor to have cuda:0 Device, but got tensor with cpu Device .*"),
    "torch.take_along_dim(gpu, cpu_index)",
)

TABLE.add(
    None,
    "gpu.__setitem__(slice(0, 3), cpu)",
    "cpu.__setitem__(slice(0, 3), gpu)",
    "gpu.__setitem__(..., cpu)",
    "gpu.__setitem__(0, cpu_number)",
    "cpu.__setitem__(0, gpu_number)",
    "gpu.__setitem__(gpu > 1, 0.0)",
    "gpu.__setitem__(cpu > 1, 0.0)",
    "cpu.__setitem__(gpu > 1, 0.0)",
    "gpu.__setitem__(gpu_index, cpu_number)",
    "gpu.__setitem__(cpu_index, gpu[:2].clone())",
    "gpu.__setitem__(slice(None), gpu1)",
    "torch.testing.assert_close(gpu, cpu, check_device=False)",
)
TABLE.add(
    [5.0, 6.0, 7.0],
    "gpu.copy_(cpu + 4).tolist()",
    "cpu.copy_(gpu + 4).tolist()",
    "gpu.copy_(gpu1 + 4).tolist()",
)
TABLE.add(True, "torch.equal(gpu.cpu(), cpu)", "torch.equal(gpu1.cpu(), cpu)")
TABLE.add(CUDA1, "(gpu1 + cpu_number).device", "gpu1[cpu_index].device")
