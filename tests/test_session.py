"""`start`: it finds the device, says so in one line, and may be called again."""

from types import SimpleNamespace

import pytest
import torch
from torch.torch_version import TorchVersion

import course_utils
from course_utils import session, virtual


@pytest.fixture
def find(monkeypatch):
    """Let PyTorch find so many accelerators of a kind on this machine."""

    def pretend(kind: str, count: int = 1) -> None:
        found = torch.device(kind) if count else None
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: found)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count if kind == "cuda" else 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Test Card")
        properties = SimpleNamespace(total_memory=15 * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    return pretend


@pytest.fixture(autouse=True)
def clean(monkeypatch, find):
    for name in ("COURSE_DEVICE", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    find("cuda", 0)
    yield
    virtual.switch_off()


def said(capsys) -> str:
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_without_a_gpu_there_are_eight_virtual_ones(capsys):
    device = course_utils.start("01_device_basics")
    assert device == torch.device("cuda:0")
    assert torch.cuda.device_count() == 8
    assert said(capsys) == (
        "01_device_basics: 8 VIRTUAL GPUs of 2 GiB each: they behave like real ones, at the CPU's speed."
    )


def test_settings_of_the_last_call_hold(capsys):
    course_utils.start("x")
    course_utils.start("x", count=2, memory=2**20)
    assert (torch.cuda.device_count(), torch.cuda.mem_get_info()) == (2, (2**20, 2**20))
    assert "2 VIRTUAL GPUs of 1048576 bytes each" in capsys.readouterr().out


def test_it_seeds_the_same_each_time():
    numbers = []
    for seed in (0, 0, 5):
        device = course_utils.start("x", seed=seed)
        numbers.append(torch.rand(2, device=device).cpu())
    assert torch.equal(numbers[0], numbers[1])
    assert not torch.equal(numbers[0], numbers[2])


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_the_cpu_can_be_forced(how, monkeypatch, capsys):
    if how == "environment":
        monkeypatch.setenv("COURSE_DEVICE", "cpu")
    device = course_utils.start("x", mode="cpu" if how == "argument" else None)
    assert device == torch.device("cpu")
    assert not virtual.is_active()
    assert "the CPU, because" in said(capsys)


def test_the_argument_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert course_utils.start("x", mode="virtual").type == "cuda"


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(
        ValueError, match=r"mode='gpu' is not known. Choose one of: auto, real, virtual, cpu\."
    ):
        course_utils.start("x", mode="gpu")


def test_a_real_gpu_that_is_not_there(monkeypatch):
    with pytest.raises(RuntimeError, match=r"mode='real', but PyTorch finds no GPU here\. Leave that out"):
        course_utils.start("x", mode="real")
    monkeypatch.setenv("COURSE_DEVICE", "real")
    with pytest.raises(RuntimeError, match=r"^COURSE_DEVICE=real, but PyTorch finds no GPU here"):
        course_utils.start("x")
    assert not virtual.is_active()


def test_a_real_gpu_is_used_and_named(find, capsys):
    find("cuda", 2)
    assert course_utils.start("x") == torch.device("cuda:0")
    assert not virtual.is_active()
    assert said(capsys) == "x: 2 real GPUs, Test Card with 15.0 GiB."


def test_a_mac_is_named(find, capsys):
    find("mps")
    assert course_utils.start("x") == torch.device("mps:0")
    assert said(capsys) == "x: a real MPS device. Parts that need CUDA say so."


@pytest.mark.parametrize(
    ("lesson", "kind", "count", "virtual_ones"),
    [
        ("05_data_parallel", "cuda", 1, True),
        ("05_data_parallel", "cuda", 2, False),
        ("05_data_parallel", "mps", 1, True),
        ("06_memory_tricks", "cuda", 1, False),
        ("06_memory_tricks", "mps", 1, True),
        ("04_cifar_training_loop", "mps", 1, False),
        ("07_beyond_one_process", "cuda", 1, True),
        ("07_beyond_one_process", "cuda", 2, False),
    ],
)
def test_virtual_gpus_step_in_where_a_lesson_needs_more_than_there_are(
    lesson, kind, count, virtual_ones, find, capsys
):
    find(kind, count)
    course_utils.start(lesson)
    assert virtual.is_active() is virtual_ones
    line = said(capsys)
    assert ("VIRTUAL" in line) is virtual_ones
    assert ("this machine has" in line) is virtual_ones
    course_utils.start(lesson, mode="real")  # who asks for the real one gets it
    assert not virtual.is_active()


def test_a_lesson_that_measures_has_no_virtual_gpus_but_takes_a_real_one(find, capsys):
    assert course_utils.start("08_full_speed") == torch.device("cpu")
    assert said(capsys).endswith("the CPU, because virtual GPUs have no speed, and this lesson measures.")
    with pytest.raises(RuntimeError, match="finds no GPU here"):
        course_utils.start("08_full_speed", mode="real")
    find("mps")
    assert course_utils.start("08_full_speed") == torch.device("mps:0")


def test_a_lesson_that_tries_scripts_leaves_the_virtual_gpus_to_them(find, capsys):
    assert course_utils.start("10_your_own_code") == torch.device("cpu")
    assert said(capsys).endswith("the CPU, because the virtual GPUs go to the scripts that it starts.")
    assert not virtual.is_active()


COLAB = "For a real GPU: menu Runtime, Change runtime type, T4 GPU; then run this cell again."
KAGGLE = "For a real GPU: menu Settings, Accelerator, GPU T4 x2; then run this cell again."
UNUSABLE = "This runtime has a GPU, but PyTorch cannot use it. To see why, run: course_utils.doctor()"


@pytest.mark.parametrize(
    ("variables", "gpu_files", "advice"),
    [
        (["COLAB_RELEASE_TAG"], [], COLAB),
        (["KAGGLE_KERNEL_RUN_TYPE"], [], KAGGLE),
        (["COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"], [], KAGGLE),  # what Kaggle really sets
        (["COLAB_RELEASE_TAG"], ["/dev/nvidia0"], UNUSABLE),
    ],
    ids=["colab", "kaggle", "kaggle on a colab image", "colab with a GPU that torch cannot use"],
)
def test_a_hosted_notebook_without_a_gpu_says_what_to_click(
    variables, gpu_files, advice, monkeypatch, capsys
):
    for name in variables:
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr(session, "glob", lambda pattern: gpu_files)
    course_utils.start("01_device_basics")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("01_device_basics: 8 VIRTUAL GPUs")
    assert second.startswith(advice)


@pytest.mark.parametrize(
    ("variable", "click"),
    [
        ("COLAB_RELEASE_TAG", "Choose the latest runtime version: menu Runtime"),
        ("KAGGLE_KERNEL_RUN_TYPE", "or open the lesson in Colab"),
    ],
)
def test_an_old_hosted_pytorch_is_not_to_be_updated_by_hand(variable, click, monkeypatch):
    monkeypatch.setenv(variable, "x")
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1+cu128"))
    with pytest.raises(RuntimeError, match=rf"^This runtime has PyTorch 2\.9\.1\+cu128; .*{click}"):
        course_utils.start("x")


@pytest.mark.parametrize("mode", ["virtual", "cpu"])
def test_who_asks_for_something_else_than_a_gpu_gets_no_advice(mode, monkeypatch, capsys):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    course_utils.start("x", mode=mode)
    said(capsys)


def test_a_lesson_that_needs_more_gpus_than_colab_has_gives_no_advice(monkeypatch, find, capsys):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    find("cuda")
    course_utils.start("05_data_parallel")
    assert "it needs 2 CUDA GPUs" in said(capsys)
