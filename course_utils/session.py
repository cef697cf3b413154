"""The first call of every lesson: find the device, switch virtual GPUs on where needed, say so."""

import os
from glob import glob

import torch

from course_utils import virtual
from course_utils.figures import style
from course_utils.machine import environment

MODES = ("auto", "real", "virtual", "cpu")
CUDA_GPUS_NEEDED = {  # other lessons run on any device
    "00_start_here": 8,
    "05_data_parallel": 2,
    "06_memory_tricks": 1,
    "07_beyond_one_process": 2,
}
VIRTUAL_GPUS = {"07_beyond_one_process": 2}  # in other lessons 8
# Lessons that run on the CPU where others would switch virtual GPUs on, and why
WITHOUT_VIRTUAL = {
    "08_full_speed": "virtual GPUs have no speed, and this lesson measures",
    "10_your_own_code": "the virtual GPUs go to the scripts that it starts",
}

GPU_MENU = {  # for a GPU in a hosted notebook
    "colab": "Runtime, Change runtime type, T4 GPU",
    "kaggle": "Settings, Accelerator, GPU T4 x2",
}
NEWER_PYTORCH = {  # where a hosted one is too old
    "colab": "Choose the latest runtime version: menu Runtime, Change runtime type.",
    "kaggle": "Choose a GPU in Settings, Accelerator, or open the lesson in Colab.",
}


def start(
    lesson: str,
    *,
    mode: str | None = None,
    count: int | None = None,
    memory: int | str = "2 GiB",
    seed: int = 0,
) -> torch.device:
    """Begin a lesson: seed, find the device, print one honest line about it.

    In Colab and on Kaggle a second line says what to click, where the runtime has no GPU.
    Running it again is safe: the settings of the last call hold.

    Args:
        lesson: the lesson's name, such as "01_device_basics"; it is printed.
        mode: "auto" uses real GPUs where there are as many as the lesson needs, elsewhere virtual GPUs or,
            for a lesson that they cannot carry, the CPU; "real", "virtual" and "cpu" force one.
            Default: the environment variable COURSE_DEVICE, or "auto".
        count: number of virtual GPUs, where they are used: 8, or 2 in a lesson of two processes.
        memory: capacity of each virtual GPU, as bytes or text such as "2 GiB".
        seed: for `torch.manual_seed`.

    Returns:
        The device to work on, for example `torch.device("cuda:0")`.

    Raises:
        ValueError: unknown mode.
        RuntimeError: mode "real", but PyTorch finds no GPU; or PyTorch is older than 2.10.
    """
    wanted = mode or os.environ.get("COURSE_DEVICE") or "auto"
    asked = f"mode={wanted!r}" if mode else f"COURSE_DEVICE={wanted}"
    if wanted not in MODES:
        raise ValueError(f"{asked} is not known. Choose one of: {', '.join(MODES)}.")
    virtual.switch_off()
    style.use_style()
    real = torch.accelerator.current_accelerator(check_available=True)
    if wanted == "real" and real is None:
        raise RuntimeError(
            f"{asked}, but PyTorch finds no GPU here. Leave that out for virtual GPUs, or get a GPU."
        )
    needed = CUDA_GPUS_NEEDED.get(lesson, 0) if wanted == "auto" else 0
    found = torch.cuda.device_count()
    too_few = real is not None and found < needed
    if wanted == "cpu":
        device, line = torch.device("cpu"), "the CPU, because COURSE_DEVICE or mode= asks for it."
    elif real is not None and wanted != "virtual" and not too_few:
        device = torch.device(real.type, real.index or 0)
        line = _describe_real(device)
    elif lesson in WITHOUT_VIRTUAL:
        device, line = torch.device("cpu"), f"the CPU, because {WITHOUT_VIRTUAL[lesson]}."
    else:
        device, line = (
            torch.device("cuda", 0),
            _switch_on_virtual(count or VIRTUAL_GPUS.get(lesson, 8), memory),
        )
    if too_few:
        line = f"it needs {needed} CUDA GPU{'s' * (needed > 1)} and this machine has {found}, so {line}"
    torch.manual_seed(seed)
    print(f"{lesson}: {line}")
    if wanted == "auto" and real is None:
        _advise()
    return device


def _advise() -> None:
    """Say how a hosted notebook without a usable GPU gets one; nothing on a machine of one's own."""
    host = environment.host()
    if host and glob("/dev/nvidia[0-9]*"):  # a GPU runtime, where another click would change nothing
        print("This runtime has a GPU, but PyTorch cannot use it. To see why, run: course_utils.doctor()")
    elif host:
        print(f"For a real GPU: menu {GPU_MENU[host]}; then run this cell again. You can go on without one.")


def _switch_on_virtual(count: int, memory: int | str) -> str:
    """Switch virtual GPUs on, and describe them; RuntimeError where a hosted PyTorch is too old for them."""
    host = environment.host()
    if host and torch.__version__ < "2.10":  # compares as versions, not as texts
        problem = f"This runtime has PyTorch {torch.__version__}; virtual GPUs need 2.10 or newer."
        raise RuntimeError(f"{problem} {NEWER_PYTORCH[host]}")
    virtual.switch_on(count, memory)
    size = memory if isinstance(memory, str) else f"{memory} bytes"
    return f"{count} VIRTUAL GPUs of {size} each: they behave like real ones, at the CPU's speed."


def _describe_real(device: torch.device) -> str:
    """Name a real accelerator and its memory."""
    if device.type != "cuda":
        return f"a real {device.type.upper()} device. Parts that need CUDA say so."
    gpus, name = torch.cuda.device_count(), torch.cuda.get_device_name(device)
    gigabytes = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f"{gpus} real GPU{'s' * (gpus > 1)}, {name} with {gigabytes:.1f} GiB."
