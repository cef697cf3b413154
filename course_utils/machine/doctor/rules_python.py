"""What the facts about Python, PyTorch and its packages mean. Pure functions of the facts."""

import re
from collections.abc import Iterator
from pathlib import PurePath

from .facts import Facts, Finding
from .findings import Version, finding

OLDEST_PYTHON, OLDEST_TORCH = (3, 11), (2, 11)
_PLEASANT = {"ipywidgets": "buttons and sliders", "gpustat": "one example in lesson 00"}


def python(facts: Facts) -> Iterator[Finding]:
    """Which interpreter runs the lessons, whether it is new enough, and whether there is another one."""
    it, caller, there = facts.interpreter, facts.caller, facts.caller.elsewhere
    if not it.path:
        yield finding(facts, "nothing_installed")
    elif not it.version:
        yield finding(facts, "python_broken")
    else:
        name = "python_old" if it.version < OLDEST_PYTHON else "python"
        yield finding(facts, name, version=".".join(map(str, it.version)))
    examined = not caller.notebook and there == str(facts.course.environment.prefix)
    if there and not examined and not facts.place.host and "torch" in it.packages:
        yield finding(facts, "second_environment")  # where PyTorch is missing, torch() says both


def torch(facts: Facts) -> Iterator[Finding]:
    """Whether PyTorch is there, new enough, loads and calculates."""
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
            clone_in_notebook=caller.notebook and facts.course.root,
        )
    elif error or not it.computes:
        reason = {"error": error or "it does not calculate", "runtime_missing": "WinError" in error}
        yield finding(facts, "torch_broken", version=version, **reason)
    else:
        name = "torch_old" if version.numbers < OLDEST_TORCH else "torch"
        yield finding(facts, name, version=version, cuda_build=it.cuda, cpu_build=not it.cuda)


def replaced(facts: Facts) -> Iterator[Finding]:
    """A pip install that replaced PyTorch: the one a kernel has loaded, or the one that Colab came with."""
    version, loaded = facts.interpreter.packages.get("torch"), facts.caller.torch
    if version and facts.caller.notebook and loaded and loaded != version:
        yield finding(facts, "torch_replaced_under_kernel", version=version)
    # pip's record of Colab's own has a build tag, that of the package index has none
    if version and facts.place.host == "colab" and not Version(facts.interpreter.recorded).tag:
        yield finding(facts, "torch_not_colabs", version=version)


def torchvision(facts: Facts) -> Iterator[Finding]:
    """Whether torchvision was built for this very PyTorch; its files tell without loading it."""
    it = facts.interpreter
    torch, vision = (Version(it.packages.get(name, "")) for name in ("torch", "torchvision"))
    error = it.errors.get("torchvision_import") or (it.end if it.step == "torchvision_import" else "")
    other_version = not _meets(it.needs_torch, torch)
    other_build = torch.build and vision.build and torch.build != vision.build and not other_version
    if not torch:
        return
    if not vision:
        yield finding(facts, "torchvision_missing", torch=torch)
    elif it.vision:
        yield finding(facts, "torchvision", vision=vision)
    elif error or other_version or other_build:
        reasons = {"other_version": other_version, "other_build": other_build, "error": error}
        yield finding(facts, "torchvision_misfit", torch=torch, vision=vision, **reasons)


def _meets(needs: str, torch: Version) -> bool:
    """Whether a PyTorch is one that torchvision's metadata asks for, as in "torch==2.15.0"."""
    asked = re.fullmatch(r"torch(==|>=)([\d.]+)", needs)
    wanted = Version(asked[2] if asked else torch).numbers
    return torch.numbers == wanted or (torch.numbers > wanted and asked[1] == ">=")


def packages(facts: Facts) -> Iterator[Finding]:
    """The smaller packages: in the way, missing, or pleasant to have."""
    it, own = facts.interpreter, facts.course.environment.kind == "own" and not facts.caller.notebook
    if "pynvml" in it.packages:
        yield finding(facts, "pynvml")
    if "torch" not in it.packages:
        return  # then they are all missing, and are installed with it
    optional = [*_PLEASANT, *([] if own else ["jupyterlab"])]  # JupyterLab may live next door
    needed = ["pillow" if name == "PIL" else name for name in it.absent if name not in optional]
    pleasant = [name for name in it.absent if name in _PLEASANT and not facts.place.host]
    uses = " and ".join(_PLEASANT[name] for name in pleasant)
    pinned = facts.course.root and not facts.caller.notebook
    for name, names in (("packages_missing", needed), ("pleasant_missing", pleasant)):
        if names:
            lists = {"listed": ", ".join(names), "names": " ".join(names), "uses": uses}
            yield finding(facts, name, **lists, not_own=not own, pinned=pinned)
