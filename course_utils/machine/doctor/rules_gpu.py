"""What the facts about the driver and the GPUs mean. Pure functions of the facts."""

from collections.abc import Iterator

from . import fixes
from .facts import NOTE, OK, PROBLEM, Facts, Finding, Gpu
from .rules_no_gpu import why_none

_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # torch 2.11 to 2.15 read the first of these


def driver(facts: Facts) -> Iterator[Finding]:
    """NVIDIA's driver, the GPUs it knows, and the newest CUDA version it supports."""
    it = facts.driver
    if it.version:
        title = ": ".join(filter(None, [f"NVIDIA driver {it.version}", ", ".join(it.gpus)]))
        yield Finding(OK, title, f"It runs programs built for CUDA up to {it.cuda}." if it.cuda else "")


def gpus(facts: Facts) -> Iterator[Finding]:
    """One finding for each GPU that PyTorch sees, or one that says why it sees none."""
    it = facts.interpreter
    if it is None or not it.torch:
        return
    if it.end and it.step in ("devices", "kernels"):
        did = "look for GPUs" if it.step == "devices" else "use a GPU"
        fix = fixes.fresh(facts) or "restart the machine"
        yield Finding(
            PROBLEM, "PyTorch does not come back from the GPU", f"Its last step, to {did}: {it.end}.", fix
        )
    elif it.gpus:
        yield from (_gpu(facts, number, gpu) for number, gpu in enumerate(it.gpus))
    else:
        yield why_none(facts)


def visible(facts: Facts) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES: what it leaves, and whether it was changed after CUDA had started."""
    it, named = facts.interpreter, facts.place.variables.get("CUDA_VISIBLE_DEVICES")
    if it is None or not it.torch or it.end:
        return
    started = facts.caller.uuids
    if started is not None and started != tuple(gpu.uuid for gpu in it.gpus):
        meaning = (
            f"This kernel stays with the GPUs it started with ({len(started)}); a new one would have "
            f"{len(it.gpus)}. Set the variable in the first cell, before anything uses a GPU."
        )
        title = "CUDA_VISIBLE_DEVICES was changed after CUDA had started"
        yield Finding(PROBLEM, title, meaning, fixes.restart(facts))
    elif named is not None and it.gpus:
        of = f" of {len(facts.driver.gpus)}" if facts.driver.gpus else ""
        title = f"CUDA_VISIBLE_DEVICES={named}: GPUs that PyTorch sees: {len(it.gpus)}{of}"
        meaning = "It counts them anew: cuda:0 is the first one named."
        yield Finding(NOTE, title, meaning, fixes.unset(facts, "CUDA_VISIBLE_DEVICES"))


def allocator(facts: Facts) -> Iterator[Finding]:
    """The settings of the memory allocator, which are read once."""
    values = {name: facts.place.variables[name] for name in _ALLOCATOR if name in facts.place.variables}
    if not values:
        return
    (name, value), *second = values.items()
    meaning = "It sets up PyTorch's memory allocator, which reads it once, before the first tensor on a GPU."
    if second:
        meaning += f" {second[0][0]} is set as well, and not read."
    late = facts.caller.uuids is not None and name in facts.caller.changed
    if late:
        meaning += " It was set in this kernel, where CUDA has started: perhaps too late."
    fix = f"{fixes.restart(facts)}, and set it in the first cell" if late else ""
    yield Finding(NOTE, f"{name}={value}", meaning, fix)


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
    it, about, error = facts.interpreter, f"GPU {number}: {gpu.name}", gpu.error
    if it.accelerator == "cuda":
        about += ", compute capability {}.{}".format(*gpu.capability) + f", {gpu.memory / 2**30:.1f} GiB"
    if not error:
        return Finding(OK, about, "A kernel was launched on it and waited for; its result was right.")
    lacking = it.archs and not covers(it.archs, gpu.capability)
    if "no kernel image" in error or lacking:
        meaning = f"{error.rstrip('.')}. This PyTorch has kernels for {', '.join(it.archs)}; this GPU is "
        meaning += "sm_{}{}.".format(*gpu.capability)
        return Finding(
            PROBLEM, f"{about}: this PyTorch has no kernels for it", meaning, _other_build(facts, gpu)
        )
    if "out of memory" in error or "busy or unavailable" in error:
        meaning = f"{error.rstrip('.')}. A program holds it, perhaps another notebook's kernel, or this one."
        fix = "nvidia-smi   (it shows which; in JupyterLab: Kernel > Shut Down All Kernels)"
        return Finding(PROBLEM, f"{about}: it is taken", meaning, fix)
    if "allocator config" in error:
        name = next((name for name in _ALLOCATOR if name in facts.place.variables), _ALLOCATOR[0])
        return Finding(
            PROBLEM, f"{about}: PyTorch does not understand {name}", error, fixes.unset(facts, name)
        )
    fix = fixes.fresh(facts) or "restart the machine"
    return Finding(PROBLEM, f"{about}: a kernel on it fails", error, fix)


def _other_build(facts: Facts, gpu: Gpu) -> str:
    """The fix for a GPU that this PyTorch has no kernels for."""
    works = [number for number, other in enumerate(facts.interpreter.gpus) if not other.error]
    if works:
        return f"set CUDA_VISIBLE_DEVICES={works[0]} before Python starts: that GPU works"
    if facts.place.host == "kaggle":
        return "Settings > Accelerator > GPU T4 x2"
    if gpu.capability < (5, 0):
        return "set COURSE_DEVICE=virtual: no current PyTorch runs on this GPU"
    return fixes.torch_build(facts, "cu130" if gpu.capability >= (7, 5) else "cu126")
