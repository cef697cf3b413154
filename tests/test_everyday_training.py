"""Everyday training on virtual GPUs as on CUDA: derivatives, layers, optimizers, half precision."""

from collections.abc import Callable

import pytest
import torch
from everyday import linear, ones
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from course_utils.virtual import autocast

pytestmark = pytest.mark.usefixtures("two_gpus")


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


def test_lazy_layers_and_functions_that_change_a_view() -> None:
    assert nn.LazyLinear(3).double()(torch.ones(2, 2, dtype=torch.float64)).is_cpu
    assert nn.LazyConv1d(3, 1).cuda().double()(ones(1, 2, 2).double()).is_cuda
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


def test_a_recurrent_layer_of_c_plus_plus() -> None:
    net, x = nn.LSTM(2, 3, bias=False), torch.randn(4, 5, 2)
    wanted = net(x)[0]
    torch.testing.assert_close(net.cuda()(x.cuda())[0].cpu(), wanted)


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


def test_a_transformer_reads_padded_sequences() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(2, 5, 8)
    padded = torch.arange(5) >= torch.tensor([[3], [5]])
    with torch.no_grad():
        wanted = net(x, src_key_padding_mask=padded)
        found = net.cuda()(x.cuda(), src_key_padding_mask=padded.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu()[~padded], wanted[~padded])


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


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam(capturable)": lambda p: torch.optim.Adam(p, capturable=True),
    "AdamW(fused)": lambda p: torch.optim.AdamW(p, fused=True),
    "SGD(fused)": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "SGD(foreach)": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "SGD(one by one)": lambda p: torch.optim.SGD(p, lr=0.1, foreach=False),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_step_over_two_gpus_with_a_scaler(make: Callable[..., torch.optim.Optimizer]) -> None:
    nets = [linear("cuda:0"), linear("cuda:1")]
    nets[1].load_state_dict(nets[0].state_dict())
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
    assert torch.equal(*(net.weight.cpu() for net in nets))


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
