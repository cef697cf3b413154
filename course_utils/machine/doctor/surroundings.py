"""Look around without starting anything: the calling process, the machine, the course's folder."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from course_utils.data.folder import contents, data_folder
from course_utils.lessons import ROOT
from course_utils.machine import environment
from course_utils.machine.system import text_of

from .facts import Caller, Place

VARIABLES = """CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES CUDA_LAUNCH_BLOCKING PYTORCH_ALLOC_CONF
PYTORCH_CUDA_ALLOC_CONF LD_LIBRARY_PATH COURSE_DEVICE COURSE_DATA""".split()


def look_at_caller(root: Path = Path("/")) -> Caller:
    """What the asking process is and has loaded; loads nothing, starts nothing."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    machine = sys.modules.get("course_utils.virtual.machine")
    virtual = machine.active() if machine and machine.is_active() else None
    uuids = None
    with suppress(Exception):  # CUDA can be started and broken
        if cuda is not None and virtual is None and cuda.is_initialized():
            cards = [cuda.get_device_properties(number) for number in range(cuda.device_count())]
            uuids = tuple(str(getattr(card, "uuid", "")) for card in cards)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    notebook = hasattr(shell, "kernel")
    began = dict(
        line.partition("=")[::2] for line in text_of(root / "proc/self/environ").split("\0") if "=" in line
    )
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
        shared_memory=_disk(root / "dev/shm", "total"),
        disk_free=_disk(course, "free"),
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
    active = os.environ.get("VIRTUAL_ENV", "")
    if active and Path(active).resolve() != Path(sys.prefix).resolve():
        return active
    server = text_of(root / "proc" / os.environ.get("JPY_PARENT_PID", "none") / "cmdline").partition("\0")[0]
    known = notebook and not active and server.startswith("/")
    same = Path(server).parent == Path(sys.executable).parent
    return str(Path(server).parent.parent) if known and not same else ""


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


def _disk(folder: Path, part: str) -> int:
    """The bytes that are "free" on the disk a folder is on, or the "total"; -1 where there is none."""
    try:
        return getattr(shutil.disk_usage(folder), part)
    except OSError:
        return -1
