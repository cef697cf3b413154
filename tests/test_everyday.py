"""Everyday PyTorch outside the lessons, on virtual GPUs as on CUDA: value, device, or the same refusal."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import BuiltinFunctionType

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.parallel import comm
from torch.nn.utils import rnn
from torch.profiler import ProfilerActivity, profile
from torch.utils import cpp_extension

import course_utils
from course_utils.virtual import autocast, errors


@pytest.fixture(autouse=True)
def gpus() -> Iterator[None]:
    with course_utils.virtual_gpus(count=2):
        yield


def ones(*size: int, device: str = "cuda") -> torch.Tensor:
    return torch.ones(*size, device=device)


def linear(device: str = "cuda") -> nn.Linear:
    return nn.Linear(3, 3).to(device)


ASSIGNED = {
    "a list": [0, 2],
    "a range": range(2),
    "booleans": [True, False, True, False],
    "two lists": ([0, 1], [0, 2]),
    "a slice and a list": (slice(None), [0, 1]),
    "an array": np.array([0, 1]),
    "a tensor on the CPU": torch.tensor([3, 1]),
    "a mask on the CPU": torch.tensor([True, False, True, False]),
    "a yes on the CPU": torch.tensor(True),
    "nothing and a yes": (None, True),
    "an array and a list": (np.array([0, 1]), [1, 2]),
}


@pytest.mark.parametrize("index", ASSIGNED.values(), ids=ASSIGNED)
def test_parts_are_assigned_as_on_the_cpu(index: object) -> None:
    wanted, x = torch.zeros(4, 3), torch.zeros(4, 3, device="cuda")
    for tensor in (wanted, x):
        tensor[index] = 5.0
    assert torch.equal(x.cpu(), wanted)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("index", [[slice(None), [1, 2]], [[0, 2], [1]], [[-1], [0]]], ids=str)
def test_a_list_of_more_than_numbers_is_a_tuple(index: list[object]) -> None:
    wanted, x = torch.zeros(4, 3), torch.zeros(4, 3, device="cuda")
    for tensor in (wanted, x):
        tensor[index] = 5.0
    assert torch.equal(x.cpu(), wanted)


def test_assignment_takes_indices_but_no_values_from_the_cpu() -> None:
    x = torch.zeros(4, 3, device="cuda")
    x[torch.tensor(True, device="cuda")] = 2.0
    x[torch.tensor(False, device="cuda")] = 5.0
    assert x.sum() == 24
    with pytest.raises(RuntimeError, match="found at least two devices, cuda:0 and cpu!"):
        x[[0, 1]] = torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="found at least two devices, cuda:0 and cpu!"):
        x.index_fill_(0, torch.tensor([0]), 1.0)


FOUND_BY_KERNELS: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "assign": lambda x, far: x.__setitem__([9], 1.0),
    "gather": lambda x, far: x.gather(0, far[None]),
    "scatter": lambda x, far: x.scatter(0, far[None], 1.0),
    "scatter_add": lambda x, far: x.scatter_add(0, far[None], ones(1, 1)),
    "index_add": lambda x, far: x.index_add(0, far, ones(1, 3)),
    "index_fill": lambda x, far: x.index_fill(0, far, 1.0),
    "take": lambda x, far: x.take(far * 2),
    "put_": lambda x, far: x.put_(far * 2, ones(1)),
    "embedding_bag": lambda x, far: nn.functional.embedding_bag(far[None], x),
    "one_hot": lambda x, far: nn.functional.one_hot(far, 3),
    "multi_margin_loss": lambda x, far: nn.functional.multi_margin_loss(x[:1], far),
    "binary_cross_entropy": lambda x, far: nn.functional.binary_cross_entropy(x + 1, x),
    "repeat_interleave": lambda x, far: x.repeat_interleave(-far),
    "bernoulli": lambda x, far: far.float().bernoulli(),
}


@pytest.mark.parametrize("use", FOUND_BY_KERNELS.values(), ids=FOUND_BY_KERNELS)
def test_values_out_of_range_are_found_by_a_kernel(use: Callable[..., object]) -> None:
    with pytest.raises(torch.AcceleratorError, match="device-side assert triggered"):
        use(ones(2, 3), torch.tensor([9], device="cuda"))


INTEGERS: dict[str, tuple[Callable[[torch.Tensor], object], str]] = {
    "matrices": (lambda x: x @ x, "\"addmm_cuda\" not implemented for 'Long'"),
    "a vector": (lambda x: x @ x[0], "\"addmv_impl_cuda\" not implemented for 'Long'"),
    "vectors": (lambda x: x[0].int() @ x[0].int(), "\"dot\" not implemented for 'Int'"),
    "batches": (lambda x: x[None] @ x[None], "\"baddbmm_cuda\" not implemented for 'Long'"),
    "a linear layer": (
        lambda x: nn.functional.linear(x, x, x[0]),
        "\"addmm_cuda\" not implemented for 'Long'",
    ),
    "pooling": (
        lambda x: nn.functional.max_pool2d(x[None].byte(), 2),
        "\"max_pool2d_with_indices_out_cuda_frame\" not implemented for 'Byte'",
    ),
    "a convolution": (
        lambda x: nn.functional.conv2d(x[None, None], x[None, None]),
        "\"slow_conv2d_cuda\" not implemented for 'Long'",
    ),
    "a loss": (lambda x: nn.functional.multi_margin_loss(x, x[0]), "not implemented for 'Long'"),
}


HALF: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # the CPU has them in single precision alone
    "pooling": lambda x: nn.functional.avg_pool3d(x[None], 2),
    "resizing": lambda x: nn.functional.interpolate(x, size=3, mode="bilinear", antialias=True),
    "a margin": lambda x: nn.functional.multi_margin_loss(x[0, 0], torch.tensor([0, 1, 1, 0]).to(x.device)),
    "margins": lambda x: nn.functional.multilabel_margin_loss(x[0, 0], x[0, 0].long()),
}


@pytest.mark.parametrize("use", HALF.values(), ids=HALF)
def test_half_precision_where_only_cuda_has_it(use: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.rand(2, 2, 4, 4).half()
    given = [x.float().requires_grad_(), x.cuda().requires_grad_()]
    single, half = map(use, given)
    single.sum().backward()
    half.sum().backward()
    assert half.dtype is given[1].grad.dtype is torch.float16
    for one, other in ((half, single), (given[1].grad, given[0].grad)):
        torch.testing.assert_close(one.cpu(), other.half(), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_grid_is_sampled_in_single_precision(dims: int) -> None:
    data, grid = torch.randn(1, 2, *[16] * dims).half(), (torch.rand(1, *[8] * dims, dims) * 2 - 1).half()
    exact = nn.functional.grid_sample(data.double(), grid.double(), align_corners=False)
    half = nn.functional.grid_sample(data.cuda(), grid.cuda(), align_corners=False)
    torch.testing.assert_close(half.cpu(), exact.half())


@pytest.mark.parametrize(("use", "words"), INTEGERS.values(), ids=INTEGERS)
def test_kernels_refuse_types_and_the_gpu_lives_on(use: Callable[..., object], words: str) -> None:
    x = torch.ones(2, 2, dtype=torch.int64, device="cuda")
    with pytest.raises(NotImplementedError, match=words):
        use(x)
    assert (x * x).sum() == 4


def test_what_the_host_finds_leaves_the_gpu_alive() -> None:
    x = torch.zeros(2, 0, device="cuda")
    with pytest.raises(IndexError, match="out of bounds for dimension with size 0"):
        x[:, [0, 1]]
    with pytest.raises(IndexError, match="Dimension out of range"):
        x.gather(5, torch.zeros(1, 1, dtype=torch.long, device="cuda"))
    assert ones(2).sum() == 2


IN_PLACE = "uniform_ normal_ random_ exponential_ cauchy_ log_normal_".split()
INITIALISERS = "uniform_ normal_ trunc_normal_ xavier_uniform_ kaiming_normal_ orthogonal_".split()
RANDOM: dict[str, Callable[[torch.Generator], torch.Tensor]] = {
    **{name: lambda g, name=name: getattr(ones(4, 3), name)(generator=g) for name in IN_PLACE},
    **{f"init.{n}": lambda g, n=n: getattr(nn.init, n)(ones(4, 3), generator=g) for n in INITIALISERS},
    "rand": lambda g: torch.rand(4, generator=g, device="cuda"),
    "randperm": lambda g: torch.randperm(4, generator=g, device="cuda"),
    "multinomial": lambda g: torch.multinomial(ones(3), 2, generator=g),
    "bernoulli": lambda g: torch.bernoulli(ones(3) / 2, generator=g),
    "normal": lambda g: torch.normal(ones(3), 1.0, generator=g),
}


@pytest.mark.parametrize("draw", RANDOM.values(), ids=RANDOM)
def test_a_generator_of_the_gpu_draws(draw: Callable[[torch.Generator], torch.Tensor]) -> None:
    generator = torch.Generator(device="cuda")
    one, two = (draw(generator.manual_seed(1)) for _ in range(2))
    assert one.is_cuda
    assert torch.equal(one, two)
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        draw(torch.Generator())


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam(capturable)": lambda p: torch.optim.Adam(p, capturable=True),
    "AdamW(fused)": lambda p: torch.optim.AdamW(p, fused=True),
    "SGD(fused)": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "SGD(foreach)": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_step_over_two_gpus_with_a_scaler(make: Callable[..., torch.optim.Optimizer]) -> None:
    nets = [linear("cuda:0"), linear("cuda:1")]
    optimizer = make([p for net in nets for p in net.parameters()])
    scaler, before = torch.amp.GradScaler("cuda", init_scale=8.0), [net.weight.clone() for net in nets]
    for _ in range(2):
        optimizer.zero_grad()
        loss = sum(net(ones(4, 3, device=str(net.weight.device))).sum().to("cuda:0") for net in nets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert all(not torch.equal(net.weight, old) for net, old in zip(nets, before, strict=True))
    assert [net.weight.device.index for net in nets] == [0, 1]


def test_sequences_are_padded_and_packed_where_they_are() -> None:
    x = torch.randn(3, 4, 2)
    for side in ("left", "right"):
        parts = [x[0], x[1, :2]]
        wanted = rnn.pad_sequence(parts, padding_value=7.0, padding_side=side)
        found = rnn.pad_sequence([part.cuda() for part in parts], padding_value=7.0, padding_side=side)
        assert found.is_cuda
        assert torch.equal(found.cpu(), wanted)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        packed = rnn.pack_padded_sequence(x.to(device), [4, 2, 1], batch_first=True)
        result, _ = nn.LSTM(2, 5, batch_first=True).to(device)(packed)
        found.append(rnn.pad_packed_sequence(result, batch_first=True, total_length=6))
    (wanted, lengths), (padded, also) = found
    assert (packed.data.is_cuda, packed.batch_sizes.is_cpu, padded.is_cuda, also.is_cpu) == (True,) * 4
    torch.testing.assert_close(padded.cpu(), wanted)
    assert torch.equal(lengths, also)
    with pytest.raises(RuntimeError, match="'lengths' argument should be a 1D CPU int64 tensor, but got"):
        rnn.pack_padded_sequence(x.cuda(), torch.tensor([4, 2, 1], device="cuda"), batch_first=True)


@pytest.mark.parametrize("device", [None, "cpu", "cuda"])
def test_ctc_takes_lengths_as_numbers_or_from_anywhere(device: str | None) -> None:
    scores, labels = torch.randn(10, 2, 5).log_softmax(2), torch.randint(1, 5, (2, 4))
    wanted, lengths = nn.CTCLoss()(scores, labels, (10, 9), (4, 3)), [(10, 9), (4, 3)]
    lengths = lengths if device is None else [torch.tensor(one, device=device) for one in lengths]
    x = scores.cuda().requires_grad_()
    found = nn.CTCLoss()(x, labels.cuda(), *lengths)
    found.backward()
    assert (found.is_cuda, x.grad.is_cuda) == (True, True)
    torch.testing.assert_close(found.detach().cpu(), wanted)
    if device is not None:  # one sequence alone: its lengths have no dimension
        nn.CTCLoss()(x[:, 0], labels[0].cuda(), *[one[0] for one in lengths])


WRONG_SHAPE: dict[str, Callable[[], object]] = {
    "a mask": lambda: ones(4, 3)[ones(5).bool()],
    "an index": lambda: ones(4, 3).gather(0, ones(1).long()),
    "probabilities": lambda: nn.BCELoss()(ones(2), ones(3)),
    "a number that the host knows": lambda: ones(2).bernoulli_(9.0),
}


@pytest.mark.parametrize("use", WRONG_SHAPE.values(), ids=WRONG_SHAPE)
def test_the_host_finds_what_has_the_wrong_shape_and_the_gpu_lives_on(use: Callable[[], object]) -> None:
    with pytest.raises((IndexError, RuntimeError, ValueError)) as caught:
        use()
    assert not isinstance(caught.value, torch.AcceleratorError)
    assert ones(1).item() == 1


def test_types_follow() -> None:
    x = ones(2)
    assert torch.zeros(2).type_as(x).is_cuda
    assert x.type_as(torch.zeros(2)).is_cpu
    assert isinstance(x, torch.cuda.FloatTensor)
    assert not isinstance(x, torch.cuda.LongTensor)
    assert not isinstance(x.cpu(), torch.cuda.FloatTensor)
    assert torch.cuda.LongTensor([1, 2]).tolist() == [1, 2]
    assert torch.cuda.FloatTensor(2, 3).is_cuda
    assert torch.zeros(2).type(torch.cuda.HalfTensor).dtype is torch.float16
    made = type(linear().weight)(ones(2), requires_grad=True)
    assert isinstance(made, nn.Parameter)
    assert made.is_cuda


def test_sparse_gradients_train_an_embedding() -> None:
    net = nn.Embedding(5, 2, sparse=True).cuda()
    before = net.weight.detach().cpu().clone()
    net(torch.tensor([1, 1, 2], device="cuda")).sum().backward()
    assert net.weight.grad.coalesce().values().tolist() == [[2, 2], [1, 1]]
    torch.optim.SparseAdam(net.parameters()).step()
    assert (before != net.weight.cpu()).any(1).tolist() == [False, True, True, False, False]


PLACES = torch.tensor([[0, 1, 1]])


def sparse(numbers: torch.Tensor) -> torch.Tensor:
    return torch.sparse_coo_tensor(PLACES, numbers, (4,))


def sparse_and_dense(x: torch.Tensor) -> torch.Tensor:
    weight = torch.ones(3, 1, device=x.device, requires_grad=True)
    nn.functional.embedding(PLACES.to(x.device), weight, sparse=True).sum().backward()
    (weight**2).sum().backward()
    return weight.grad


SPARSE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum of two": lambda x: sparse(x) + sparse(x),
    "with a dense one": lambda x: torch.ones(4, device=x.device) + sparse(x),
    "values": lambda x: sparse(x).coalesce().values().tanh(),
    "copy": lambda x: copy.deepcopy(sparse(x).detach()),
    "there and back": lambda x: sparse(x).cpu().to(x.device),
    "product": lambda x: torch.sparse.mm(torch.diag(x).to_sparse(), x[:, None]),
    "rows": lambda x: torch.diag(x).to_sparse_csr() @ x,
    "mask": lambda x: x.sparse_mask((x > 1).float().to_sparse()),
    "softmax": lambda x: torch.sparse.softmax(torch.diag(x).to_sparse(), 1),
    "sparse and dense gradients": sparse_and_dense,
}


@pytest.mark.parametrize("use", SPARSE.values(), ids=SPARSE)
def test_sparse_tensors_compute_and_learn_as_on_the_cpu(use: Callable[[torch.Tensor], torch.Tensor]) -> None:
    given = [torch.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True) for device in ("cpu", "cuda")]
    wanted, found = map(use, given)
    assert (found.is_cuda, found.layout) == (True, wanted.layout)
    assert found.to_dense().tolist() == wanted.to_dense().tolist()
    if wanted.requires_grad and not wanted.is_leaf:
        for result in (wanted, found):
            result.to_dense().sum().backward()
        assert given[1].grad.is_cuda
        assert given[1].grad.tolist() == given[0].grad.tolist()


def test_a_sparse_tensor_is_saved_and_loaded(tmp_path: Path) -> None:
    torch.save(sparse(ones(3)), tmp_path / "sparse.pt")
    loaded = torch.load(tmp_path / "sparse.pt")
    assert (loaded.is_cuda, loaded.to_dense().tolist()) == (True, [1, 2, 0, 0])


FROM_DATA: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as_tensor": lambda x: torch.as_tensor(x, device="cuda:1"),
    "as_tensor by name": lambda x: torch.as_tensor(data=x, device="cuda:1"),
    "asarray": lambda x: torch.asarray(x, device="cuda:1", requires_grad=True),
    "sparse": lambda x: torch.sparse_coo_tensor([[0, 1]], x, (4,), device="cuda:1"),
}


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:1"])
@pytest.mark.parametrize("make", FROM_DATA.values(), ids=FROM_DATA)
def test_gradients_flow_through_factories(make: Callable[[torch.Tensor], torch.Tensor], device: str) -> None:
    x = torch.ones(2, device=device, requires_grad=True)
    made = make(x)
    assert str(made.device) == "cuda:1"
    made.to_dense().sum().backward()
    assert (x.grad.tolist(), str(x.grad.device)) == ([1, 1], device)


def test_factories_of_data_without_a_device_stay_where_the_data_is() -> None:
    x = ones(2)
    assert torch.asarray(x).data_ptr() == x.data_ptr()
    assert torch.asarray(x, device="cpu").is_cpu
    assert torch.as_tensor(x, device="cpu").is_cpu
    assert torch.sparse_coo_tensor([[0, 1]], x).is_cuda
    places = torch.tensor([[0, 1]], device="cuda")
    assert torch.sparse_coo_tensor(places, x).shape == (2,)
    with pytest.raises(RuntimeError, match="size is inconsistent with indices"):
        torch.sparse_coo_tensor(places, x, (1,), check_invariants=True)
    assert torch.tensor(data=[x[0], 2.0], device="cuda", requires_grad=True).is_leaf


def test_transforms_know_devices() -> None:
    seen = []
    found = torch.func.vmap(lambda row: seen.append((row.device, row.is_cuda)) or row.cpu() * 2)(ones(3, 2))
    assert seen == [(torch.device("cuda", 0), True)]
    assert (found.is_cpu, found.sum()) == (True, 12)
    assert torch.func.vmap(lambda row: row.cuda(1))(torch.ones(3)).device == torch.device("cuda", 1)
    with pytest.raises(NotImplementedError, match="Virtual GPUs do not carry copies"):
        torch.func.grad(lambda x: x.cpu().sum())(ones(3))


def test_batched_gradients_are_where_their_tensors_are() -> None:
    def filled(x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(3, 2, device=x.device)
        y[0] = x[0] * 2
        return y

    found = torch.autograd.functional.jacobian(filled, ones(3, 2), vectorize=True)
    assert (found.is_cuda, found.sum()) == (True, 4)
    with pytest.raises(NotImplementedError, match="Virtual GPUs do not carry copies"):
        torch.autograd.functional.jacobian(torch.Tensor.cpu, ones(3), vectorize=True)


def test_modules_of_c_plus_plus_and_lazy_ones() -> None:
    net, x = nn.LSTM(2, 3, bias=False), torch.randn(4, 5, 2)
    wanted = net(x)[0]
    torch.testing.assert_close(net.cuda()(x.cuda())[0].cpu(), wanted)
    assert nn.LazyLinear(3).to(torch.float64)(torch.ones(2, 2, dtype=torch.float64)).is_cpu
    assert (
        nn.LazyConv1d(3, 1).cuda().double()(torch.ones(1, 2, 2, device="cuda", dtype=torch.float64)).is_cuda
    )


NESTED: dict[str, Callable[[], object]] = {
    "of tensors": lambda: torch.nested.nested_tensor([ones(2), ones(3)]),
    "jagged": lambda: torch.nested.as_nested_tensor([ones(2), ones(3)], layout=torch.jagged),
    "of numbers": lambda: torch.nested.nested_tensor([[1.0], [2.0, 3.0]], device="cuda"),
    "moved": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]).cuda(),
}


@pytest.mark.parametrize("make", NESTED.values(), ids=NESTED)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_not_carried(make: Callable[[], object]) -> None:
    with pytest.raises(NotImplementedError, match="Virtual GPUs do not have what a nested"):
        make()


def cubed(x: torch.Tensor) -> torch.Tensor:
    return (x**3).sum()


def dual(x: torch.Tensor) -> torch.Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(forward_ad.make_dual(x, x.clone()) * 2).tangent


DERIVATIVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "grad": torch.func.grad(cubed),
    "hessian": torch.func.hessian(cubed),
    "jvp": lambda x: torch.func.jvp(cubed, (x,), (x,))[1],
    "jacfwd": torch.func.jacfwd(torch.sin),
    "jacrev": torch.func.jacrev(torch.sin),
    "vmap": torch.func.vmap(torch.sin),
    "dual numbers": dual,
    "vectorised": lambda x: torch.autograd.functional.jacobian(torch.sin, x, vectorize=True),
}


@pytest.mark.parametrize("derive", DERIVATIVES.values(), ids=DERIVATIVES)
def test_functional_derivatives(derive: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.arange(1.0, 4.0)
    found = derive(x.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), derive(x))


def test_lazy_layers_and_functions_that_change_a_view() -> None:
    assert nn.LazyLinear(3, device="cuda:1")(ones(4, 2, device="cuda:1")).device.index == 1
    assert nn.LazyBatchNorm1d(device="cuda")(ones(4, 3)).is_cuda
    net = nn.LazyLinear(3).cuda()
    net(ones(4, 2)).sum().backward()
    assert net.weight.grad.is_cuda

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x.mul_(2))
            return x

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    x = ones(4, 3).requires_grad_()
    y = x.clone()
    Double.apply(y[1])
    y.sum().backward()
    assert x.grad[:, 0].tolist() == [1, 2, 1, 1]


def test_autocast_keeps_to_the_lists_of_this_pytorch() -> None:
    lists, net, x = autocast.lists(), linear(), ones(4, 3)
    assert {"matmul", "conv_transpose2d.input"} <= set(lists["LOWER_PRECISION_FP"])
    assert {"layer_norm", "pow.Scalar"} <= set(lists["FP32"])
    half, wide = torch.float16, "rms_norm" in lists["FP32"]  # since 2.12 or so
    with torch.autocast("cuda", half):
        assert nn.RMSNorm(3).cuda()(x.half()).dtype is (torch.float32 if wide else half)
        with torch.no_grad():
            net(x)
        net(x).sum().backward()  # the copy that was made without gradients is not used again
    assert net.weight.grad is not None


def test_what_has_no_fixed_order_is_refused_where_that_is_asked() -> None:
    x = torch.ones(1, 1, 8, 8, device="cuda", requires_grad=True)
    loss = nn.functional.adaptive_avg_pool2d(x, 3).sum()
    try:
        torch.use_deterministic_algorithms(True)
        with pytest.raises(RuntimeError, match="adaptive_avg_pool2d_backward_cuda does not have a"):
            loss.backward(retain_graph=True)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
            loss.backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(hasattr(torch.ops.aten, name) for name in errors.ANY_ORDER)


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


class WhereItRuns(torch.autograd.Function):
    seen: torch.cuda.Stream

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        WhereItRuns.seen = torch.cuda.current_stream()
        return gradient + torch.zeros(2, device="cuda")


def test_backward_of_a_function_runs_on_its_device_and_stream() -> None:
    x, stream = ones(2, device="cuda:1").requires_grad_(), torch.cuda.Stream(1)
    WhereItRuns.apply(x).sum().backward()
    assert WhereItRuns.seen == torch.cuda.default_stream(1)
    with torch.cuda.stream(stream):
        loss = WhereItRuns.apply(x).sum()
    loss.backward()
    assert stream == WhereItRuns.seen
    assert torch.cuda.current_stream() == torch.cuda.default_stream(0)


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
    "quantized": lambda: torch.quantize_per_tensor(ones(2), 0.1, 0, torch.quint8),
}


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


ASSERTED: dict[str, Callable[[], object]] = {
    "a probability above 1": lambda: torch.bernoulli(2 * ones(2)),
    "a negative rate": lambda: torch.poisson(-ones(2)),
    "negative weights": lambda: torch.multinomial(-ones(3), 2, replacement=True),
    "a loss of what is no probability": lambda: nn.functional.binary_cross_entropy(2 * ones(2), ones(2)),
    "a class too many": lambda: nn.functional.one_hot(torch.tensor([3], device="cuda"), 3),
    "a bag": lambda: nn.functional.embedding_bag(*(torch.tensor([[5]], device="cuda"), ones(3, 3))),
    "take": lambda: torch.take(ones(2), torch.tensor([5], device="cuda")),
    "an assertion": lambda: torch._assert_async(torch.tensor(0, device="cuda")),
}


@pytest.mark.parametrize("run", ASSERTED.values(), ids=ASSERTED)
def test_what_a_kernel_asserts(run: Callable[[], object]) -> None:
    with pytest.raises(torch.AcceleratorError, match="device-side assert triggered"):
        run()


def test_what_the_host_finds_in_probabilities_and_assertions() -> None:
    with pytest.raises(RuntimeError, match="probability tensor contains either"):
        torch.multinomial(-ones(3), 2)
    for several in (0, 2):
        with pytest.raises(RuntimeError, match=r"^Boolean value of Tensor with .* is ambiguous"):
            torch._assert_async(ones(several))
    assert ones(2).tolist() == [1, 1]


def test_what_only_the_cpu_can_is_refused_as_on_cuda() -> None:
    with pytest.raises(NotImplementedError, match=r"Could not run .* 'CUDA' backend"):
        torch.histogram(ones(4), 3)
    with pytest.raises(TypeError, match=r"apply_ is only implemented on CPU tensors"):
        ones(2).apply_(abs)
    has = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    if torch.backends.cuda.is_built():
        every = (name for name in torch._C._dispatch_get_all_op_names() if not name.endswith("out"))
        lacking = {name[6:].split(".")[0] for name in every if has(name, "CPU") and not has(name, "CUDA")}
        assert errors.OPERATIONS["cpu_only"] <= lacking


def test_storages_and_tensors_of_old_types_are_on_their_device() -> None:
    before = torch.cuda.memory_allocated(1)
    storage = ones(4, device="cuda:1").storage()
    copy = storage.clone()
    assert torch.cuda.memory_allocated(1) == before + 1024
    assert copy.device == storage.byte().device == torch.device("cuda:1")
    assert storage.cuda(0).device == torch.cuda.IntStorage(4).device == torch.device("cuda:0")
    assert torch.cuda.FloatTensor(3, device=1).device == torch.device("cuda:1")
    assert ones(2).new([1, 2], device="cuda:1").tolist() == [1, 2]
    assert repr(type(ones(2))) == "<class 'torch.Tensor'>"


def test_a_sparse_tensor_goes_where_its_values_are() -> None:
    places, values = torch.tensor([[0, 1], [2, 0]]), ones(2, device="cuda:1").requires_grad_()
    with torch.sparse.check_sparse_tensor_invariants():
        found = torch.sparse_coo_tensor(places, values)
        with pytest.raises(RuntimeError, match="size is inconsistent with indices"):
            torch.sparse_coo_tensor(places, values, (1, 1))
    assert (found.device, found.shape) == (torch.device("cuda:1"), (2, 3))
    found.to_dense().sum().backward()
    assert values.grad.tolist() == [1, 1]


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


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_code_on_the_cpu_is_compiled(backend: str) -> None:
    net, x = linear("cpu"), torch.rand(4, 3)
    compiled = torch.compile(net, backend=backend)
    compiled(x).sum().backward()
    assert torch.equal(compiled(x), net(x))
    assert compiled.state_dict().keys() == {"_orig_mod.weight", "_orig_mod.bias"}
    assert net.weight.grad.tolist() == [x.sum(0).tolist()] * 3


COMPILED: dict[str, Callable[[], object]] = {
    "a network": lambda: torch.compile(linear())(torch.ones(4, 3)),
    "what it is given": lambda: torch.compile(mode="max-autotune")(cubed)(ones(2)),
}


@pytest.mark.parametrize("use", COMPILED.values(), ids=COMPILED)
def test_there_is_no_compiler_for_virtual_gpus(
    use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match="Virtual GPUs have no compiler for torch"):
        use()
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    assert torch.compile(linear())(ones(4, 3)).is_cuda
    monkeypatch.delenv("TORCH_COMPILE_DISABLE")
    assert torch.compile(linear(), backend="eager")(ones(4, 3)).is_cuda


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


def test_attention_with_a_score_of_one_s_own_has_gradients() -> None:
    found, wanted = [], []
    for device, results in (("cuda", found), ("cpu", wanted)):
        torch.manual_seed(0)
        given = [torch.randn(1, 2, 128, 4).to(device).requires_grad_() for _ in range(3)]
        if device == "cuda":
            mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 128, 128)
            results.append(flex_attention(*given, block_mask=mask))
        else:
            results.append(nn.functional.scaled_dot_product_attention(*given, is_causal=True))
        results += torch.autograd.grad(results[0].square().sum(), given)
    assert all(tensor.is_cuda for tensor in found)
    torch.testing.assert_close([tensor.cpu() for tensor in found], wanted)


def test_a_fake_tensor_is_filled_without_a_driver() -> None:
    with FakeTensorMode():  # a DTensor's shape is found with one
        assert ones(3, device="cuda:1").uniform_().device == torch.device("cuda:1")


def test_a_transformer_reads_padded_sequences() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(2, 5, 8)
    padded = torch.arange(5) >= torch.tensor([[3], [5]])
    with torch.no_grad():
        wanted = net(x, src_key_padding_mask=padded)
        found = net.cuda()(x.cuda(), src_key_padding_mask=padded.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu()[~padded], wanted[~padded])


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
