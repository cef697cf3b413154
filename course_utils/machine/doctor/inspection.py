"""Collect the facts: from Python and nvidia-smi, from files and variables, and of the asking process."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from course_utils.data.folder import contents, data_folder
from course_utils.lessons import ROOT
from course_utils.machine import environment
from course_utils.machine.system import NO_COMMAND, ask, nvidia_smi, query_gpus, text_of

from .facts import Caller, Driver, Facts, Gpu, Interpreter, Place

PYTHON_LIMIT = 180.0  # seconds; the first import of PyTorch from a slow disk takes a minute
_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}  # by PCI vendor
_DISPLAY = "0x03"  # the beginning of a display's class
# modules that must not be hidden by a file of the same name
_MODULES = {*sys.stdlib_module_names, *"torch torchvision numpy matplotlib PIL tqdm psutil IPython".split()}
# a file of the user's in this folder would be run by the probe
_NOT_FROM_HERE = "import sys; sys.path[:] = [folder for folder in sys.path if folder]\n"
VARIABLES = """CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES CUDA_LAUNCH_BLOCKING PYTORCH_ALLOC_CONF
PYTORCH_CUDA_ALLOC_CONF LD_LIBRARY_PATH COURSE_DEVICE COURSE_DATA""".split()


def collect() -> Facts:
    """Find out all that the rules need; takes as long as importing PyTorch once."""
    failures: dict[str, str] = {}

    def tried(what: str, look: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return look()
        except Exception as error:  # whatever it is: the rest is still of use
            failures[what] = f"{type(error).__name__}: {error}"
            return otherwise

    somewhere = Place(environment.Environment("active", Path(sys.prefix)), system=sys.platform)
    caller, place = tried("the asker", look_at_caller, Caller()), tried("the place", look_at_place, somewhere)
    python = Path(sys.executable) if caller.notebook else place.environment.python
    there = caller.notebook or python.exists()
    look = (lambda: ask_interpreter(str(python))) if there else Interpreter
    interpreter = tried("its Python", look, Interpreter(str(python)))
    return Facts(caller, interpreter, tried("the driver", ask_driver, Driver()), place, failures)


def ask_interpreter(python: str, limit: float = PYTHON_LIMIT) -> Interpreter:
    """Let `probe.py` try a Python and its PyTorch, in a process of their own."""
    probe = _NOT_FROM_HERE + Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
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
    devices = sorted((root / "sys/bus/pci/devices").glob("*"))  # Linux; elsewhere there is no such folder
    cards = [card for card in devices if text_of(card / "class").startswith(_DISPLAY)]
    makers = [_MAKERS.get(text_of(card / "vendor").strip(), "") for card in cards]
    others = dict.fromkeys(maker for maker in makers if maker not in ("", "NVIDIA"))
    bus = {"cards": makers.count("NVIDIA"), "others": tuple(others)}
    table = nvidia_smi()
    if table.end == NO_COMMAND:
        return Driver(**bus)
    # the labels changed with driver 610: https://docs.nvidia.com/deploy/nvidia-smi/index.html
    version = re.search(r"(?:Driver|KMD) Version: *([\d.]+)", table.out)
    cuda = re.search(r"CUDA (?:UMD )?Version: *([\d.]+)", table.out)
    if table.end or not version:
        return Driver(error=table.end or table.out.strip().partition("\n")[0] or "nothing", **bus)
    gpus = query_gpus("compute_cap")[0] or query_gpus()[0]  # drivers before 510 do not know that column
    capabilities = [tuple(map(int, re.findall(r"\d+", gpu.get("compute_cap", "")))) for gpu in gpus]
    return Driver(
        version=version[1],
        cuda=cuda[1] if cuda else "",
        gpus=tuple(gpu["name"] for gpu in gpus),
        capability=max(capabilities, default=()),
        **bus,
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
    home = os.path.expanduser("~")  # leaves ~ where there is neither HOME nor a user's name
    return Place(
        environment=environment.find(course),
        root=str(course) if clone else "",
        data=data,
        data_folder=folder,
        system=sys.platform,
        wsl="microsoft" in text_of(root / "proc/sys/kernel/osrelease").lower(),
        container=not host and (container or "KUBERNETES_SERVICE_HOST" in os.environ),
        host=host,
        home=home if home != "~" else "",
        home_missing=home == "~" or not os.path.isdir(home),
        read_only=clone and not os.access(course, os.W_OK),
        shadows=tuple(_shadows([course, course / "notebooks", course / "work"] if clone else [])),
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
        return os.path.expanduser(os.environ["COURSE_DATA"]), "lost"
    except RuntimeError:  # no home folder
        return "", "homeless"
    try:
        return (str(folder), contents(folder)) if folder else ("standin", "standin")
    except OSError:
        return str(folder), "unreadable"


def _elsewhere(notebook: bool, root: Path) -> str:
    """The environment that the shell or JupyterLab runs in, where this process runs in another one."""
    server = text_of(root / "proc" / os.environ.get("JPY_PARENT_PID", "none") / "cmdline").partition("\0")[0]
    jupyters = str(Path(server).parent.parent) if notebook and server.startswith("/") else ""
    there = os.environ.get("VIRTUAL_ENV") or jupyters
    return "" if Path(there).resolve() == Path(sys.prefix).resolve() else there


def _shadows(folders: list[Path]) -> Iterator[str]:
    """Files of the user, in these folders and in this one, that Python loads in place of such a module."""
    for folder in dict.fromkeys([*folders, Path.cwd()]):
        packages = [file.parent for file in folder.glob("*/__init__.py")]
        for path in sorted([*folder.glob("*.py"), *packages]):
            if path.stem in _MODULES:
                yield str(path)


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
