"""Tests written for CUDA, on a machine without GPUs.

    pytest -p course_utils.virtual.pytest_plugin --virtual-gpus 2 --virtual-gpu-card T4

They find GPUs from before the first `conftest.py` is read. What goes wrong with devices, copies, memory or
several GPUs goes wrong here as well. No CUDA kernel runs, so none is tested: a test that needs a real GPU is
marked `@pytest.mark.real_gpu`, and skipped.
"""

import os
import warnings
from collections.abc import Iterator

import pytest
import torch

from . import switch_off, switch_on
from .errors import format_size
from .machine import active

_SKIPPED = "needs a real GPU, virtual ones run no CUDA kernel"
_BROKEN = "A device-side assert: on a real GPU every later test of this process would fail as well."


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("virtual GPUs")
    group.addoption("--virtual-gpus", type=int, metavar="N", help="let the tests find N GPUs, 1 to 8")
    group.addoption("--virtual-gpu-memory", metavar="SIZE", help='of each, such as "16 GiB" (default: 2 GiB)')
    group.addoption("--virtual-gpu-card", metavar="CARD", help='whose memory and capability they have: "T4"')


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Switch them on before any module of the tests is imported."""
    asked = early_config.known_args_namespace
    memory, card = asked.virtual_gpu_memory, asked.virtual_gpu_card
    if memory and card:
        raise pytest.UsageError("--virtual-gpu-memory and --virtual-gpu-card: a card has its memory")
    if asked.virtual_gpus is None:
        return
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # it is about the GPUs of this machine
    try:
        switch_on(asked.virtual_gpus, memory, card)
    except (RuntimeError, ValueError) as error:
        raise pytest.UsageError(f"--virtual-gpus: {error}") from None


def _asked(config: pytest.Config) -> bool:
    return config.getoption("virtual_gpus") is not None


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "real_gpu: needs a real GPU; skipped on virtual ones")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what was not tested."""
    if not _asked(config):
        return None
    machine = active()
    each = format_size(machine.capacity) + (f" as {machine.card}" if machine.card else "")
    return f"virtual GPUs: {machine.count} of {each}. No CUDA kernel is tested."


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a real GPU where there is none."""
    for item in items:
        if item.get_closest_marker("real_gpu") and (_asked(config) or not torch.cuda.is_available()):
            item.add_marker(pytest.mark.skip(reason=_SKIPPED))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Mend GPUs that a test has broken, and say so."""
    if _asked(item.config) and active().broken:
        active().broken = False
        warnings.warn(_BROKEN, stacklevel=1)
    return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Switch them off."""
    if _asked(config):
        switch_off()
