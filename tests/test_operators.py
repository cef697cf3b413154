"""Every operator of PyTorch, with the samples that its own tests use, on a virtual GPU.

Values and devices must be the CPU's; a mix of CPU and GPU must be refused in CUDA's words. The usual run
takes some of them, `--everything` takes all.
"""

import re
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from fidelity import wrappers
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

import course_utils
from course_utils.virtual import errors
from course_utils.virtual.errors import WORDS

pytestmark = pytest.mark.slow

UNINITIALIZED = "its numbers are whatever was in memory"
OTHERWISE = {  # operator: why its values are not compared with the CPU's
    "empty": UNINITIALIZED,
    "empty_like": UNINITIALIZED,
    "empty_permuted": UNINITIALIZED,
    "empty_strided": UNINITIALIZED,
    "new_empty": UNINITIALIZED,
    "new_empty_strided": UNINITIALIZED,
    "as_strided.partial_views": "its samples look beyond the tensor, at what the copy on the GPU leaves out",
    "tensor_split": "CUDA refuses the samples that have the places to split at on the GPU",
}
# For tensors that dispatch to Python, PyTorch takes a variant of the algorithm that rounds otherwise.
ROUNDED = """norm.nuc linalg.cond linalg.eigvalsh linalg.matrix_norm linalg.norm linalg.svdvals matmul
    __rmatmul__ nn.functional.embedding_bag linalg.lstsq linalg.lstsq.grad_oriented""".split()
ONLY_ITS_SHAPE = "the other tensor gives only its shape"
EACH_ALONE = "the tensors need not be on one device"
EMPTY = "nothing is computed with an empty tensor"
ALLOWED = {  # operator: why CUDA runs it with one of its tensors on the CPU
    "atleast_1d": EACH_ALONE,
    "atleast_2d": EACH_ALONE,
    "atleast_3d": EACH_ALONE,
    "to": EACH_ALONE,
    "diff": "the zeroth difference is the tensor itself",
    "linalg.matrix_rank": EMPTY,
    "nn.functional.batch_norm": EMPTY,
    "meshgrid.list_of_tensors": "a known difference: C++ compares what it takes for CPU tensors",
    "meshgrid.variadic_tensors": "a known difference: C++ compares what it takes for CPU tensors",
    "__getitem__": "places may be on the CPU",
    "broadcast_tensors": ONLY_ITS_SHAPE,
    "expand_as": ONLY_ITS_SHAPE,
    "reshape_as": ONLY_ITS_SHAPE,
    "view_as": ONLY_ITS_SHAPE,
    "nn.functional.ctc_loss": "targets and lengths are taken to where they are needed",
    "index_put": "places may be on the CPU",
    "tensor_split": "the places to split at must be on the CPU",
}

Sample = tuple[Any, tuple[Any, ...], dict[str, Any]]


@pytest.fixture(scope="module")
def operators() -> Iterator[list[Any]]:
    """PyTorch's list of its operators, made while virtual GPUs are on, so that it holds their functions."""
    with course_utils.virtual_gpus(2), warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(torch.backends, "disable_global_flags", lambda: None)  # other tests set such flags
        from torch.testing._internal.common_methods_invocations import op_db

        yield op_db


def samples(operator: Any) -> Iterator[Sample]:
    """Yield what PyTorch's tests call an operator with, on the CPU, in its most usual type of numbers."""
    known = operator.supported_dtypes("cpu") & operator.supported_dtypes("cuda")
    usual = (torch.float32, torch.int64, torch.bool, torch.complex64)
    dtype = next((dtype for dtype in usual if dtype in known), None)
    if dtype is not None:
        for sample in operator.sample_inputs("cpu", dtype):
            yield sample.input, sample.args, sample.kwargs


def chosen(operators: list[Any], request: pytest.FixtureRequest) -> Iterator[tuple[Any, Sample]]:
    """Yield operators with their samples: of every fifth operator the first two, or all of all."""
    everything = request.config.getoption("everything")
    for operator in operators[:: 1 if everything else 5]:
        if operator.name.startswith("jiterator"):
            continue  # it compiles a kernel for a real GPU
        yield from ((operator, sample) for sample in islice(samples(operator), None if everything else 2))


def on_gpu(value: Any) -> Any:
    """Copy a tensor to the first GPU, and name that where a sample names the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cuda:0")
    return "cuda:0" if isinstance(value, (str, torch.device)) and str(value) == "cpu" else value


def call(operator: Any, sample: Sample) -> Any:
    """Call an operator, with the same random numbers each time."""
    given, args, kwargs = sample
    torch.manual_seed(0)
    return operator(given, *args, **kwargs)


def difference(operator: Any, sample: Sample) -> str:
    """Say what a virtual GPU does otherwise than the CPU; empty where nothing."""
    try:
        wanted = tree_leaves(call(operator, sample))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return ""  # a sample that this build of PyTorch cannot run
    if any(isinstance(one, torch.Tensor) and one.is_cuda for one in wanted):
        return ""  # a sample that names a GPU itself
    try:
        given = tree_map(on_gpu, sample)
        if not any(str(getattr(leaf, "device", leaf)) == "cuda:0" for leaf in tree_leaves(given)):
            return ""  # a factory that is not told where
        found = tree_leaves(call(operator, given))
        exact = {} if operator.full_name in ROUNDED else {"rtol": 0, "atol": 0}
        for one, other in zip(found, wanted, strict=True):
            if isinstance(other, torch.Tensor):
                assert one.device == torch.device("cuda:0")
                assert other.layout is not torch.strided or one.stride() == other.stride()
                torch.testing.assert_close(one.cpu(), other, equal_nan=True, **exact)
            else:
                assert one == other or other != other
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_every_operator_gives_what_the_cpu_gives(
    operators: list[Any], request: pytest.FixtureRequest
) -> None:
    different = {}
    for operator, sample in chosen(operators, request):
        if operator.full_name not in OTHERWISE and (said := difference(operator, sample)):
            different[operator.full_name] = said
    assert different == {}


def mixes(sample: Sample) -> Iterator[Sample]:
    """Yield a sample with one of its tensors on the CPU, all others on the GPU."""
    leaves, form = tree_flatten(tree_map(on_gpu, sample))
    # CUDA takes a 0-dimensional CPU tensor for a number in many places
    tensors = [number for number, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor) and leaf.dim()]
    for number in tensors if len(tensors) > 1 else []:
        mixed = [leaf.cpu() if place == number else leaf for place, leaf in enumerate(leaves)]
        yield tree_unflatten(mixed, form)


def refusal(operator: Any, sample: Sample) -> str:
    """Return the error of a mix, or "" when it runs."""
    try:
        call(operator, sample)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


FORMS = [re.escape(words).replace(r"\{\}", "(.*)") for words in WORDS.values()]


def test_a_mix_is_refused_in_cudas_words(operators: list[Any], request: pytest.FixtureRequest) -> None:
    wrong = {}
    for operator, sample in chosen(operators, request):
        for mixed in mixes(sample):
            said = refusal(operator, mixed)
            wrapper = re.search(r"wrapper_CUDA_\w+", said)
            known = any(re.search(form, said) for form in FORMS) and (
                not wrapper or wrapper[0] in errors.wrappers()
            )
            if not known and (said or operator.full_name not in ALLOWED):
                wrong[operator.full_name] = said or "ran"
    assert wrong == {}


@pytest.mark.skipif(not wrappers.LIBRARY.is_file(), reason="this PyTorch is built without CUDA")
def test_the_table_of_wrappers_is_what_the_library_holds() -> None:
    assert {f"wrapper_CUDA_{name}" for name in wrappers.names()} == errors.wrappers()
