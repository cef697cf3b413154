"""Look around without starting anything: the calling process, the machine, the course's folder."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from course_utils.data.folder import contents, data_folder
from course_utils.lessons import ROOT
from course_utils.machine import environment

from .facts import Caller, Course, Place
from .processes import text_of

VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "LD_LIBRARY_PATH",
    "COURSE_DEVICE",
    "COURSE_DATA",
)


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
    return Caller(
        notebook=notebook,
        elsewhere=_elsewhere(notebook, root),
        torch=str(getattr(torch, "__version__", "")),
        uuids=uuids,
        virtual=f"{virtual.count} of {virtual.capacity / 2**30:g} GiB" if virtual else "",
        changed=_changed(root),
    )


def look_at_place(root: Path = Path("/"), folder: Path = ROOT) -> Place:
    """Where this runs, and with how much room; `folder` is where the packages go."""
    release = text_of(root / "proc/sys/kernel/osrelease").lower()
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    # Kaggle first: its image is built on Colab's, and has Colab's variable too
    host = environment.host()
    container = any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))
    return Place(
        system=sys.platform,
        wsl="microsoft" in release,
        container=not host and (container or "KUBERNETES_SERVICE_HOST" in os.environ),
        host=host,
        home=str(Path.home()),
        variables=variables,
        strays=tuple(_strays(variables.get("LD_LIBRARY_PATH", ""))),
        memory=_memory(root),
        shared_memory=_free(root / "dev/shm", total=True),
        disk_free=_free(folder),
    )


def look_at_course(root: Path = ROOT) -> Course:
    """Where the course is installed, and what data it would use."""
    here = (root / "notebooks").is_dir() and (root / "pyproject.toml").is_file()
    try:
        folder = data_folder(root=root)
        state = contents(folder) if folder else "standin"
    except FileNotFoundError:
        folder, state = Path(os.environ["COURSE_DATA"]).expanduser(), "lost"
    return Course(environment.find(root), str(root) if here else "", state, str(folder or ""))


def _elsewhere(notebook: bool, root: Path) -> str:
    """The environment that the shell or JupyterLab runs in, where this process runs in another one."""
    active = os.environ.get("VIRTUAL_ENV", "")
    if active and Path(active).resolve() != Path(sys.prefix).resolve():
        return active
    server = text_of(root / "proc" / os.environ.get("JPY_PARENT_PID", "none") / "cmdline").partition("\0")[0]
    known = notebook and not active and server.startswith("/")
    same = Path(server).parent == Path(sys.executable).parent
    return str(Path(server).parent.parent) if known and not same else ""


def _changed(root: Path) -> tuple[str, ...]:
    """The variables that differ from those the process began with (Linux; elsewhere nothing is known)."""
    began = dict(
        line.partition("=")[::2] for line in text_of(root / "proc/self/environ").split("\0") if "=" in line
    )
    return tuple(name for name in VARIABLES if began and began.get(name) != os.environ.get(name))


def _strays(path: str) -> Iterator[str]:
    """CUDA libraries on LD_LIBRARY_PATH: they are loaded before those that belong to PyTorch."""
    for folder in filter(None, path.split(os.pathsep)):
        for pattern in ("libcudnn.so*", "libcublas.so*", "libcudart.so*", "libnccl.so*"):
            with suppress(OSError):
                yield from sorted(map(str, Path(folder).glob(pattern)))[:1]


def _memory(root: Path) -> int:
    """The machine's memory in bytes, or what its container may use; -1 where unknown."""
    limit = text_of(root / "sys/fs/cgroup/memory.max").strip()
    lines = [
        line.split() for line in text_of(root / "proc/meminfo").splitlines() if line.startswith("MemTotal")
    ]
    sizes = [int(limit)] if limit.isdecimal() else []
    return min([*sizes, *(int(line[1]) * 1024 for line in lines)], default=-1)


def _free(folder: Path, total: bool = False) -> int:
    """Free (or all) bytes of the disk a folder is on; -1 where there is none."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return -1
    return usage.total if total else usage.free
