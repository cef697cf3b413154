"""Collect the facts: from Python and nvidia-smi, from files and variables, and of the asking process."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from course_utils.data.folder import contents, data_folder
from course_utils.lessons import ROOT
from course_utils.machine import environment
from course_utils.machine.system import NO_COMMAND, ask, nvidia_smi, query_gpus, text_of

from .facts import Caller, Driver, Facts, Gpu, Interpreter, Place

PYTHON_LIMIT = 180.0  # seconds; the first import of PyTorch from a slow disk takes a minute
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI vendor, and the beginning of a display's class
VARIABLES = """CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES CUDA_LAUNCH_BLOCKING PYTORCH_ALLOC_CONF
PYTORCH_CUDA_ALLOC_CONF LD_LIBRARY_PATH COURSE_DEVICE COURSE_DATA""".split()


def collect() -> Facts:
    """Find out all that the rules need; takes as long as importing PyTorch once."""
    caller, place = look_at_caller(), look_at_place()
    python = Path(sys.executable) if caller.notebook else place.environment.python
    there = caller.notebook or python.exists()
    return Facts(caller, ask_interpreter(str(python)) if there else Interpreter(), ask_driver(), place)


def ask_interpreter(python: str, limit: float = PYTHON_LIMIT) -> Interpreter:
    """Let `probe.py` try a Python and its PyTorch, in a process of their own."""
    probe = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    answer, found = ask([python, "-c", probe], limit), {}
    for line in answer.out.splitlines():
        with suppress(ValueError, TypeError):  # a line that something else has printed
            found = {**json.loads(line, object_hook=_with_tuples)}
    end = answer.end or ("" if found.get("step") == "end" else "it stopped without a word")
    gpus = tuple(Gpu(**gpu) for gpu in found.get("gpus", ()))
    return Interpreter(**found | {"path": python, "gpus": gpus, "end": end})


def _with_tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def ask_driver(root: Path = Path("/")) -> Driver:
    """Ask nvidia-smi and the PCI bus for NVIDIA's driver and cards."""
    cards = sum(
        text_of(device / "vendor").strip() == _NVIDIA and text_of(device / "class").startswith(_DISPLAY)
        for device in (root / "sys/bus/pci/devices").glob("*")  # Linux; elsewhere there is no such folder
    )
    table = nvidia_smi()
    if table.end == NO_COMMAND:
        return Driver(cards=cards)
    # the labels changed with driver 610: https://docs.nvidia.com/deploy/nvidia-smi/index.html
    version = re.search(r"(?:Driver|KMD) Version: *([\d.]+)", table.out)
    cuda = re.search(r"CUDA (?:UMD )?Version: *([\d.]+)", table.out)
    if table.end or not version:
        return Driver(error=table.end or table.out.strip().partition("\n")[0] or "nothing", cards=cards)
    gpus, _ = query_gpus("compute_cap")
    capabilities = [tuple(map(int, re.findall(r"\d+", gpu["compute_cap"]))) for gpu in gpus]
    return Driver(
        version=version[1],
        cuda=cuda[1] if cuda else "",
        gpus=tuple(gpu["name"] for gpu in gpus),
        capability=max(capabilities, default=()),
        cards=cards,
    )


def look_at_caller(root: Path = Path("/")) -> Caller:
    """What the asking process is and has loaded; loads nothing, starts nothing."""
    torch = sys.modules.get("torch")
    machine = sys.modules.get("course_utils.virtual.machine")
    virtual = machine.active() if machine and machine.is_active() else None
    uuids = None
    with suppress(Exception):  # CUDA can be started and broken
        if torch and not virtual and torch.cuda.is_initialized():
            numbers = range(torch.cuda.device_count())
            uuids = tuple(str(torch.cuda.get_device_properties(number).uuid) for number in numbers)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    notebook = hasattr(shell, "kernel")
    lines = text_of(root / "proc/self/environ").split("\0")
    began = dict(line.split("=", 1) for line in lines if "=" in line)
    return Caller(
        notebook=notebook,
        elsewhere=_elsewhere(notebook, root),
        torch=str(getattr(torch, "__version__", "")),
        uuids=uuids,
        virtual=f"{virtual.count} of {virtual.capacity / 2**30:g} GiB" if virtual else "",
        changed=tuple(name for name in VARIABLES if began and began.get(name) != os.environ.get(name)),
    )


def look_at_place(root: Path = Path("/"), course: Path = ROOT) -> Place:
    """Where this runs, with how much room, and what the course finds in its folder."""
    host, variables = environment.host(), {name: os.environ[name] for name in VARIABLES if name in os.environ}
    container = any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))
    clone = (course / "notebooks").is_dir() and (course / "pyproject.toml").is_file()
    folder, data = look_at_data(course)
    return Place(
        environment=environment.find(course),
        root=str(course) if clone else "",
        data=data,
        data_folder=folder,
        system=sys.platform,
        wsl="microsoft" in text_of(root / "proc/sys/kernel/osrelease").lower(),
        container=not host and (container or "KUBERNETES_SERVICE_HOST" in os.environ),
        host=host,
        home=str(Path.home()),
        variables=variables,
        strays=tuple(_strays(variables.get("LD_LIBRARY_PATH", ""))),
        memory=_memory(root),
        disk_free=shutil.disk_usage(course).free,
    )


def look_at_data(course: Path = ROOT) -> tuple[str, str]:
    """Return the data folder and the name of what it holds (see `Place`)."""
    try:
        folder = data_folder(root=course)
    except FileNotFoundError:
        return str(Path(os.environ["COURSE_DATA"]).expanduser()), "lost"
    return (str(folder), contents(folder)) if folder else ("standin", "standin")


def _elsewhere(notebook: bool, root: Path) -> str:
    """The environment that the shell or JupyterLab runs in, where this process runs in another one."""
    server = text_of(root / "proc" / os.environ.get("JPY_PARENT_PID", "none") / "cmdline").partition("\0")[0]
    jupyters = str(Path(server).parent.parent) if notebook and server.startswith("/") else ""
    there = os.environ.get("VIRTUAL_ENV") or jupyters
    return "" if Path(there).resolve() == Path(sys.prefix).resolve() else there


def _strays(path: str) -> Iterator[str]:
    """CUDA libraries on LD_LIBRARY_PATH: they are loaded before those that belong to PyTorch."""
    for folder in filter(None, path.split(os.pathsep)):
        for pattern in ("libcudnn.so*", "libcublas.so*", "libcudart.so*", "libnccl.so*"):
            yield from sorted(map(str, Path(folder).glob(pattern)))[:1]


def _memory(root: Path) -> int:
    """The machine's memory in bytes, or what its container may use; -1 where unknown."""
    total = re.search(r"^MemTotal: *(\d+)", text_of(root / "proc/meminfo"), re.MULTILINE)
    limit = re.match(r"\d+", text_of(root / "sys/fs/cgroup/memory.max"))
    return min([*([int(total[1]) * 1024] if total else []), *([int(limit[0])] if limit else [])], default=-1)
