"""What the facts about Python, PyTorch and torchvision mean. Pure functions of the facts."""

import re
from collections.abc import Iterator
from pathlib import PurePath

from . import fixes
from .facts import NOTE, OK, PROBLEM, Facts, Finding

OLDEST_PYTHON, OLDEST_TORCH = (3, 11), (2, 11)
MISSING = "Packages are missing: "  # how the finding begins that stops the course
_PLEASANT = {"ipywidgets": "buttons and sliders", "gpustat": "one example in lesson 00"}


def python(facts: Facts) -> Iterator[Finding]:
    """Which interpreter runs the lessons, and whether it is new enough."""
    it = facts.interpreter
    if it is None:
        meaning = "The course keeps its packages in a folder of its own, .venv, and changes nothing else."
        yield Finding(PROBLEM, "Nothing is installed here", meaning, fixes.lab(facts))
        return
    if not it.version:
        fix = f"delete the folder {facts.course.environment.prefix}, then: {fixes.lab(facts)}"
        own = facts.course.environment.kind == "own" and not facts.caller.notebook
        fix = fix if own else "reinstall it"
        yield Finding(PROBLEM, f"This Python does not work: {it.path}", it.end, fix)
        return
    title = f"Python {'.'.join(map(str, it.version))}: {it.path}"
    whose = {"own": "From the course's own environment, .venv.", "active": "From the active environment."}
    meaning = whose.get(facts.course.environment.kind, "It is this notebook service's own.")
    meaning = "It runs the cells of this notebook." if facts.caller.notebook else meaning
    if tuple(it.version[:2]) < OLDEST_PYTHON:
        fix = "install Python 3.13 from python.org, then use it"
        yield Finding(PROBLEM, title, "The course needs Python 3.11 to 3.14.", fix)
    else:
        yield Finding(OK, title, meaning)


def environments(facts: Facts) -> Iterator[Finding]:
    """A kernel or a shell that is in another environment than this Python."""
    it, there = facts.interpreter, facts.caller.elsewhere
    used = not facts.caller.notebook and there == str(facts.course.environment.prefix)
    if not there or used or facts.place.host or it is None or "torch" not in it.packages:
        return  # where PyTorch is missing, torch() says both
    what = "Jupyter was started from" if facts.caller.notebook else "This shell has activated"
    meaning = f"{what} {there}: what is installed there is not seen by {it.path}."
    fix = "Kernel > Change Kernel, if you meant the other one" if facts.caller.notebook else "deactivate"
    yield Finding(NOTE, "There is a second environment", meaning, fix)


def torch(facts: Facts) -> Iterator[Finding]:
    """Whether PyTorch is there, new enough, loads and calculates."""
    it = facts.interpreter
    if it is None or not it.version:
        return
    error = it.errors.get("torch_import") or (it.end if it.step in ("installed", "torch_import") else "")
    version = it.packages.get("torch") or it.torch
    shadow = PurePath(it.torch_file).name == "torch.py"
    if shadow:
        meaning = f"Python loads it in place of PyTorch: {it.torch_file}"
        yield Finding(PROBLEM, "A file of yours is named torch.py", meaning, "give that file another name")
    elif not version:
        yield _missing(facts, error)
    elif error or not it.computes:
        title = f"PyTorch {version} is installed, but cannot be loaded"
        error = error or it.errors.get("torch_import", "it does not calculate")
        yield Finding(PROBLEM, title, error, _reinstall(facts, version, error))
    elif fixes.numbers(version) < OLDEST_TORCH:
        title = f"PyTorch {version} is older than this course needs"
        fix = fixes.fresh(facts) or fixes.pip(facts, "install --upgrade torch torchvision")
        yield Finding(PROBLEM, title, "The course is tested with PyTorch 2.11 to 2.15.", fix)
    else:
        build = f"Built for CUDA {it.cuda}, which it brings along: nothing else of CUDA has to be installed."
        meaning = build if it.cuda else "A build for the CPU, without CUDA."
        yield Finding(OK, f"PyTorch {version}: loaded, and calculates on the CPU", meaning)


def replaced(facts: Facts) -> Iterator[Finding]:
    """A pip install that replaced PyTorch: the one a kernel has loaded, or the one that Colab came with."""
    it, loaded = facts.interpreter, facts.caller.torch
    version = it.packages.get("torch") if it else None
    if version and facts.caller.notebook and loaded and loaded != version:
        title = f"PyTorch was replaced while this kernel had it loaded: {loaded}, now {version}"
        meaning = "The kernel still runs the old one; what it loads from now on belongs to the new one."
        yield Finding(PROBLEM, title, meaning, fixes.restart(facts))
    # pip's record of Colab's own has a build tag, that of the package index has none
    if version and facts.place.host == "colab" and not fixes.tag(it.recorded):
        title = f"This PyTorch, {version}, is not the one Colab came with"
        meaning = "pip replaced it. Colab's own fits its driver and its torchvision; this one may not."
        yield Finding(NOTE, title, meaning, fixes.fresh(facts))


def torchvision(facts: Facts) -> Iterator[Finding]:
    """Whether torchvision was built for this very PyTorch; its files tell without loading it."""
    it = facts.interpreter
    if it is None or "torch" not in it.packages:
        return
    torch, vision = it.packages["torch"], it.packages.get("torchvision")
    index = fixes.index(torch)
    pair = f"install torch=={fixes.plain(torch)} torchvision{index}"
    if vision is None:
        meaning = "Lesson 04 reads and changes its pictures with it."
        yield Finding(PROBLEM, "torchvision is not installed", meaning, fixes.pip(facts, pair))
        return
    error = it.errors.get("torchvision_import") or (it.end if it.step == "torchvision_import" else "")
    reason = _misfit(torch, vision, it.needs_torch)
    if it.vision or not (error or reason):
        if it.vision:
            yield Finding(OK, f"torchvision {vision}: loaded, and fits this PyTorch")
        return
    same = f"install --force-reinstall --no-deps torchvision=={fixes.plain(vision)}{index}"
    fix = fixes.fresh(facts) or fixes.pip(facts, pair if "needs" in reason else same)
    meaning = " ".join(filter(None, [reason, error and f"It fails with: {error}"]))
    yield Finding(PROBLEM, f"torchvision {vision} does not fit PyTorch {torch}", meaning, fix)


def others(facts: Facts) -> Iterator[Finding]:
    """The smaller packages: those that no lesson runs without, and those that are only pleasant to have."""
    it = facts.interpreter
    if it is None or "torch" not in it.packages:
        return  # then they are all missing, and are installed with it
    own = facts.course.environment.kind == "own" and not facts.caller.notebook
    optional = [*_PLEASANT, *([] if own else ["jupyterlab"])]  # JupyterLab may live next door
    needed = ["pillow" if name == "PIL" else name for name in it.absent if name not in optional]
    if needed:
        meaning = "The course was installed with them; something has removed them since."
        meaning = meaning if own else "Without them lessons stop with: No module named ..."
        yield Finding(PROBLEM, MISSING + ", ".join(needed), meaning, _install(facts, needed))
    pleasant = [name for name in it.absent if name in _PLEASANT]
    if pleasant and not facts.place.host:
        meaning = f"The lessons run without, but for {' and '.join(map(_PLEASANT.get, pleasant))}."
        yield Finding(NOTE, f"Not installed: {', '.join(pleasant)}", meaning, _install(facts, pleasant))


def _install(facts: Facts, names: list[str]) -> str:
    """The fix for missing packages: in the course's folder the versions it is tested with."""
    listed = facts.course.root and not facts.caller.notebook
    return fixes.pip(facts, f"install {'-r requirements.txt' if listed else ' '.join(names)}")


def pynvml(facts: Facts) -> Iterator[Finding]:
    """The retired package that takes the place of NVIDIA's own."""
    it = facts.interpreter
    if it is None or "pynvml" not in it.packages:
        return
    meaning = (
        "It answers `import pynvml` in place of NVIDIA's nvidia-ml-py. PyTorch warns (FutureWarning: The "
        "pynvml package is deprecated), and gpustat can stop with: module 'pynvml' has no attribute "
        "'_nvmlGetFunctionPointer'."
    )
    fix = fixes.pip(facts, "uninstall pynvml")
    fix = fix.replace("uninstall", "uninstall -y") if facts.caller.notebook else fix
    yield Finding(NOTE, f"The retired package pynvml {it.packages['pynvml']} is installed", meaning, fix)


def _missing(facts: Facts, error: str) -> Finding:
    """PyTorch is not installed here; perhaps it is in the environment next door."""
    it, there = facts.interpreter, facts.caller.elsewhere
    meaning = error or "ModuleNotFoundError: No module named 'torch'"
    where = "this environment"
    if facts.caller.notebook:
        where = "the environment of this notebook's kernel"
        meaning += f". The kernel runs {it.path}."
        if there:
            meaning += f" Jupyter was started from {there}; what is installed there is not seen here."
    fix = fixes.lab(facts) if facts.course.root else fixes.pip(facts, "install torch torchvision")
    if facts.caller.notebook and facts.course.root:
        fix = f"close Jupyter, then in a terminal, in {facts.course.root}: {fix}"
    return Finding(PROBLEM, f"PyTorch is not installed in {where}", meaning, fix)


def _reinstall(facts: Facts, version: str, error: str) -> str:
    """The fix for a PyTorch that cannot be loaded."""
    if "WinError" in error:
        return "install Microsoft's C++ runtime: https://aka.ms/vs/17/release/vc_redist.x64.exe"
    again = f"install --force-reinstall torch=={fixes.plain(version)} torchvision{fixes.index(version)}"
    return fixes.fresh(facts) or fixes.pip(facts, again)


def _misfit(torch: str, vision: str, needs: str) -> str:
    """Why this torchvision cannot work with this PyTorch, from their versions alone; empty where it can."""
    asked = re.fullmatch(r"torch(==|>=)([\d.]+)", needs)
    if asked:
        wanted, has = fixes.numbers(asked[2]), fixes.numbers(torch)
        if (has != wanted) if asked[1] == "==" else (has < wanted):
            return f"It needs {needs}."
    builds = [_family(fixes.tag(version)) for version in (torch, vision)]
    if all(builds) and builds[0] != builds[1]:
        return f"They are different builds: PyTorch for {builds[0]}, torchvision for {builds[1]}."
    return ""


def _family(tag: str) -> str:
    """What a build tag stands for: "cu128" is "CUDA 12", "cpu" is "the CPU"; empty where there is none."""
    cuda = re.fullmatch(r"cu(\d\d)\d", tag)
    return f"CUDA {cuda[1]}" if cuda else {"cpu": "the CPU"}.get(tag, tag)
