"""What the facts mean: each rule yields the findings that hold; the verdict is the last. Pure functions."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from course_utils.machine.environment import SIZES

from .facts import Facts, Finding, Gpu, Interpreter
from .findings import OLDEST_TORCH, TABLES, Version, finding

OLDEST_PYTHON = (3, 11)
GB = 10**9
MEMORY, DISK = 4.0, 1.0  # GB; below these the lessons get slow, or stop
LONGEST_ROOT = 97  # characters; JupyterLab's longest file has 137 below the packages, Windows' limit is 260
_MAKERS = {"ROCm": "AMD", "XPU": "Intel"}
_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # torch 2.10 to 2.15 read the first of these


def python(facts: Facts) -> Iterator[Finding]:
    """Which interpreter runs the lessons, whether it is new enough, and whether there is another one."""
    it, caller, there = facts.interpreter, facts.caller, facts.caller.elsewhere
    for file in facts.place.shadows:
        yield finding(facts, "file_in_the_way", file=file, module=PurePath(file).stem)
    if "its Python" in facts.failures:
        return  # said already
    if not it.path:
        yield finding(facts, "nothing_installed")
    elif not it.version:
        yield finding(facts, "python_broken")
    else:
        name = "python_old" if it.version < OLDEST_PYTHON else "python"
        yield finding(facts, name, version=".".join(map(str, it.version)))
    examined = not caller.notebook and there == str(facts.place.environment.prefix)
    if there and not examined and not facts.place.host and "torch" in it.packages:
        yield finding(facts, "second_environment")  # where PyTorch is missing, torch() says both


def torch(facts: Facts) -> Iterator[Finding]:
    """Whether PyTorch is there, new enough, loads and calculates, and whether pip has replaced it."""
    it, caller = facts.interpreter, facts.caller
    version = Version(it.packages.get("torch") or it.torch)
    error = it.errors.get("torch_import") or (it.end if it.step in ("installed", "torch_import") else "")
    if not it.version:
        return
    if PurePath(it.torch_file).name == "torch.py":
        yield finding(facts, "torch_hidden")
    elif not version:
        yield finding(
            facts,
            "torch_missing",
            error=error or "ModuleNotFoundError: No module named 'torch'",
            kernel_elsewhere=caller.notebook and caller.elsewhere,
            clone_in_notebook=caller.notebook and facts.place.root,
        )
    elif error or not it.computes:
        reason = {"error": error or "it does not calculate", "runtime_missing": "WinError" in error}
        yield finding(facts, "torch_broken", version=version, **reason)
    else:
        name = "torch_old" if version.numbers < OLDEST_TORCH else "torch"
        kinds = {"cuda_build": it.cuda, "other_build": it.other, "cpu_build": not it.cuda and not it.other}
        way = _way(facts, facts.driver.capability)
        way["runs"] = way["runs"] and facts.driver.version
        yield finding(facts, name, version=version, **kinds | way)
    if caller.notebook and caller.torch and caller.torch != it.packages.get("torch", caller.torch):
        yield finding(facts, "torch_replaced_under_kernel", version=version)
    # pip's record of Colab's own has a build tag, that of the package index has none
    if facts.place.host == "colab" and "torch" in it.packages and not Version(it.recorded).tag:
        yield finding(facts, "torch_not_colabs", version=version)


def torchvision(facts: Facts) -> Iterator[Finding]:
    """Whether torchvision was built for this very PyTorch: only loading it tells."""
    it = facts.interpreter
    torch, vision = (Version(it.packages.get(name, "")) for name in ("torch", "torchvision"))
    error = it.errors.get("torchvision_import") or (it.end if it.step == "torchvision_import" else "")
    if torch and not vision:
        yield finding(facts, "torchvision_missing", torch=torch)
    elif it.vision:
        yield finding(facts, "torchvision", vision=vision)
    elif error:
        yield finding(facts, "torchvision_misfit", torch=torch, vision=vision, error=error)


def packages(facts: Facts) -> Iterator[Finding]:
    """The smaller packages: in the way, missing, or pleasant to have."""
    it, own = facts.interpreter, facts.place.environment.kind == "own" and not facts.caller.notebook
    if "pynvml" in it.packages:
        yield finding(facts, "pynvml")
    if "torch" not in it.packages:
        return  # then they are all missing, and are installed with it
    optional = [*TABLES["pleasant"], *([] if own else ["jupyterlab"])]  # JupyterLab may live next door
    needed = ["pillow" if name == "PIL" else name for name in it.absent if name not in optional]
    pleasant = [name for name in it.absent if name in TABLES["pleasant"] and not facts.place.host]
    uses = " and ".join(TABLES["pleasant"][name] for name in pleasant)
    pinned = facts.place.root and not facts.caller.notebook
    for name, names in (("packages_missing", needed), ("pleasant_missing", pleasant)):
        if names:
            lists = {"listed": ", ".join(names), "names": " ".join(names), "uses": uses}
            yield finding(facts, name, **lists, not_own=not own, pinned=pinned)


def gpus(facts: Facts) -> Iterator[Finding]:
    """The driver; each GPU that PyTorch sees, or why it sees none."""
    it, driver = facts.interpreter, facts.driver
    if driver.version:
        yield finding(facts, "driver", gpus=", ".join(driver.gpus), cuda=driver.cuda)
    if it.torch and it.end and it.step in ("devices", "kernels"):
        yield finding(facts, "gpu_hangs", devices=it.step == "devices", kernels=it.step == "kernels")
    elif it.torch:
        yield from [_gpu(facts, number, gpu) for number, gpu in enumerate(it.gpus)] or [why_none(facts)]


def variables(facts: Facts) -> Iterator[Finding]:
    """Environment variables that hide or hurt GPUs, and virtual ones that are on in the asking notebook."""
    it, caller, values = facts.interpreter, facts.caller, facts.place.variables
    if it.torch and not it.end:
        if caller.uuids is not None and caller.uuids != tuple(gpu.uuid for gpu in it.gpus):
            yield finding(facts, "visible_too_late", started=len(caller.uuids), seen=len(it.gpus))
        elif "CUDA_VISIBLE_DEVICES" in values and it.gpus:
            yield finding(facts, "visible", seen=len(it.gpus), known=len(facts.driver.gpus))
    for name in filter(values.get, _ALLOCATOR):
        late = caller.uuids is not None and name in caller.changed
        yield finding(facts, "allocator", name=name, value=values[name], late=late)
    if caller.virtual:
        yield finding(facts, "virtual")
    strays = ", ".join(facts.place.strays)
    if ("stubs" in values.get("LD_LIBRARY_PATH", "") or strays) and not facts.gpus_work:
        yield finding(facts, "library_path", strays=strays, stubs=not strays)
    if values.get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        yield finding(facts, "launch_blocking", value=values["CUDA_LAUNCH_BLOCKING"])
    if values.get("NVIDIA_VISIBLE_DEVICES") in ("", "void", "none") and facts.place.container:
        yield finding(facts, "container_told_to_hide", value=values["NVIDIA_VISIBLE_DEVICES"])
    mode = values.get("COURSE_DEVICE", "")
    if mode in ("virtual", "cpu") or (mode == "real" and it.gpus):
        yield finding(facts, "device_chosen", mode=mode)
    elif mode not in ("", "auto"):
        yield finding(facts, "device_impossible", mode=mode, real=mode == "real", unknown=mode != "real")


def _gpu(facts: Facts, number: int, gpu: Gpu) -> Finding:
    """One GPU that PyTorch sees: did a kernel on it run?"""
    it, error = facts.interpreter, gpu.error
    names = (name for words, name in TABLES["gpu_errors"].items() if words in error)
    name = next(names, "gpu_fails") if error else "gpu"
    details = ", compute capability {}.{}, {:.1f} GiB".format(*gpu.capability, gpu.memory / 2**30)
    return finding(
        facts,
        "other_without_kernels" if it.other and name == "gpu_without_kernels" else name,
        about=f"GPU {number}: {gpu.name}{details if it.accelerator == 'cuda' and not it.other else ''}",
        error=error,
        reason=error.rstrip("."),
        archs=", ".join(it.archs),
        capability="{}{}".format(*gpu.capability),
        working=[number for number, other in enumerate(it.gpus) if not other.error],
        **_way(facts, gpu.capability),
        variable=next((name for name in _ALLOCATOR if name in facts.place.variables), _ALLOCATOR[0]),
    )


def _way(facts: Facts, capability: tuple[int, ...]) -> dict[str, Any]:
    """How this card comes to work: a build with its kernels that this driver runs, or the driver first."""
    builds, it, own = TABLES["builds"], facts.interpreter, "cu" + facts.interpreter.cuda.replace(".", "")
    supported = Version(it.driver_cuda or facts.driver.cuda or "13.0").numbers
    fitting = [tag for tag, build in builds.items() if _has_kernels(build["kernels"], capability)]
    running = [tag for tag in fitting if builds[tag]["cuda"] <= supported[0]]
    stays = bool(it.cuda) and (own in fitting or own not in builds)
    tag = next(iter(running or fitting), "")
    major = builds[tag]["cuda"] if tag and not stays else it.cuda.partition(".")[0]
    system = "windows" if facts.place.system == "win32" or facts.place.wsl else "linux"
    return {
        "tag": tag,
        "no_build": not tag,
        "runs": bool(running),
        "stays": stays,
        "changes": bool(it.cuda) and not stays,
        "stays_or_runs": stays and bool(running),
        "unknown_card": not capability and not running,
        "last_driver": bool(capability) and capability < (7, 5),
        "needed": TABLES["first_driver"].get(str(major), {}).get(system, "the newest"),
    }


def _has_kernels(kernels: list[int], capability: tuple[int, ...]) -> bool:
    """Kernels for 8.0 run on 8.9 too, but not on 7.5 or 9.0; of an unknown card the best is assumed."""
    card = capability[0] * 10 + capability[1] if capability else kernels[0]
    return any(kernel // 10 == card // 10 and kernel <= card for kernel in kernels)


def why_none(facts: Facts) -> Finding:
    """Say why PyTorch sees no GPU: the first cause that explains it, from the plainest to the rarest."""
    it, driver, place, there = facts.interpreter, facts.driver, facts.place, facts.gpus_there
    supported, silent = it.driver_cuda or driver.cuda, not facts.driver.version and not facts.driver.error
    causes = {
        "hosted_without_gpu": place.host and not there,
        "other_unseen": not there and _MAKERS.get(it.other) in driver.others,
        "other_card": not there and driver.others,
        "driver_mixed": "version mismatch" in driver.error,
        "gpus_hidden": it.cuda and _hides_all(place.variables.get("CUDA_VISIBLE_DEVICES"), len(driver.gpus)),
        "card_without_build": driver.capability and _way(facts, driver.capability)["no_build"],
        "cpu_build": there and not it.cuda and place.system != "darwin",
        "stub": "stub library" in _said(it),
        "wsl_linux_driver": place.wsl and it.libcuda and "/wsl/" not in it.libcuda,
        "wsl_without_gpu": place.wsl and silent,
        "driver_old": supported and Version(supported).numbers[:1] < Version(it.cuda).numbers[:1],
        "container_shut_out": place.container and silent and driver.cards,
        "container_without_gpu": place.container and silent,
        "driver_broken": driver.error,
        "driver_missing": driver.cards and not driver.version,
        "driver_asleep": driver.gpus and "CUDA unknown error" in _said(it),
        "gpu_unexplained": driver.gpus,
        "no_gpu": True,
    }
    name = next(name for name, holds in causes.items() if holds)
    return finding(facts, name, **_about_driver(facts, supported))


def _about_driver(facts: Facts, supported: str) -> dict[str, Any]:
    """What the texts of `why_none` name, and what they depend on."""
    driver, said = facts.driver, _said(facts.interpreter)
    return _way(facts, driver.capability) | {
        "said": said,
        "unsaid": not said,
        "count": len(driver.gpus),
        "first_gpu": next(iter(facts.gpus_there), ""),
        "supported": supported,
        "version_known": driver.version,
        "maker": _MAKERS.get(facts.interpreter.other) or next(iter(driver.others), ""),
        "rocm": "AMD" in driver.others,
        "xpu": "Intel" in driver.others,
    }


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


def room(facts: Facts) -> Iterator[Finding]:
    """Disk, memory, and the pictures of lesson 04."""
    place, installed = facts.place, "torch" in facts.interpreter.packages
    disk, memory = place.disk_free / GB, place.memory / GB
    needed = DISK if installed else sum(SIZES.get(place.system, SIZES["linux"]))
    if disk < needed:
        yield finding(facts, "disk_nearly_full" if installed else "disk_too_small", disk=disk, needed=needed)
    else:
        name = "little_memory" if 0 <= memory < MEMORY else "room"
        yield finding(facts, name, memory=memory, disk=disk, memory_known=memory > 0)
    notes = {"read_only": place.read_only, "home_missing": place.home_missing}
    notes["path_long"] = place.system == "win32" and len(place.root) > LONGEST_ROOT
    yield from (finding(facts, name) for name, holds in notes.items() if holds)
    yield finding(facts, f"data_{place.data}")


RULES = (python, torch, torchvision, packages, gpus, variables, room)


def judge(facts: Facts) -> list[Finding]:
    """Apply every rule; the verdict is the last finding. What fails says so, and the others go on."""
    findings = [_failed(check, error) for check, error in facts.failures.items()]
    for rule in RULES:
        findings += _applied(rule.__name__, lambda rule=rule: rule(facts))
    return findings + _applied("verdict", lambda: [verdict(facts, findings)])


def _applied(check: str, rule: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a rule found; where it fails, what it found until then, and that it failed."""
    found: list[Finding] = []
    try:
        found.extend(rule())
    except Exception as error:  # whatever it is: the doctor never ends in a traceback
        found.append(_failed(check, f"{type(error).__name__}: {error}"))
    return found


def _failed(check: str, error: str) -> Finding:
    """Filled in without the facts, which may be what it failed on."""
    texts = TABLES["check_failed"]
    return Finding(texts["level"], texts["title"].format(check=check, error=error), texts["meaning"])


def verdict(facts: Facts, findings: list[Finding]) -> Finding:
    """Whether the course can run here, and on what; a "problem" with its first fix where it cannot."""
    it = facts.interpreter
    old = it.version < OLDEST_PYTHON or Version(it.torch).numbers < OLDEST_TORCH
    stops = [each for each in findings if each.stops]
    if old or not it.computes or not it.vision or stops:
        problems = [each for each in findings if each.level == "problem"]
        first = [*stops, *problems, finding(facts, "torch_useless")][0]
        return replace(finding(facts, "cannot_run", first=first.title), fix=first.fix)
    mode, works = facts.place.variables.get("COURSE_DEVICE"), facts.gpus_work
    return finding(
        facts,
        "can_run",
        virtual_asked=mode == "virtual",
        cpu_asked=mode == "cpu",
        not_cuda=works and it.accelerator != "cuda",
        several=works and len(it.gpus) > 1,
        one=works,
        faulty=it.gpus,
        unused=facts.gpus_there,
        count=len(it.gpus),
        names=", ".join(dict.fromkeys(gpu.name for gpu in it.gpus)),
    )
