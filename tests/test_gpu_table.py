"""`gpu_status` prints virtual and real GPUs in gpustat's form, and turns every failure into one line.

gpustat is the real one, its driver is not: the errors raised here are NVML's own, with their own texts.
"""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import gpustat
import pytest
import torch

import course_utils
from course_utils import virtual
from course_utils.machine import gpu_table, system
from course_utils.machine.gpu_table import KEYS, gpu_status

T4 = dict.fromkeys(KEYS) | {"index": 0, "name": "Tesla T4", "memory.used": 1024, "memory.total": 15360}
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that ..."
)
SMI_LINE = "0, 45, 12, 1024, 15360, Tesla T4\n"


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with gpustat, but without driver, nvidia-smi and accelerator, unless virtual ones are on."""
    real = torch.accelerator.current_accelerator

    def accelerator(check_available: bool = False) -> torch.device | None:
        return real(check_available=check_available) if virtual.is_active() else None

    nvml_fails(monkeypatch, "NVML_ERROR_LIBRARY_NOT_FOUND")
    monkeypatch.setattr(system.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", accelerator)


def nvml_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    nvml = pytest.importorskip("pynvml")

    def query() -> None:
        raise nvml.NVMLError(getattr(nvml, name))

    monkeypatch.setattr(gpustat, "new_query", query)


def smi_answers(monkeypatch: pytest.MonkeyPatch, text: str, end: str = "") -> None:
    """Have nvidia-smi print this; `end` is how it ended where that was not well."""
    monkeypatch.setattr(system.shutil, "which", lambda name: name)
    monkeypatch.setattr(system, "ask", lambda command, limit: system.Answer(text, end))


# --- virtual GPUs ---


def test_virtual_gpus_are_printed_in_gpustats_form() -> None:
    with course_utils.virtual_gpus(2, "1 GiB"):
        kept = torch.ones(25 * 2**20, device="cuda:1")
        status = gpu_status()
    assert str(status).splitlines() == [
        "[0] Virtual GPU (CPU) | ??°C,  ?? % |     0 /  1024 MB |",
        "[1] Virtual GPU (CPU) | ??°C,  ?? % |   100 /  1024 MB | python(100M)",
        gpu_table.VIRTUAL_NOTE,
    ]
    assert kept.numel() * 4 == 100 * 2**20


def test_memory_counts_what_pytorch_has_reserved() -> None:
    with course_utils.virtual_gpus(1, "1 GiB"):
        del_me = torch.ones(25 * 2**20, device="cuda")
        del del_me
        assert gpu_status().gpus[0]["memory.used"] == 100
        torch.cuda.empty_cache()
        assert gpu_status().gpus[0]["memory.used"] == 0
        assert gpu_status().gpus[0]["processes"] == []


def test_what_a_virtual_gpu_lacks_stays_unknown() -> None:
    with course_utils.virtual_gpus(1):
        (gpu,) = gpu_status().gpus
    known = {"index", "name", "memory.used", "memory.total", "processes"}
    assert {key for key, value in gpu.items() if value is not None} == known
    assert set(gpu) == set(KEYS)


# --- real GPUs, and who was asked ---


def test_the_form_is_that_of_gpustats_own_printer(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [{"command": "python", "pid": 1, "gpu_memory_usage": used} for used in (90, None)]
    second = T4 | {"index": 1, "name": "A longer name", "temperature.gpu": 45, "processes": processes}
    cards = [gpustat.GPUStat(card) for card in (T4 | {"processes": []}, second)]
    listed, page = gpustat.GPUStatCollection(cards), io.StringIO()
    monkeypatch.setattr(gpustat, "new_query", lambda: listed)
    listed.print_formatted(page, no_color=True, show_header=False, show_cmd=True)
    assert str(gpu_status()) == page.getvalue().rstrip("\n")


def test_gpustat_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpustat, "new_query", lambda: [gpustat.GPUStat(T4 | {"utilization.gpu": 7})])
    status = gpu_status()
    assert (status.source, status.note) == ("gpustat", "")
    assert str(status).startswith("[0] Tesla T4 | ??°C,   7 % |  1024 / 15360 MB |")


def test_a_lost_gpu_is_listed_with_nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = gpustat.core.InvalidGPU(1, "((GPU is lost))", Exception())
    monkeypatch.setattr(gpustat, "new_query", lambda: [lost])
    (gpu,) = gpu_status().gpus
    assert (gpu["index"], gpu["name"], gpu["memory.used"]) == (1, "((GPU is lost))", None)
    assert "((GPU is lost))" in str(gpu_status())


def test_nvidia_smi_is_asked_next(monkeypatch: pytest.MonkeyPatch) -> None:
    smi_answers(monkeypatch, SMI_LINE)
    status = gpu_status()
    assert status.source == "nvidia-smi"
    assert str(status).startswith("[0] Tesla T4 | 45°C,  12 % |  1024 / 15360 MB |")
    assert status.note.startswith("gpustat: ")


def test_what_nvidia_smi_does_not_know_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    smi_answers(
        monkeypatch, "1, [N/A], [Not Supported], 10, 20, Card, with a comma\nWARNING: infoROM is corrupted\n"
    )
    (gpu,) = gpu_status().gpus
    assert (gpu["index"], gpu["name"]) == (1, "Card, with a comma")
    assert (gpu["temperature.gpu"], gpu["utilization.gpu"], gpu["memory.used"]) == (None, None, 10)


def test_pytorch_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda index: (2**30, 3 * 2**30))
    module = SimpleNamespace(get_device_name=lambda index: f"card {index}")
    monkeypatch.setattr(torch, "get_device_module", lambda kind: module)
    status = gpu_status()
    assert status.source == "torch"
    assert [(gpu["name"], gpu["memory.used"], gpu["memory.total"]) for gpu in status.gpus] == [
        ("card 0", 2048, 3072),
        ("card 1", 2048, 3072),
    ]


def test_a_macs_gpu_has_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("mps"))
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 5 * 2**20)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2**33)
    assert str(gpu_status()).startswith("[0] mps | ??°C,  ?? % |     5 /  8192 MB |")


# --- nobody answers: every reason in one line ---


def test_a_machine_without_gpu_gets_one_line_per_reader() -> None:
    status = gpu_status()
    assert (status.gpus, status.source) == ([], "nobody")
    first, *reasons = str(status).splitlines()
    assert first == "no GPU"
    assert [reason.split(":")[0] for reason in reasons[:-1]] == ["gpustat", "nvidia-smi", "torch"]
    assert "doctor" in reasons[-1]
    assert reasons[1] == "nvidia-smi: command not found"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("NVML_ERROR_LIBRARY_NOT_FOUND", "NVML Shared Library Not Found"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "Driver Not Loaded"),
        ("NVML_ERROR_LIB_RM_VERSION_MISMATCH", "RM has detected an NVML/RM version mismatch"),
        ("NVML_ERROR_NO_PERMISSION", "Insufficient Permissions"),
    ],
)
def test_nvmls_errors_become_one_line(error: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml_fails(monkeypatch, error)
    assert str(gpu_status()).splitlines()[1].startswith(f"gpustat: {line}")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("raise ModuleNotFoundError(\"No module named 'gpustat'\")", "No module named 'gpustat'"),
        ("raise ImportError('pynvml is missing.\\n\\nWe ...')", "pynvml is missing."),
        ("raise ImportError", "ImportError"),
    ],
)
def test_a_gpustat_that_cannot_be_imported(
    source: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpustat.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gpustat")
    assert str(gpu_status()).splitlines()[1] == f"gpustat: {line}"


@pytest.mark.parametrize(
    ("printed", "end", "line"),
    [
        # what nvidia-smi itself prints
        (f"{MISMATCH}\nNVML library version: 580.95\n", "exit code 18", MISMATCH),
        (f"{NOT_LOADED}\n", "exit code 9", NOT_LOADED),
        ("No devices were found\n", "exit code 6", "No devices were found"),
        # and where it does not print
        ("", "it cannot be started: Permission denied", "it cannot be started: Permission denied"),
        ("0, 45", "no answer in 20 seconds", "no answer in 20 seconds"),
        ("", "", "printed nothing"),
    ],
)
def test_nvidia_smis_errors_become_one_line(
    printed: str, end: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi_answers(monkeypatch, printed, end)
    assert str(gpu_status()).splitlines()[2].startswith(f"nvidia-smi: {line.rstrip('.')}")


def test_a_pytorch_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(index: int) -> None:
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might ...")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", fail)
    assert str(gpu_status()).splitlines()[3] == "torch: CUDA error: out of memory"
