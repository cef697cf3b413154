"""Why PyTorch sees no GPU: the first cause that explains it. Pure functions of the facts."""

import re

from . import fixes
from .facts import NOTE, OK, PROBLEM, Facts, Finding, Interpreter

# CUDA major version -> the first driver (Linux, Windows) for it and for all its minor versions:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
FIRST_DRIVER = {12: ("525.60.13", "528.33"), 13: ("580.65.06", "580")}
_VIRTUAL = "The lessons switch on virtual GPUs, cuda:0 to cuda:7, which behave like real ones."


def why_none(facts: Facts) -> Finding:
    """Say why there is no GPU, from the plainest cause to the rarest."""
    causes = (
        _platform,
        _mismatch,
        _hidden,
        _cpu_build,
        _stub,
        _wsl,
        _too_old,
        _container,
        _broken,
        _puzzling,
    )
    found = (cause(facts, facts.interpreter) for cause in causes)
    title = "This Mac has" if facts.place.system == "darwin" else "This machine has no NVIDIA driver, and"
    return next(filter(None, found), None) or Finding(OK, f"{title} no GPU for PyTorch", _VIRTUAL)


def decoded(number: int) -> str:
    """A CUDA version as the driver counts it: 12080 is "12.8"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def said(it: Interpreter) -> str:
    """What PyTorch said about the missing GPU, as a sentence to quote; empty where it said nothing."""
    text = next((text for text in it.warnings if "CUDA" in text), it.errors.get("devices", ""))
    return f"PyTorch says: {text}" if text else ""


def _platform(facts: Facts, it: Interpreter) -> Finding | None:
    """Colab or Kaggle with a machine that has no GPU."""
    title, click = {
        "colab": ("This Colab runtime has no GPU", "Runtime > Change runtime type > T4 GPU"),
        "kaggle": ("This Kaggle notebook has no GPU", "Settings > Accelerator > GPU T4 x2"),
    }.get(facts.place.host, ("", ""))
    return Finding(NOTE, title, _VIRTUAL, click) if title and not facts.gpus_there else None


def _mismatch(facts: Facts, it: Interpreter) -> Finding | None:
    """The driver was updated, and the old one is still in the kernel."""
    if "version mismatch" not in facts.driver.error:
        return None
    meaning = (
        f"nvidia-smi says: {facts.driver.error}. The driver was updated, and the old one is loaded still."
    )
    return Finding(PROBLEM, "Two versions of the NVIDIA driver are mixed", meaning, "sudo reboot")


def _hidden(facts: Facts, it: Interpreter) -> Finding | None:
    """CUDA_VISIBLE_DEVICES begins with no GPU of this machine; what stands behind that does not count."""
    named, there = facts.place.variables.get("CUDA_VISIBLE_DEVICES"), len(facts.driver.gpus)
    if named is None or not there or not it.cuda:
        return None
    first = named.partition(",")[0].strip()
    if first and not (first.lstrip("-").isdecimal() and not 0 <= int(first) < there):
        return None
    has = "one GPU, number 0" if there == 1 else f"{there} GPUs, 0 to {there - 1}"
    meaning = f"PyTorch sees only the GPUs this variable names. This machine has {has}."
    fix = fixes.unset(facts, "CUDA_VISIBLE_DEVICES")
    return Finding(PROBLEM, f'CUDA_VISIBLE_DEVICES="{named}" hides every GPU', meaning, fix)


def _cpu_build(facts: Facts, it: Interpreter) -> Finding | None:
    """A GPU, and a PyTorch that was built without CUDA."""
    if it.cuda or not facts.gpus_there or facts.place.system == "darwin":
        return None
    meaning = f"It cannot use {facts.gpus_there[0]}, and says: Torch not compiled with CUDA enabled."
    if facts.place.system == "win32":
        meaning += " On Windows a plain pip install brings this build."
    old = fixes.numbers(facts.driver.cuda or "13.0") < (13, 0) or (0,) < facts.driver.capability < (7, 5)
    fix = fixes.torch_build(facts, "cu126" if old else "cu130")
    return Finding(PROBLEM, "This PyTorch is built for the CPU only", meaning, fix)


def _stub(facts: Facts, it: Interpreter) -> Finding | None:
    """A library for linking was loaded in place of the driver."""
    if "stub library" not in said(it):
        return None
    meaning = f"LD_LIBRARY_PATH leads to a libcuda that is empty, made for compilers. {said(it)}"
    fix = fixes.unset(facts, "LD_LIBRARY_PATH")
    return Finding(PROBLEM, "PyTorch found a stub in place of the driver", meaning, fix)


def _wsl(facts: Facts, it: Interpreter) -> Finding | None:
    """Linux inside Windows: the driver is that of Windows."""
    if facts.place.wsl and it.libcuda and "/wsl/" not in it.libcuda:
        meaning = (
            f"WSL uses Windows' driver, from /usr/lib/wsl/lib. {it.libcuda} was loaded instead. {said(it)}"
        )
        fix = "sudo apt purge '^nvidia-.*' '^libnvidia-.*'   (then, in Windows: wsl --shutdown)"
        return Finding(PROBLEM, "A Linux driver inside WSL hides the one of Windows", meaning, fix)
    if facts.place.wsl and not facts.driver.version and not facts.driver.error:
        meaning = f"{_VIRTUAL} For an NVIDIA GPU, install its driver in Windows, none inside WSL."
        return Finding(NOTE, "WSL sees no GPU", meaning, "wsl --update   (in Windows)")
    return None


def _too_old(facts: Facts, it: Interpreter) -> Finding | None:
    """A driver that does not know the CUDA version PyTorch was built for."""
    found = re.search(r"too old \(found version (\d+)\)", said(it))
    number = int(found[1]) if found else it.driver_cuda
    supported = decoded(number) if number else facts.driver.cuda
    if not it.cuda or not supported or fixes.numbers(supported)[0] >= fixes.numbers(it.cuda)[0]:
        return None
    windows = facts.place.system == "win32" or facts.place.wsl
    needed = FIRST_DRIVER.get(fixes.numbers(it.cuda)[0], ("the newest",) * 2)[windows]
    has, where = facts.driver.version, " (in Windows)" if facts.place.wsl else ""
    title = f"The NVIDIA driver {has}".strip() + f" is too old: it supports CUDA up to {supported}"
    meaning = f"This PyTorch is built for CUDA {it.cuda} and needs driver {needed} or newer."
    fix = f"install driver {needed} or newer: https://www.nvidia.com/drivers{where}"
    # the build for CUDA 12.6 has no kernels for cards of the Blackwell generation and later
    if fixes.numbers(supported) >= (12, 0) and facts.driver.capability < (10,):
        meaning += " Install that one, or take PyTorch's build for CUDA 12.6, which this driver runs:"
        fix = fixes.torch_build(facts, "cu126")
    return Finding(PROBLEM, title, meaning, fix)


def _container(facts: Facts, it: Interpreter) -> Finding | None:
    """A container that was not given a GPU."""
    if not facts.place.container or facts.driver.version or facts.driver.error:
        return None
    if facts.driver.cards or facts.driver.module:
        title = "This container was started without the machine's GPU"
        meaning = "It has to be started with it, on a host with NVIDIA's Container Toolkit."
        return Finding(PROBLEM, title, meaning, "docker run --gpus all ...   (on the host)")
    meaning = (
        f"{_VIRTUAL} If the host has an NVIDIA GPU and its Container Toolkit, start the container with it."
    )
    return Finding(NOTE, "This container has no GPU", meaning, "docker run --gpus all ...   (on the host)")


def _broken(facts: Facts, it: Interpreter) -> Finding | None:
    """A driver that does not answer, or a card without a driver."""
    if facts.driver.error:
        meaning = f"nvidia-smi says: {facts.driver.error}"
        fix = "sudo reboot   (where that does not help, install the driver again)"
        return Finding(PROBLEM, "The NVIDIA driver is there, but does not work", meaning, fix)
    if facts.driver.cards and not facts.driver.version:
        meaning = f"Only the driver is missing: PyTorch brings the rest of CUDA along. {said(it)}"
        fix = "sudo ubuntu-drivers install   (not Ubuntu: https://www.nvidia.com/drivers)"
        return Finding(PROBLEM, "There is an NVIDIA card, but no driver for it", meaning, fix)
    return None


def _puzzling(facts: Facts, it: Interpreter) -> Finding | None:
    """The driver shows a GPU, PyTorch does not, and nothing above says why."""
    if not facts.driver.gpus:
        return None
    fix = fixes.fresh(facts) or "restart the machine"
    return Finding(PROBLEM, "PyTorch cannot use this machine's GPU", said(it) or "It does not say why.", fix)
