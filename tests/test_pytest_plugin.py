"""Virtual GPUs in the tests of another project: what runs, what is skipped, which faults are found."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from course_utils.lessons import ROOT
from course_utils.virtual import is_active, pytest_plugin, switch_off

CONFTEST = """
import torch

GPUS = torch.cuda.device_count()  # as it was when the first module was imported
"""

PROJECT = """
import pytest
import torch
from conftest import GPUS
from torch import nn

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")


@needs_cuda
def test_two_gpus():
    assert GPUS == torch.cuda.device_count() == 2
    assert nn.DataParallel(nn.Linear(2, 2).cuda())(torch.ones(4, 2).cuda()).is_cuda


@pytest.mark.real_gpu
def test_a_kernel():
    assert False


@needs_cuda
def test_breaks_the_gpu():
    with pytest.raises(torch.AcceleratorError):
        torch.ones(3).cuda()[torch.tensor([9]).cuda()]


@needs_cuda
def test_lives_on():
    assert torch.ones(1).cuda().item() == 1


class Mean(nn.Module):
    def forward(self, x):
        return x.mean()  # of a part of the batch


class Remembers(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1  # of a replica, which is thrown away
        return x


@needs_cuda
def test_fault_forgotten_to():
    nn.Linear(2, 2).cuda()(torch.ones(1, 2))


@needs_cuda
@pytest.mark.parametrize("gpu", [0, 1])
def test_fault_hard_coded_gpu(gpu):
    torch.ones(2, device=f"cuda:{gpu}") + torch.ones(2, device="cuda:0")


@needs_cuda
def test_fault_mean_inside_forward():
    x = torch.arange(3.0)[:, None].cuda()
    assert nn.DataParallel(Mean())(x).mean() == x.mean()


@needs_cuda
def test_fault_state_on_a_replica():
    net = Remembers()
    nn.DataParallel(net)(torch.ones(2, 1).cuda())
    assert net.calls == 1


@needs_cuda
def test_fault_too_big():
    torch.ones(300, 2**20, device="cuda")
"""


def run(folder: Path, *options: str) -> str:
    """Return what pytest prints about the project in `folder`."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_project.py").write_text(PROJECT)
    plugin = ["-p", "course_utils.virtual.pytest_plugin", "-p", "no:cacheprovider", "-rsf"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", *plugin, *options]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, cwd=folder, env=environment, **streams).stdout


@pytest.mark.slow
def test_the_tests_of_a_project_find_gpus_and_faults_are_found(tmp_path: Path) -> None:
    said = run(tmp_path, "--virtual-gpus", "2", "--virtual-gpu-memory", "1 GiB")
    assert "virtual GPUs: 2 of 1024.00 MiB. No CUDA kernel is tested." in said
    failed = set(re.findall(r"^FAILED test_project.py::test_(\S+)", said, re.MULTILINE))
    faults = {"forgotten_to", "hard_coded_gpu[1]", "mean_inside_forward", "state_on_a_replica", "too_big"}
    assert failed == {f"fault_{name}" for name in faults}
    assert "SKIPPED [1] test_project.py" in said
    assert "needs a real GPU, virtual ones run no CUDA kernel" in said
    assert "A device-side assert" in said
    assert "5 failed, 4 passed, 1 skipped" in said


def switched_on(gpus: int | None, memory: str | None = None, card: str | None = None) -> None:
    asked = SimpleNamespace(virtual_gpus=gpus, virtual_gpu_memory=memory, virtual_gpu_card=card)
    pytest_plugin.pytest_load_initial_conftests(SimpleNamespace(known_args_namespace=asked))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((9,), r"^--virtual-gpus: count=9 .* Choose 1 to 8\.$"),
        ((2, "1 GiB", "T4"), r"^--virtual-gpu-memory and --virtual-gpu-card: a card has its memory$"),
        ((2, None, "T5"), r"^--virtual-gpus: card='T5' is not known\. Choose one of: V100, .*\.$"),
    ],
)
def test_what_cannot_be_had_is_refused(asked: tuple[int | str | None, ...], said: str) -> None:
    with pytest.raises(pytest.UsageError, match=said):
        switched_on(*asked)
    assert not is_active()


def test_they_take_after_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    switched_on(2, card="t4")
    try:
        config = SimpleNamespace(getoption=lambda _: 2)
        assert torch.cuda.get_device_capability(1) == (7, 5)
        assert "CUDA_VISIBLE_DEVICES" not in os.environ  # or a child would find none
        header = pytest_plugin.pytest_report_header(config)
    finally:
        switch_off()
    assert header == "virtual GPUs: 2 of 14.56 GiB as T4. No CUDA kernel is tested."


def test_nothing_happens_unasked() -> None:
    switched_on(None)
    assert not is_active()
