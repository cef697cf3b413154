"""What a record says about the machine it was made on; nothing in it names a person or a host."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch
import torchvision
from project import ROOT

from course_utils.machine.doctor.processes import ask_driver

UNKNOWN = "unknown"


def describe() -> dict[str, object]:
    """The card, its software and the CPU beside it; sizes in bytes."""
    card = torch.cuda.get_device_properties(0)
    return {
        "compute_capability": f"{card.major}.{card.minor}",
        "memory": card.total_memory,
        "multiprocessors": card.multi_processor_count,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "driver": ask_driver().version or UNKNOWN,
        "cuda": torch.version.cuda or f"HIP {torch.version.hip}",
        "cudnn": torch.backends.cudnn.version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": cpu(),
        "cpu_cores": os.cpu_count(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "allocator_settings": os.environ.get("PYTORCH_ALLOC_CONF")
        or os.environ.get("PYTORCH_CUDA_ALLOC_CONF"),
    }


def cpu() -> str:
    """The CPU's name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def commit() -> str | None:
    """The git commit of the course, with "+" where files were changed since; None where it is not known."""
    head = _first_line(["git", "rev-parse", "HEAD"])
    changed = _first_line(["git", "status", "--porcelain", "--untracked-files=no"])
    return f"{head}{'+' if changed else ''}" if head else None


def _first_line(command: list[str]) -> str:
    """The first line that a program prints; empty where it is missing, fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().partition("\n")[0]
