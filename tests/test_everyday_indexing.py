"""Everyday indexing on virtual GPUs as on CUDA: what is assigned, and what the host or a kernel refuses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from everyday import ones
from torch import nn

from course_utils.virtual import errors

pytestmark = pytest.mark.usefixtures("two_gpus")

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
    # a list of more than numbers is a tuple
    "a list of a slice and a list": [slice(None), [1, 2]],
    "a list of lists": [[0, 2], [1]],
    "a list of lists of one": [[-1], [0]],
}


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("index", ASSIGNED.values(), ids=ASSIGNED)
def test_parts_are_assigned_as_on_the_cpu(index: object) -> None:
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


ASSERTED: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
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
    "bernoulli, a method": lambda x, far: far.float().bernoulli(),
    "bernoulli": lambda x, far: torch.bernoulli(2 * x),
    "poisson": lambda x, far: torch.poisson(-x),
    "multinomial": lambda x, far: torch.multinomial(-x, 2, replacement=True),
    "an assertion": lambda x, far: torch._assert_async(far == 3),
}


@pytest.mark.parametrize("use", ASSERTED.values(), ids=ASSERTED)
def test_values_out_of_range_are_found_by_a_kernel(use: Callable[..., object]) -> None:
    with pytest.raises(torch.AcceleratorError, match="device-side assert triggered"):
        use(ones(2, 3), torch.tensor([9], device="cuda"))


REFUSED: dict[str, tuple[str, Callable[[torch.Tensor], object]]] = {  # by the host, for tensors (4, 3)
    "a mask": ("shape of the mask", lambda x: x[ones(5).bool()]),
    "an index": ("same number of dimensions", lambda x: x.gather(0, ones(1).long())),
    "probabilities": ("target size", lambda x: nn.BCELoss()(x, ones(3))),
    "a number that the host knows": ("expects p to be in", lambda x: x.bernoulli_(9.0)),
    "numbers of nothing": ("out of bounds for dimension with size 0", lambda x: x[:, :0][:, [0, 1]]),
    "a dimension": ("Dimension out of range", lambda x: x.gather(5, ones(1, 1).long())),
    "weights": ("probability tensor contains either", lambda x: torch.multinomial(-x, 2)),
    "no assertion": ("^Boolean value of Tensor with .* is ambiguous", lambda x: torch._assert_async(x[:0])),
    "assertions": ("^Boolean value of Tensor with .* is ambiguous", lambda x: torch._assert_async(x)),
}


@pytest.mark.parametrize(("words", "use"), REFUSED.values(), ids=REFUSED)
def test_what_the_host_finds_leaves_the_gpu_alive(words: str, use: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises((IndexError, RuntimeError, ValueError), match=words) as caught:
        use(ones(4, 3))
    assert not isinstance(caught.value, torch.AcceleratorError)
    assert ones(1).item() == 1


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


@pytest.mark.parametrize(("use", "words"), INTEGERS.values(), ids=INTEGERS)
def test_kernels_refuse_types_and_the_gpu_lives_on(use: Callable[..., object], words: str) -> None:
    x = torch.ones(2, 2, dtype=torch.int64, device="cuda")
    with pytest.raises(NotImplementedError, match=words):
        use(x)
    assert (x * x).sum() == 4


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
