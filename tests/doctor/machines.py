"""Machines made up from facts, and the true texts of PyTorch, CUDA and NVIDIA's driver."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from course_utils.machine.doctor.facts import Caller, Driver, Facts, Gpu, Interpreter, Place
from course_utils.machine.environment import Environment

# test_probes.py compares these with the libraries that are installed
NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver "
    "from http://www.nvidia.com/Download/index.aspx"
)
TOO_OLD = "CUDA initialization: The NVIDIA driver on your system is too old (found version 12080)."
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
NO_HIP_KERNEL = "HIP error: invalid device function"
UNKNOWN = "CUDA unknown error - this may be due to an incorrectly set up environment"
STUB = "CUDA driver is a stub library"
NO_CUDA = "Torch not compiled with CUDA enabled"
NMS = "operator torchvision::nms does not exist"
MAJORS = "Detected that PyTorch and torchvision were compiled with different CUDA major versions"
ALLOCATOR = "Unrecognized key 'aa' in Accelerator allocator config."

# nvidia-smi's own
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
    "NVIDIA driver is installed and running."
)

PYTHON = "/home/ann/course/.venv/bin/python"
T4 = Gpu("Tesla T4", (7, 5), 15_828_320_256, "6a1c")
RTX = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 25_390_809_088, "b2f0")
ARCHS = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
DRIVER = Driver("580.95.05", "13.0", ("Tesla T4",), (7, 5), "", 1)


def builds(torch: str, vision: str = "0.29.2") -> dict[str, str]:
    """The versions of torch and torchvision, of one build: "2.15.0+cu132"."""
    tag = torch.partition("+")[2]
    return {"torch": torch, "torchvision": f"{vision}+{tag}" if tag else vision}


def machine(**changes: dict[str, Any]) -> Facts:
    """A Linux laptop without a GPU, asked from a terminal, but for `changes`: `interpreter={"cuda": ""}`."""
    parts: dict[str, Any] = {
        "caller": Caller(),
        "interpreter": Interpreter(
            path=PYTHON,
            version=(3, 12, 1),
            packages=builds("2.15.0+cu132"),
            recorded="2.15.0",
            torch_file="/home/ann/course/.venv/lib/python3.12/site-packages/torch/__init__.py",
            torch="2.15.0+cu132",
            computes=True,
            cuda="13.2",
            archs=ARCHS,
            vision=True,
            errors={"devices": f"RuntimeError: {NO_DRIVER}"},
            step="end",
        ),
        "driver": Driver(),
        "place": Place(
            Environment("own", Path("/home/ann/course/.venv")),
            root="/home/ann/course",
            data_folder="/data",
            home="/home/ann",
            memory=16 * 10**9,
            disk_free=50 * 10**9,
        ),
    }
    for name, values in changes.items():
        parts[name] = replace(parts[name], **values)
    return Facts(**parts)


def with_gpus(*gpus: Gpu, **changes: dict[str, Any]) -> Facts:
    """A machine whose GPUs work, but for `changes`."""
    seen = {"gpus": gpus, "accelerator": "cuda", "errors": {}, "driver_cuda": "13.0"} | changes.pop(
        "interpreter", {}
    )
    driver = vars(DRIVER) | {"gpus": tuple(gpu.name for gpu in gpus)} | changes.pop("driver", {})
    return machine(interpreter=seen, driver=driver, **changes)
