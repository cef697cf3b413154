"""Lesson 06's functions to take home do what the lesson says: the code is the notebook's own."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from authors.lesson_code import lesson_code
from torch import nn

import course_utils

DEVICE = torch.device("cuda", 0)
NAMES = """MIB HAS_COUNT Block ConvNet TinyTransformer pictures texts adam no_scaler build train_step
measure_step bf16_in_hardware HALF optimizers jobs CASES run_case train_step_that_fits PeakCounter
predicted_peak""".split()
MIB = 2**20


@pytest.fixture
def lesson():
    """The lesson's names on a virtual GPU, with a smaller batch of pictures."""
    with course_utils.virtual_gpus(1, "1 GiB"):
        yield SimpleNamespace(**lesson_code("06_memory_tricks", NAMES, device=DEVICE, BATCH=80))


@pytest.fixture
def forget():
    return lesson_code("06_memory_tricks", ["forget"])["forget"]


class Hungry(nn.Module):
    """A model without batch normalisation that needs 30 MiB a picture, and notes how many it is given."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.ReLU(), nn.Linear(16, 10))
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        result = self.layers(x)  # alive when the next line fails
        torch.empty(len(x) * 30 * MIB, dtype=torch.uint8, device=x.device)
        return result


def a_step_that_fits(lesson, count, size=None):
    """Take one on a card of 1 GiB, where up to 33 pictures fit; return the model, its gradient, the size."""
    torch.manual_seed(0)
    model = Hungry().to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    size = lesson.train_step_that_fits(model, optimizer, *lesson.pictures(count, DEVICE), size)
    return model, gradient(model), size


def gradient(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_gradient_and_step_are_those_of_the_whole_batch(lesson):
    model, parts, size = a_step_that_fits(lesson, 103)
    assert (size, model.sizes[-1]) == (25, 3)  # the last part is smaller, and must count less
    torch.manual_seed(0)
    whole = Hungry().to(DEVICE)
    x, y = lesson.pictures(103, DEVICE)
    nn.functional.cross_entropy(whole.layers(x), y).backward()
    torch.testing.assert_close(parts, gradient(whole))
    torch.optim.SGD(whole.parameters(), lr=0.1).step()
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_what_a_failed_try_added_to_the_gradient_is_dropped(lesson):
    torch.manual_seed(0)
    model = Hungry().to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = lesson.pictures(40, DEVICE)
    nn.functional.cross_entropy(model.layers(x), y).backward()
    whole = gradient(model)  # stays in .grad, as from an earlier step

    def fail_in_the_second_part(module, x, result):
        if module.sizes == [20, 20]:
            torch.empty(2**30, device=DEVICE)

    model.register_forward_hook(fail_in_the_second_part)
    assert lesson.train_step_that_fits(model, optimizer, x, y, 20) == 10
    torch.testing.assert_close(gradient(model), whole)


def test_the_size_is_halved_until_it_fits_and_then_kept(lesson):
    model, _, size = a_step_that_fits(lesson, 100)
    assert model.sizes == [100, 50, 25, 25, 25, 25]
    model, _, again = a_step_that_fits(lesson, 100, size)
    assert (model.sizes, again) == ([25] * 4, 25)


def test_a_size_beyond_the_batch_means_the_batch(lesson):
    model, _, size = a_step_that_fits(lesson, 10, size=1000)
    assert (model.sizes, size) == ([10], 10)


def test_it_gives_up_at_one_sample_with_one_clear_line(lesson):
    tries = []

    def too_large(x):
        tries.append(len(x))
        return torch.empty(2**30, device=x.device)

    weight = nn.Parameter(torch.ones(1, device=DEVICE))
    x, y = lesson.pictures(10, DEVICE)
    with pytest.raises(torch.OutOfMemoryError, match="Not even one sample fits on cuda:0") as caught:
        lesson.train_step_that_fits(too_large, torch.optim.SGD([weight], lr=0.1), x, y)
    assert tries == [10, 5, 2, 1]
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None  # nothing of the failed tries hangs on it
    assert weight.item() == 1


@pytest.mark.parametrize("error", [ValueError("mine"), RuntimeError("CUDA error: something else")])
def test_other_errors_pass(lesson, error):
    calls = []

    def broken(x):
        calls.append(len(x))
        raise error

    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1, device=DEVICE))], lr=0.1)
    with pytest.raises(type(error)) as caught:
        lesson.train_step_that_fits(broken, optimizer, *lesson.pictures(4, DEVICE))
    assert caught.value is error
    assert calls == [4]


def test_out_of_memory_in_the_optimizer_passes(lesson):
    """Smaller parts would not help there, and a second try would find half-made state."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.step = lambda: torch.empty(2**30, device=DEVICE)
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 4\.00 GiB"):
        lesson.train_step_that_fits(model, optimizer, *lesson.pictures(4, DEVICE))


def test_a_failed_try_leaves_no_tensor_behind(lesson):
    model, entries, activations = Hungry().to(DEVICE), [], []
    model.register_forward_pre_hook(lambda module, x: entries.append(torch.cuda.memory_allocated(DEVICE)))
    model.layers[1].register_forward_hook(lambda module, x, result: activations.append(weakref.ref(result)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = lesson.pictures(100, DEVICE)
    gc.collect()  # what other tests have left
    before = torch.cuda.memory_allocated(DEVICE)
    assert lesson.train_step_that_fits(model, optimizer, x, y) == 25
    assert entries[:3] == [before] * 3  # each try begins with nothing of the last one
    assert [reference() for reference in activations] == [None] * 6
    assert torch.cuda.memory_allocated(DEVICE) == before + sum(
        -(-parameter.nbytes // 512) * 512 for parameter in model.parameters()
    )  # the gradients


@pytest.mark.parametrize("chunks", [2, 3, 4])
def test_accumulation_is_exact_without_batch_normalisation(lesson, chunks):
    gradients = []
    for parts in (1, chunks):
        torch.manual_seed(0)
        model = lesson.ConvNet(depth=2, norm=nn.Identity).to(DEVICE)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        lesson.train_step(model, optimizer, *lesson.pictures(10, DEVICE), chunks=parts)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*gradients)


def test_the_predicted_peak_is_within_5_per_cent(lesson):
    for job in lesson.jobs.values():
        for name, case in lesson.CASES.items():
            if "amp" in case:  # autocast knows no meta device
                continue
            predicted = lesson.run_case(lesson.predicted_peak, job, case)
            measured, _ = lesson.run_case(lesson.measure_step, job, case)
            assert predicted == pytest.approx(measured, rel=0.05), (job[0].__name__, name)


def test_a_prediction_uses_no_device(lesson):
    torch.cuda.reset_peak_memory_stats()
    used = torch.cuda.memory_allocated()
    assert lesson.predicted_peak(lesson.ConvNet, lesson.pictures, 100_000) > 2**34
    assert torch.cuda.max_memory_allocated() == used


def test_the_counter_counts_storages_once_and_only_while_they_live(lesson):
    with lesson.PeakCounter() as counter:
        torch.ones(1000)  # on the CPU: not counted
        a = torch.ones(129, device="meta")
        assert counter.live == 1024  # 516 bytes, in blocks of 512
        view, same = a[1:], a.add_(1)
        assert counter.live == 1024
        b = a * 2
        assert counter.live == 2048
        del a, view, same
        assert (counter.live, counter.peak) == (1024, 2048)
    del b
    assert counter.live == 0


def test_forget_lets_go_of_results_and_of_the_last_error(forget):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    forget.__globals__["get_ipython"] = lambda: shell
    shell.user_ns |= {"forget": forget, "kept": []}
    shell.run_cell("import weakref\nclass Big:\n    def __init__(self): kept.append(weakref.ref(self))")
    for code in ("Big()", "Big()", "def fail():\n    big = Big()\n    1 / 0\nfail()"):
        shell.run_cell(code, store_history=True)
    assert all(reference() is not None for reference in shell.user_ns["kept"])
    assert len(shell.user_ns["kept"]) == 3
    shell.run_cell("forget()", store_history=True)
    shell.run_cell("None")
    gc.collect()
    assert [reference() for reference in shell.user_ns["kept"]] == [None] * 3
    shell.run_cell("5", store_history=True)
    assert shell.user_ns["_"] == 5  # and the notebook goes on remembering
