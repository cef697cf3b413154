"""What the doctor finds out about a machine, and the form of what it says. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from course_utils.machine.environment import Environment


@dataclass(frozen=True)
class Finding:
    """One finding: what it is, what it means, and the one command or click that puts it right.

    `level` is "ok", "note" (nothing stops you) or "problem"; `fix` is empty where there is nothing to do.
    `stops`: the course cannot run, whatever else works.
    """

    level: str
    title: str
    meaning: str = ""
    fix: str = ""
    stops: bool = False


@dataclass(frozen=True)
class Gpu:
    """A GPU as PyTorch sees it. `error`: what a kernel on it ended with; empty where it ran."""

    name: str
    capability: tuple[int, int] = (0, 0)
    memory: int = 0  # bytes
    uuid: str = ""
    error: str = ""


@dataclass(frozen=True)
class Interpreter:
    """A Python and its PyTorch, as `probe.py` saw them in a process of their own."""

    path: str = ""  # empty where the course's environment does not exist yet
    version: tuple[int, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)  # versions, build tag included: "2.15.0+cu132"
    # as pip recorded torch: no build tag where it came from the package index
    recorded: str = ""
    absent: tuple[str, ...] = ()  # other packages of the course that it lacks, as they are imported: "PIL"
    torch_file: str = ""  # where `import torch` would find it
    torch: str = ""  # the version that was imported
    computes: bool = False  # on the CPU
    cuda: str = ""  # the CUDA version PyTorch was built with; empty for a CPU-only build
    other: str = ""  # "ROCm" or "XPU" where that is what PyTorch was built for
    archs: tuple[str, ...] = ()  # "sm_75" ..., or "gfx1100" ...; empty where PyTorch sees no GPU
    driver_cuda: str = ""  # the newest CUDA version that PyTorch says the driver supports: "12.8"
    accelerator: str = ""  # "cuda", "mps", "xpu"; empty: none that can be used
    gpus: tuple[Gpu, ...] = ()
    libcuda: str = ""  # the driver library that was loaded
    vision: bool = False  # torchvision can be imported
    warnings: tuple[str, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)  # step -> first line of its error
    step: str = ""  # the last step begun
    end: str = ""  # how it ended, where it did not reach the end: "no answer in 120 seconds"


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver, without PyTorch."""

    version: str = ""  # "580.65.06"
    cuda: str = ""  # the newest CUDA version it supports: "13.0"
    gpus: tuple[str, ...] = ()  # names of all physical GPUs
    capability: tuple[int, ...] = ()  # the highest compute capability among them: (8, 9)
    error: str = ""  # what nvidia-smi said instead
    cards: int = 0  # NVIDIA display cards on the PCI bus, with a driver or without
    others: tuple[str, ...] = ()  # makers of other display cards there: "AMD", "Intel"


@dataclass(frozen=True)
class Caller:
    """The process that asks: a terminal's command, or a notebook kernel."""

    notebook: bool = False
    elsewhere: str = ""  # the environment of the shell or of JupyterLab, where it is another one
    torch: str = ""  # the version it has imported
    uuids: tuple[str, ...] | None = None  # GPUs it has started CUDA on; None: CUDA not started
    virtual: str = ""  # "8 virtual GPUs of 2.0 GiB"
    changed: tuple[str, ...] = ()  # variables set since the process began


@dataclass(frozen=True)
class Place:
    """Where it runs, with what course and what data. Sizes in bytes; -1 where unknown.

    `data` is "official", "archive" (packed), "incomplete", "pictures" (your own), "none", "standin" (asked
    for), "lost" (COURSE_DATA names no folder), "unreadable" or "homeless" (there is no folder to put it in).
    """

    environment: Environment
    root: str = ""  # the course's folder; empty where only the package is installed
    data: str = "none"
    data_folder: str = ""
    system: str = "linux"  # sys.platform
    wsl: bool = False
    container: bool = False
    host: str = ""  # "colab", "kaggle" or empty
    home: str = ""  # the user's folder
    home_missing: bool = False
    read_only: bool = False  # the course's folder
    shadows: tuple[str, ...] = ()  # files of the user that Python loads in place of a module of that name
    variables: Mapping[str, str] = field(default_factory=dict)  # those that matter to CUDA and PyTorch
    strays: tuple[str, ...] = ()  # CUDA libraries found on LD_LIBRARY_PATH
    memory: int = -1
    disk_free: int = 0


@dataclass(frozen=True)
class Facts:
    """All of it."""

    caller: Caller
    interpreter: Interpreter
    driver: Driver
    place: Place
    failures: Mapping[str, str] = field(default_factory=dict)  # what could not be looked at, and the error

    @property
    def gpus_there(self) -> tuple[str, ...]:
        """Names of the NVIDIA GPUs this machine has, whether PyTorch can use them or not."""
        return self.driver.gpus or ("an NVIDIA GPU",) * self.driver.cards

    @property
    def gpus_work(self) -> bool:
        """Whether there are GPUs, and kernels run on all that PyTorch sees."""
        return bool(self.interpreter.gpus) and not any(gpu.error for gpu in self.interpreter.gpus)
