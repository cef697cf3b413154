"""Everyday PyTorch outside the lessons, on virtual GPUs as on CUDA: value, device, or the same refusal."""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.parallel import comm
from torch.nn.utils import rnn
from torch.profiler import ProfilerActivity, profile

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
}


@pytest.mark.parametrize("index", ASSIGNED.values(), ids=ASSIGNED)
def test_parts_are_assigned_as_on_the_cpu(index: object) -> None:
    wanted, x = torch.zeros(4, 3), torch.zeros(4, 3, device="cuda")
    for tensor in (wanted, x):
        tensor[index] = 5.0
    assert torch.equal(x.cpu(), wanted)


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


AT_9: dict[str, Callable[[torch.Tensor], object]] = {  # each is given the number 9, on the GPU
    "gather": lambda nine: ones(3).gather(0, nine),
    "scatter": lambda nine: ones(3).scatter_(0, nine, 1.0),
    "index_fill": lambda nine: ones(3).index_fill_(0, nine, 1.0),
    "take": lambda nine: ones(3).take(nine),
    "one_hot": lambda nine: nn.functional.one_hot(nine, 3),
    "EmbeddingBag": lambda nine: nn.EmbeddingBag(3, 2).cuda()(nine[None]),
    "BCELoss": lambda nine: nn.BCELoss()(nine.float(), ones(1)),
    "MultiMarginLoss": lambda nine: nn.MultiMarginLoss()(ones(1, 3), nine),
    "bernoulli": lambda nine: nine.float().bernoulli(),
}


@pytest.mark.parametrize("use", AT_9.values(), ids=AT_9)
def test_a_bad_value_is_found_by_the_kernel_and_kills_the_gpu(use: Callable[[torch.Tensor], object]) -> None:
    nine = torch.tensor([9], device="cuda")
    for attempt in (lambda: use(nine), torch.cuda.synchronize):
        with pytest.raises(torch.AcceleratorError, match="device-side assert"):
            attempt()


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


def test_profiler_and_compiler_say_what_they_do(capfd: pytest.CaptureFixture[str]) -> None:
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        ones(2) + 1
    assert "aten::add" in seen.key_averages().table()
    assert "Failed to record CUDA event" not in capfd.readouterr().err
    with pytest.warns(UserWarning, match="virtual GPUs have no compiler, the code runs as it is"):
        net = torch.compile(linear())
    assert net(ones(4, 3)).is_cuda
    with warnings.catch_warnings(), pytest.warns(UserWarning, match="no compiler"):
        assert torch.compile(mode="max-autotune")(cubed)(ones(2)).item() == 2


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
