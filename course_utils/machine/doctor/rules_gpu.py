"""What the facts about the driver and the GPUs mean. Pure functions of the facts."""

import re
from collections.abc import Iterator
from typing import Any

from .facts import Facts, Finding, Gpu, Interpreter
from .findings import Version, finding

# CUDA major version -> the first driver (Linux, Windows) for it and for all its minor versions:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
FIRST_DRIVER = {"12": ("525.60.13", "528.33"), "13": ("580.65.06", "580")}
_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # torch 2.11 to 2.15 read the first of these


def gpus(facts: Facts) -> Iterator[Finding]:
    """The driver; each GPU that PyTorch sees, or why it sees none."""
    it, driver = facts.interpreter, facts.driver
    if driver.version:
        yield finding(facts, "driver", gpus=", ".join(driver.gpus), cuda=driver.cuda)
    if it.torch and it.end and it.step in ("devices", "kernels"):
        yield finding(facts, "gpu_hangs", devices=it.step == "devices", kernels=it.step == "kernels")
    elif it.torch:
        yield from [_gpu(facts, number, gpu) for number, gpu in enumerate(it.gpus)] or [why_none(facts)]


def settings(facts: Facts) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES, and the settings of the memory allocator: both are read once."""
    it, caller, variables = facts.interpreter, facts.caller, facts.place.variables
    if it.torch and not it.end:
        if caller.uuids is not None and caller.uuids != tuple(gpu.uuid for gpu in it.gpus):
            yield finding(facts, "visible_too_late", started=len(caller.uuids), seen=len(it.gpus))
        elif "CUDA_VISIBLE_DEVICES" in variables and it.gpus:
            yield finding(facts, "visible", seen=len(it.gpus), known=len(facts.driver.gpus))
    name, *second = [*(name for name in _ALLOCATOR if name in variables), ""]
    if name:
        late = caller.uuids is not None and name in caller.changed
        yield finding(facts, "allocator", variable=name, value=variables[name], second=second[0], late=late)


def covers(archs: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Whether a build for `archs` runs on a GPU: same major and not above it, or PTX, which is compiled."""
    for arch in archs:
        kind, _, number = arch.rstrip("af").partition("_")
        built = divmod(int(number), 10)
        if (built[0] == capability[0] and built <= capability) or (kind == "compute" and built <= capability):
            return True
    return False


def _gpu(facts: Facts, number: int, gpu: Gpu) -> Finding:
    """One GPU that PyTorch sees: did a kernel on it run?"""
    it, error, cuda = facts.interpreter, gpu.error, facts.interpreter.accelerator == "cuda"
    details = ", compute capability {}.{}, {:.1f} GiB".format(*gpu.capability, gpu.memory / 2**30)
    working = [number for number, other in enumerate(it.gpus) if not other.error]
    if not error:
        name = "gpu"
    elif "no kernel image" in error or (it.archs and not covers(it.archs, gpu.capability)):
        name = "gpu_without_kernels"
    elif "out of memory" in error or "busy or unavailable" in error:
        name = "gpu_taken"
    else:
        name = "gpu_allocator" if "allocator config" in error else "gpu_fails"
    return finding(
        facts,
        name,
        about=f"GPU {number}: {gpu.name}{details if cuda else ''}",
        error=error,
        reason=error.rstrip("."),
        archs=", ".join(it.archs),
        capability="{}{}".format(*gpu.capability),
        another_works=working,
        another=min(working, default=None),
        too_old_for_any=gpu.capability < (5, 0),
        tag="cu130" if gpu.capability >= (7, 5) else "cu126",
        variable=next((name for name in _ALLOCATOR if name in facts.place.variables), _ALLOCATOR[0]),
    )


def why_none(facts: Facts) -> Finding:
    """Say why PyTorch sees no GPU: the first cause that explains it, from the plainest to the rarest."""
    it, driver, place, there = facts.interpreter, facts.driver, facts.place, facts.gpus_there
    supported, silent = supported_cuda(facts), not facts.driver.version and not facts.driver.error
    causes = {
        "hosted_without_gpu": place.host and not there,
        "driver_mixed": "version mismatch" in driver.error,
        "gpus_hidden": it.cuda and _hides_all(place.variables.get("CUDA_VISIBLE_DEVICES"), len(driver.gpus)),
        "cpu_build": there and not it.cuda and place.system != "darwin",
        "stub": "stub library" in _said(it),
        "wsl_linux_driver": place.wsl and it.libcuda and "/wsl/" not in it.libcuda,
        "wsl_without_gpu": place.wsl and silent,
        "driver_old": supported and Version(supported).numbers[:1] < Version(it.cuda).numbers[:1],
        "container_shut_out": place.container and silent and (driver.cards or driver.module),
        "container_without_gpu": place.container and silent,
        "driver_broken": driver.error,
        "driver_missing": driver.cards and not driver.version,
        "gpu_unexplained": driver.gpus,
        "no_gpu": True,
    }
    name = next(name for name, holds in causes.items() if holds)
    return finding(facts, name, **_about_driver(facts, supported))


def _about_driver(facts: Facts, supported: str) -> dict[str, Any]:
    """What the texts of `why_none` name, and what they depend on."""
    driver, count, said = facts.driver, len(facts.driver.gpus), _said(facts.interpreter)
    windows, newest_cuda = facts.place.system == "win32" or facts.place.wsl, Version(driver.cuda or "13.0")
    needed = FIRST_DRIVER.get(facts.interpreter.cuda.partition(".")[0], ("the newest", "the newest"))
    return {
        "said": said,
        "unsaid": not said,
        "one_gpu": count == 1,
        "several_gpus": count > 1,
        "count": count,
        "last": count - 1,
        "first_gpu": next(iter(facts.gpus_there), ""),
        "needs_cuda_12": newest_cuda.numbers < (13, 0) or (0,) < driver.capability < (7, 5),
        "supported": supported,
        "version_known": driver.version,
        "needed": needed[windows],
        # the build for CUDA 12.6 has no kernels for cards of the Blackwell generation and later
        "cuda_12_will_do": Version(supported).numbers >= (12, 0) and driver.capability < (10,),
    }


def supported_cuda(facts: Facts) -> str:
    """The newest CUDA version that the driver supports, as PyTorch or nvidia-smi say it; empty: unknown."""
    found = re.search(r"too old \(found version (\d+)\)", _said(facts.interpreter))
    number = int(found[1]) if found else facts.interpreter.driver_cuda  # 12080 is "12.8"
    return f"{number // 1000}.{number % 1000 // 10}" if number else facts.driver.cuda


def _said(it: Interpreter) -> str:
    """What PyTorch said about the missing GPU, as a sentence to quote; empty where it said nothing."""
    text = next((text for text in it.warnings if "CUDA" in text), it.errors.get("devices", ""))
    return f"PyTorch says: {text}" if text else ""


def _hides_all(named: str | None, there: int) -> bool:
    """Whether CUDA_VISIBLE_DEVICES begins with no GPU of this machine; what stands behind does not count."""
    if named is None or not there:
        return False
    first = named.partition(",")[0].strip()
    return not first or (first.lstrip("-").isdecimal() and not 0 <= int(first) < there)
