"""The unmodified `nn.DataParallel` and its parts on virtual GPUs: split, replicas, gradients, errors."""

import copy
import io
from collections import OrderedDict, namedtuple

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

import course_utils

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def machine():
    with course_utils.virtual_gpus(8) as machine:
        yield machine


class Witness(nn.Module):
    """A linear layer that notes, for each call, the rows it got and where."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 2)
        self.calls: list[tuple[int, str, int]] = []

    def forward(self, x):
        self.calls.append((len(x), str(x.device), torch.cuda.current_device()))
        return self.layer(x)


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(30, [4] * 7 + [2]), (10, [2] * 5), (8, [1] * 8), (3, [1] * 3), (1, [1]), (17, [3] * 5 + [2])],
)
def test_a_batch_splits_as_chunk_does_and_runs_in_device_order(rows, sizes):
    model = nn.DataParallel(Witness().cuda())
    model(torch.randn(rows, 5, device="cuda"))
    assert model.module.calls == [(size, f"cuda:{i}", i) for i, size in enumerate(sizes)]


def test_an_empty_batch_runs_on_every_device():
    model = nn.DataParallel(Witness().cuda())
    assert model(torch.randn(0, 5, device="cuda")).shape == (0, 2)
    assert model.module.calls == [(0, f"cuda:{i}", i) for i in range(8)]


@pytest.mark.parametrize("ids", [[0], [0, 1], [1, 0], [3, 1, 2], None])
def test_output_and_gradients_equal_one_device(ids):
    home = torch.device("cuda", ids[0] if ids else 0)
    single = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).to(home, DOUBLE)
    parallel = nn.DataParallel(copy.deepcopy(single), device_ids=ids)
    x, y = torch.randn(19, 6, device=home, dtype=DOUBLE), torch.randint(3, (19,), device=home)
    losses = [F.cross_entropy(model(x), y) for model in (single, parallel)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(*losses)
    for p, q in zip(single.parameters(), parallel.parameters(), strict=True):
        assert q.grad.device == home
        torch.testing.assert_close(p.grad, q.grad)


def test_a_mean_inside_forward_differs_for_unequal_chunks():
    class WithLoss(nn.Linear):
        def forward(self, x, y):
            return F.mse_loss(super().forward(x), y)

    torch.manual_seed(0)
    model = WithLoss(2, 1).cuda()
    x, y = torch.randn(5, 2, device=0), torch.randn(5, 1, device=0)
    with pytest.warns(UserWarning, match="gather along dimension 0"):
        parts = nn.DataParallel(model, [0, 1])(x, y)
    assert parts.shape == (2,)
    assert not torch.allclose(parts.mean(), model(x, y))
    torch.testing.assert_close((parts * torch.tensor([3.0, 2.0], device=0)).sum() / 5, model(x, y))


def test_nested_inputs_keywords_and_outputs_keep_their_structure():
    class Nested(nn.Module):
        def forward(self, pair, *, scale, table, note):
            assert note == "same for all"
            return [pair[0] * scale, (pair[1][0], {"a": table["t"]}), OrderedDict(b=pair[0] + 1)]

    x = torch.arange(12.0, device=0).view(6, 2)
    model = nn.DataParallel(Nested().cuda(), [0, 1, 2])
    out = model((x, [x * 2]), scale=3.0, table={"t": x + 5}, note="same for all")
    assert isinstance(out, list)
    assert isinstance(out[1], tuple)
    assert torch.equal(out[0], x * 3)
    assert torch.equal(out[1][0], x * 2)
    assert torch.equal(out[1][1]["a"], x + 5)
    assert torch.equal(out[2]["b"], x + 1)


def test_an_input_on_the_cpu_is_scattered_and_gets_its_gradient():
    model = nn.DataParallel(nn.Linear(3, 2).cuda())
    x = torch.randn(9, 3, requires_grad=True)
    model(x).sum().backward()
    assert x.grad.device.type == "cpu"
    torch.testing.assert_close(x.grad, model.module.weight.detach().cpu().sum(0).expand(9, 3))


def test_an_unused_parameter_gets_zeros_on_the_first_device():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    model = nn.DataParallel(Half().cuda())
    model(torch.ones(16, 3, device=0)).sum().backward()
    assert torch.equal(model.module.idle.weight.grad, torch.zeros(2, 3, device=0))


def test_an_exception_names_replica_and_device():
    class Picky(nn.Module):
        def forward(self, x):
            if x.device.index == 2:
                raise KeyError("wonderful")
            return x

    with pytest.raises(
        KeyError, match=r"Caught KeyError in replica 2 on device 2\.\nOriginal Traceback"
    ) as caught:
        nn.DataParallel(Picky().cuda())(torch.ones(8, 1, device=0))
    assert "wonderful" in str(caught.value)


@pytest.mark.parametrize(("place", "ids"), [("cpu", None), ("cuda:1", None), ("cuda:0", [1, 0])])
def test_a_module_elsewhere_is_refused_at_forward(place, ids):
    model = nn.DataParallel(nn.Linear(2, 2).to(place), ids)
    expected = f"device cuda:{ids[0] if ids else 0} .* but found one of them on device: {place}"
    with pytest.raises(RuntimeError, match=expected):
        model(torch.ones(4, 2, device=0))


def test_bad_device_ids_are_refused():
    with pytest.raises(AssertionError, match="Invalid device id"):
        nn.DataParallel(nn.Linear(2, 2).cuda(), [0, 8])


def test_buffers_written_in_forward_survive_on_the_first_device_only():
    model = nn.BatchNorm1d(3).cuda()
    x = torch.randn(8, 3, device=0)
    nn.DataParallel(model, [0, 1])(x)
    torch.testing.assert_close(model.running_mean, 0.1 * x[:4].mean(0))
    assert model.num_batches_tracked == 1


def test_one_row_for_a_replica_breaks_batch_norm():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        nn.DataParallel(nn.BatchNorm1d(3).cuda(), [0, 1])(torch.randn(3, 3, device=0))


def test_state_dict_keys_carry_the_prefix_and_attributes_hide():
    model = nn.DataParallel(nn.Linear(2, 2).cuda())
    assert list(model.state_dict()) == ["module.weight", "module.bias"]
    with pytest.raises(AttributeError, match="'DataParallel' object has no attribute 'weight'"):
        _ = model.weight


def test_replicate_copies_parameters_and_buffers():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).cuda()
    replicas = nn.parallel.replicate(net, (0, 1, 5))
    for replica, index in zip(replicas, (0, 1, 5), strict=True):
        assert {t.get_device() for t in [*replica.parameters(), *replica.buffers()]} <= {index}
        assert replica[0].weight.get_device() == index
        assert replica[1].num_batches_tracked.get_device() == index
    torch.save(replicas, io.BytesIO())


def test_zero_grad_in_a_replica_warns():
    class Wipes(nn.Linear):
        def forward(self, x):
            with pytest.warns(UserWarning, match=r"Calling \.zero_grad\(\) from a module created"):
                self.zero_grad()
            return x

    nn.DataParallel(Wipes(1, 1).cuda())(torch.rand(4, 1, device=0))


def test_no_grad_reaches_the_replicas():
    class Asks(nn.Module):
        def forward(self, x):
            assert not torch.is_grad_enabled()
            return x

    with torch.no_grad():
        nn.DataParallel(Asks().cuda())(torch.rand(4, 1, device=0))


def test_autocast_inside_and_around():
    class Half(nn.Linear):
        @torch.autocast("cuda")
        def forward(self, x):
            return super().forward(x)

    x = torch.randn(8, 8, device=0)
    assert nn.DataParallel(Half(8, 8).cuda())(x).dtype is torch.float16
    with torch.autocast("cuda", dtype=torch.bfloat16):
        # The dtype is per thread: replicas run in their own threads and fall back to float16.
        assert nn.DataParallel(nn.Linear(8, 8).cuda())(x).dtype is torch.float16
        assert nn.DataParallel(nn.Linear(8, 8).cuda(), [0])(x).dtype is torch.bfloat16


def test_recurrent_sparse_and_lazy_modules():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)

        def forward(self, x):
            self.lstm.flatten_parameters()
            return self.lstm(x)[0]

    assert nn.DataParallel(Recurrent().cuda())(torch.ones(6, 2, 3, device=0)).shape == (6, 2, 8)
    table = nn.Embedding(10, 5, sparse=True).cuda()
    nn.parallel.data_parallel(table, torch.randint(10, (20, 5), device=0), (0, 1)).sum().backward()
    assert table.weight.grad.is_sparse
    assert table.weight.grad.device == torch.device("cuda:0")
    with pytest.raises(ValueError, match="uninitialized parameter"):
        nn.DataParallel(nn.LazyLinear(3).cuda())(torch.ones(16, 2, device=0))


def test_gradient_penalty_through_the_replicas():
    net = nn.Linear(4, 1).cuda()
    x = torch.ones(2, 4, requires_grad=True).cuda()
    out = nn.DataParallel(net, [0, 1])(x)
    (slope,) = torch.autograd.grad(out, x, x.new_ones(out.size()), create_graph=True)
    slope.mean().backward()
    torch.testing.assert_close(net.weight.grad, torch.full((1, 4), 0.25, device=0))


@pytest.mark.parametrize("place", ["cpu", "cuda:0", "cuda:3"])
def test_scatter_and_its_gradients(place):
    x = torch.randn(4, 3, dtype=DOUBLE, device=place, requires_grad=True)
    first, second = nn.parallel.scatter(x, (0, 1))
    assert (first.get_device(), second.get_device()) == (0, 1)
    first.sum().backward()
    assert x.grad.device == torch.device(place)
    assert x.grad.cpu().tolist() == [[1.0] * 3] * 2 + [[0.0] * 3] * 2
    assert gradcheck(lambda t: nn.parallel.scatter(t, (0, 1)), (x,))
    assert gradgradcheck(lambda t: nn.parallel.scatter(t, (0, 1)), (x,))


@pytest.mark.parametrize("target", ["cpu", 0, 2])
@pytest.mark.parametrize("shape", [(2, 4), ()])
def test_gather_and_its_gradients(target, shape):
    parts = [torch.randn(shape, dtype=DOUBLE, device=f"cuda:{i}", requires_grad=True) for i in (0, 1)]
    out = nn.parallel.gather(parts, target)
    assert str(out.device) == (target if target == "cpu" else f"cuda:{target}")
    assert out.tolist() == torch.cat([part.detach().cpu().view(-1, *shape[1:]) for part in parts]).tolist()
    assert gradcheck(lambda a, b: nn.parallel.gather((a, b), target), parts)
    assert gradgradcheck(lambda a, b: nn.parallel.gather((a, b), target), parts)


def test_gather_refuses_dictionaries_of_different_keys():
    parts = ({"a": torch.ones(1, device=0)}, {"a": torch.ones(1, device=1), "b": torch.ones(1, device=1)})
    with pytest.raises(ValueError, match="same number of keys"):
        nn.parallel.gather(parts, 0)


def test_buffers_that_require_gradients():
    class Scale(nn.Module):
        def __init__(self, t):
            super().__init__()
            self.register_buffer("t", t)

        def forward(self, x):
            return x * self.t

    t = torch.randn(5, dtype=DOUBLE, device=0, requires_grad=True)
    model, x = nn.DataParallel(Scale(t), [0, 1]), torch.randn(2, 5, dtype=DOUBLE, device=0)
    assert gradcheck(lambda _: model(x), (t,))


def test_channels_last_gradients_keep_their_layout():
    net = nn.Conv2d(3, 4, 3).to(device="cuda", memory_format=torch.channels_last)
    nn.DataParallel(net, [0, 1])(torch.randn(4, 3, 5, 5, device=0)).sum().backward()
    assert net.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_dropout_is_reproducible():
    model = nn.DataParallel(nn.Sequential(nn.Linear(3, 50), nn.Dropout()).cuda())
    outs = []
    for _ in range(2):
        torch.manual_seed(1)
        outs.append(model(torch.ones(16, 3, device=0)))
    assert torch.equal(*outs)


def test_every_byte_comes_back(machine):
    model = nn.DataParallel(nn.Linear(50, 50).cuda())
    model(torch.randn(64, 50, device=0)).sum().backward()
    assert all(torch.cuda.max_memory_allocated(device) > 0 for device in range(machine.count))
    del model
    assert [memory.allocated for memory in machine.memory] == [0] * 8


def test_the_classes_and_functions_are_pytorchs_own():
    assert nn.DataParallel.__module__ == "torch.nn.parallel.data_parallel"
    assert nn.DataParallel.forward.__module__ == "torch.nn.parallel.data_parallel"
    for name in ("scatter", "replicate", "parallel_apply", "gather", "data_parallel"):
        assert getattr(nn.parallel, name).__module__.startswith("torch.nn.parallel")


@pytest.mark.skipif(
    torch.__version__ < "2.11", reason="before 2.11 PyTorch itself turns them into pairs of numbers"
)
def test_complex_parameters_and_inputs():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.randn(4, dtype=torch.cfloat))

        def forward(self, x):
            return x * self.factor

    model = nn.DataParallel(Scale().cuda(), [0, 1])
    x = torch.randn(6, 4, dtype=torch.cfloat, device=0)
    out = model(x)
    torch.testing.assert_close(out, x * model.module.factor)
    out.abs().sum().backward()
    assert model.module.factor.grad.dtype is torch.cfloat


def test_parameters_in_lists_and_dictionaries_reach_the_replicas():
    class Collections(nn.Module):
        def __init__(self):
            super().__init__()
            self.several = nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2) * 2)])
            self.named = nn.ParameterDict({"b": nn.Parameter(torch.ones(2) * 3)})

        def forward(self, x):
            assert {p.device for p in (*self.several, *self.named.values())} == {x.device}
            return x * self.several[0] * self.several[1] * self.named["b"]

    out = nn.DataParallel(Collections().cuda())(torch.ones(16, 2, device=0))
    assert torch.equal(out, torch.full((16, 2), 6.0, device=0))


def test_named_tuples_scatter_and_gather():
    pair = namedtuple("pair", ("a", "b"))
    x = torch.arange(8.0, device=0)
    parts = nn.parallel.scatter(pair(x, x * 2), [0, 1, 2])
    assert [(type(part), part.a.device.index, len(part.b)) for part in parts] == [
        (pair, 0, 3),
        (pair, 1, 3),
        (pair, 2, 2),
    ]
    whole = nn.parallel.gather(parts, 1)
    assert torch.equal(whole.b.cpu(), (x * 2).cpu())


def test_a_module_without_inputs_runs_once():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.ones(3))

        def forward(self):
            return self.value * 2

    assert torch.equal(nn.DataParallel(Constant().cuda())(), torch.full((3,), 2.0, device=0))


def test_buffers_changed_in_place_stay_on_the_first_device():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += len(x)
            return x

    model = nn.DataParallel(Counter().cuda(), [0, 1])
    model(torch.ones(5, 1, device=0))
    assert model.module.seen.item() == 3


def test_the_backward_of_replicas_can_use_hooks_and_checkpoints():
    class Recomputed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=False)

    model = nn.DataParallel(Recomputed().cuda())
    seen = []
    model.module.layer.weight.register_hook(lambda gradient: seen.append(gradient.device))
    model(torch.ones(16, 3, device=0, requires_grad=True)).sum().backward()
    assert seen == [torch.device("cuda:0")]
