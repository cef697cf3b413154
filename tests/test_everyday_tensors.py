"""Everyday tensors on virtual GPUs as on CUDA: factories, types, random numbers, sparse and packed ones."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from everyday import linear, ones
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils import rnn

pytestmark = pytest.mark.usefixtures("two_gpus")

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


def test_a_sparse_tensor_goes_where_its_values_are() -> None:
    places, values = torch.tensor([[0, 1], [2, 0]]), ones(2, device="cuda:1").requires_grad_()
    with torch.sparse.check_sparse_tensor_invariants():
        found = torch.sparse_coo_tensor(places, values)
        with pytest.raises(RuntimeError, match="size is inconsistent with indices"):
            torch.sparse_coo_tensor(places, values, (1, 1))
    assert (found.device, found.shape) == (torch.device("cuda:1"), (2, 3))
    found.to_dense().sum().backward()
    assert values.grad.tolist() == [1, 1]


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


def test_a_fake_tensor_is_filled_without_a_driver() -> None:
    with FakeTensorMode():  # a DTensor's shape is found with one
        assert ones(3, device="cuda:1").uniform_().device == torch.device("cuda:1")
