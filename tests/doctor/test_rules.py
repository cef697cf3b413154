"""Every ailment the doctor knows: what it calls it, what it says of it, and the one way out."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from course_utils.lessons import ROOT
from course_utils.machine.doctor import rules, text
from course_utils.machine.doctor.facts import Driver, Facts, Finding, Gpu, Interpreter
from course_utils.machine.doctor.findings import TABLES, WHEELS
from course_utils.machine.doctor.rules import judge
from course_utils.machine.environment import requirements

from . import machines
from .machines import RTX, T4, builds, machine, with_gpus

OFFERED = vars(machines.DRIVER)  # a driver and a T4 that PyTorch does not see, unless something else says so
OLD = OFFERED | {"version": "570.86.15", "cuda": "12.8"}
VERY_OLD = OFFERED | {"version": "470.57.02", "cuda": "11.4"}
BLACKWELLS = {"gpus": ("NVIDIA GeForce RTX 5090",), "capability": (12, 0)}
CPU = {"packages": builds("2.15.0+cpu"), "torch": "2.15.0+cpu", "cuda": "", "errors": {}, "archs": ()}
COLAB = {"host": "colab"}
IN_COLAB = {"packages": builds("2.11.0+cu128", "0.26.0"), "torch": "2.11.0+cu128", "recorded": "2.11.0+cu128"}
IN_COLAB |= {"cuda": "12.8"}
KERNEL = {"notebook": True}
NOTHING = vars(Interpreter())  # the course's environment does not exist yet


class Case(NamedTuple):
    """The level, and pieces of the title, the meaning and the fix of the finding about a machine."""

    level: str
    title: str
    meaning: str
    fix: str
    verdict: str = "can run the course: with virtual GPUs"


def torch_fails(error: str, **more: Any) -> dict[str, Any]:
    return {"errors": {"torch_import": error}, "torch": "", "computes": False, "vision": False} | more


def broken(gpu: Gpu, error: str) -> Gpu:
    return replace(gpu, error=error)


P100 = broken(Gpu("Tesla P100-PCIE-16GB", (6, 0), 17_071_734_784), f"AcceleratorError: {machines.NO_KERNEL}")
BLACKWELL = broken(Gpu("NVIDIA GeForce RTX 5090", (12, 0)), f"AcceleratorError: {machines.NO_KERNEL}")
ASLEEP = {"errors": {"devices": f"RuntimeError: {machines.UNKNOWN}"}}
RADEON = Gpu("AMD Radeon", (11, 0), 24 * 2**30)
ROCM = CPU | {"packages": builds("2.14.1+rocm7.2"), "torch": "2.14.1+rocm7.2", "other": "ROCm"}
ROCM |= {"archs": ("gfx1030", "gfx1100"), "driver_cuda": ""}
XPU = CPU | {"packages": builds("2.15.0+xpu"), "torch": "2.15.0+xpu", "other": "XPU", "accelerator": "xpu"}
NO_NVIDIA = vars(Driver())
CU126 = "~/course/.venv/bin/python -m pip install torch==2.14.1+cu126 torchvision==0.29.1+cu126 --index-url https://download.pytorch.org/whl/cu126"
CANNOT = "The course cannot run here yet."

# level | in the title | in the meaning | in the fix | in the verdict, where it is not that of a `Case`
CASES = {
    # B1: a build without CUDA
    "B1 CPU build, driver 13": (
        machine(interpreter=CPU, driver=OFFERED),
        f"problem | built for the CPU only | {machines.NO_CUDA} | "
        "torch==2.15.0+cu130 torchvision==0.29.2+cu130 --index-url https://download.pytorch.org/whl/cu130",
    ),
    "B1 CPU build, driver 12": (
        machine(interpreter=CPU, driver=OLD),
        "problem | built for the CPU only | Tesla T4 | whl/cu126",
    ),
    "B1 CPU build, old card": (
        machine(interpreter=CPU, driver=OFFERED | {"capability": (6, 1)}),
        "problem | the CPU only |  | whl/cu126",
    ),
    "B1 Windows": (
        machine(interpreter=CPU, driver=OFFERED, place={"system": "win32"}),
        "problem | built for the CPU only | On Windows a plain pip install brings this build. | whl/cu130",
    ),
    "B1 CPU build and no GPU is fine": (
        machine(interpreter=CPU),
        "ok | no GPU for PyTorch | virtual GPUs | ",
    ),
    # B2: the driver
    "B2 too old, said by PyTorch": (
        machine(interpreter={"warnings": (machines.TOO_OLD,)}, driver=OLD),
        "problem | driver 570.86.15 is too old: it supports CUDA up to 12.8 | "
        f"CUDA 13.2 and needs driver 580.65.06 or newer | {CU126}",
    ),
    "B2 too old, said by the driver": (
        machine(driver=OLD),
        "problem | supports CUDA up to 12.8 | 580.65.06 | whl/cu126",
    ),
    "B2 too old for any build": (
        machine(driver=VERY_OLD),
        "problem | driver 470.57.02 is too old: it supports CUDA up to 11.4 | 580.65.06 | "
        "install driver 580.65.06 or newer: https://www.nvidia.com/drivers",
    ),
    "B2 too old, and a card that CUDA 12.6 does not know": (
        machine(driver=OLD | BLACKWELLS),
        "problem | too old | 580.65.06 | torch==2.11.0+cu128 torchvision==0.26.0+cu128",
    ),
    "B2 too old, Windows": (
        machine(driver=VERY_OLD, place={"system": "win32"}),
        "problem | too old | driver 580 or | driver 580",
    ),
    "B2 too old, WSL": (
        machine(driver=VERY_OLD, place={"wsl": True}),
        "problem | too old | driver 580 or | (in Windows)",
    ),
    "B2 too old for CUDA 12": (
        machine(interpreter=IN_COLAB, driver=VERY_OLD),
        "problem | too old | CUDA 12.8 and needs driver 525.60.13 | install driver 525.60.13",
    ),
    "no driver, no card": (machine(), "ok | no GPU for PyTorch | virtual GPUs | "),
    "no driver for a card": (
        machine(driver={"cards": 1}),
        f"problem | no driver for it | {machines.NO_DRIVER[:40]} | sudo ubuntu-drivers install",
    ),
    "driver updated, not rebooted": (
        machine(driver={"error": machines.MISMATCH, "cards": 1}),
        f"problem | Two versions of the NVIDIA driver | {machines.MISMATCH} | sudo reboot",
    ),
    "driver not loaded": (
        machine(driver={"error": machines.NOT_LOADED, "cards": 1}),
        f"problem | does not work | {machines.NOT_LOADED} | sudo reboot",
    ),
    "B2 too old, and no build for the card": (
        machine(driver=VERY_OLD | {"gpus": ("Tesla K80",), "capability": (3, 7)}),
        "note | No current PyTorch runs on Tesla K80 | no driver or build changes that | ",
    ),
    "B2 too old, and a card that nvidia-smi does not describe": (
        machine(driver=VERY_OLD | {"capability": ()}),
        "problem | too old | If NVIDIA has no such driver for this card, no current PyTorch | driver 580",
    ),
    "a riddle": (
        machine(driver=OFFERED, interpreter={"errors": {"devices": "RuntimeError: CUDA error"}}),
        "problem | cannot use this machine's GPU | CUDA error | restart the machine",
    ),
    "after a suspension": (
        machine(driver=OFFERED, interpreter=ASLEEP),
        f"problem | was suspended | {machines.UNKNOWN} | rmmod nvidia_uvm && sudo modprobe nvidia_uvm",
    ),
    "after a suspension, Windows": (
        machine(driver=OFFERED, interpreter=ASLEEP, place={"system": "win32"}),
        "problem | was suspended |  | restart the machine",
    ),
    "driver updated, Windows": (
        machine(driver={"error": machines.MISMATCH}, place={"system": "win32"}),
        "problem | Two versions |  | restart the machine",
    ),
    "driver updated, in a container": (
        machine(driver={"error": machines.MISMATCH}, place={"container": True}),
        "problem | Two versions |  | sudo reboot   (on the host)",
    ),
    "driver updated, WSL": (
        machine(driver={"error": machines.MISMATCH}, place={"wsl": True}),
        "problem | Two versions |  | wsl --shutdown",
    ),
    # cards of other makers
    "AMD, ROCm": (
        with_gpus(RADEON, interpreter=ROCM, driver=NO_NVIDIA),
        "ok | 2.14.1+rocm7.2: loaded | Built for ROCm, in place of CUDA |  | the real GPU AMD Radeon",
    ),
    "AMD, no kernels": (
        with_gpus(broken(RADEON, machines.NO_HIP_KERNEL), interpreter=ROCM, driver=NO_NVIDIA),
        f"problem | GPU 0: AMD Radeon: this PyTorch has no kernels | {machines.NO_HIP_KERNEL}. This PyTorch, "
        "built for ROCm, has kernels for gfx1030, gfx1100. | COURSE_DEVICE=virtual | COURSE_DEVICE=virtual",
    ),
    "AMD, not seen": (
        machine(interpreter=ROCM, driver={"others": ("AMD",)}),
        "problem | does not see the AMD card | built for ROCm | usermod -aG render,video",
    ),
    "AMD, a build for CUDA": (
        machine(driver={"others": ("AMD",)}),
        "note | graphics card of AMD | not built for it | get-started/locally   (ROCm)",
    ),
    "Intel, a build for the CPU": (
        machine(driver={"others": ("Intel",)}, interpreter=CPU),
        "note | graphics card of Intel | Arc and Core Ultra | get-started/locally   (XPU)",
    ),
    "Intel, XPU": (
        with_gpus(Gpu("Intel Arc A770"), interpreter=XPU, driver=NO_NVIDIA),
        "ok | GPU 0: Intel Arc A770 |  |  | with the real GPU Intel Arc A770; lessons 05 and 06 need CUDA",
    ),
    "Intel, XPU, taken": (
        with_gpus(broken(Gpu("Arc"), "RuntimeError: out of memory"), interpreter=XPU, driver=NO_NVIDIA),
        "problem | taken |  | in JupyterLab: Kernel > Shut Down | COURSE_DEVICE=virtual",
    ),
    "Intel, not seen": (
        machine(interpreter=XPU, driver={"others": ("AMD", "Intel")}),
        "problem | does not see the Intel card |  | usermod",
    ),
    "NVIDIA, a build for ROCm": (
        machine(interpreter=ROCM, driver=OFFERED),
        "problem | built for ROCm, not for CUDA |  | torch==2.14.1+cu130",
    ),
    "a riddle in Colab": (
        machine(driver=OFFERED, place=COLAB, interpreter=IN_COLAB | {"errors": {}}),
        "problem | cannot use this machine's GPU | It does not say why. | Disconnect and delete runtime",
    ),
    "a Mac without a GPU": (
        machine(place={"system": "darwin"}),
        "ok | This Mac has no GPU | virtual GPUs | ",
    ),
    # B3: no kernels for the GPU
    "B3 card too old for the build": (
        with_gpus(P100),
        f"problem | has no kernels for it | {machines.NO_KERNEL}. This | whl/cu126 | "
        "with virtual GPUs, if you set COURSE_DEVICE=virtual",
    ),
    "B3 card too new for the build": (
        with_gpus(BLACKWELL, interpreter={"archs": ("sm_80", "sm_90")}),
        "problem | has no kernels for it | kernels for sm_80, sm_90; this GPU is sm_120. | whl/cu130 | "
        "COURSE_DEVICE=virtual",
    ),
    "B3 no build at all": (
        with_gpus(broken(Gpu("Tesla K80", (3, 7)), machines.NO_KERNEL)),
        "problem | no kernels | sm_37 | set COURSE_DEVICE=virtual | COURSE_DEVICE=virtual",
    ),
    "B3 Kaggle's P100": (
        with_gpus(P100, place={"host": "kaggle"}),
        "problem | no kernels | sm_60 | GPU T4 x2 | COURSE_DEVICE",
    ),
    "B3 another GPU works": (
        with_gpus(P100, RTX),
        "problem | no kernels | sm_60 | set CUDA_VISIBLE_DEVICES=1 | COURSE_DEVICE",
    ),
    "a kernel runs": (
        with_gpus(T4),
        "ok | GPU 0: Tesla T4, compute capability 7.5, 14.7 GiB | waited for |  | "
        "the real GPU Tesla T4; lesson 05 needs two CUDA GPUs and uses virtual ones.",
    ),
    "two GPUs": (with_gpus(RTX, RTX), "ok | GPU 1: |  |  | with 2 real GPUs, NVIDIA GeForce RTX 4090."),
    "the GPU is full": (
        with_gpus(broken(T4, "OutOfMemoryError: CUDA out of memory.")),
        "problem | taken | out of memory | nvidia-smi | COURSE_DEVICE",
    ),
    "a kernel fails": (
        with_gpus(broken(T4, "AcceleratorError: CUDA error: unspecified launch failure")),
        "problem | a kernel on it fails | unspecified launch failure | restart the machine | COURSE_DEVICE",
    ),
    "PyTorch hangs on the GPU": (
        with_gpus(T4, interpreter={"step": "kernels", "end": "no answer in 180 seconds", "vision": False}),
        "problem | does not come back from the GPU | "
        f"Its last step, to use a GPU: no answer in 180 seconds | restart the machine | {CANNOT}",
    ),
    "a Mac": (
        machine(interpreter=CPU | {"accelerator": "mps", "gpus": (Gpu("MPS"),)}, place={"system": "darwin"}),
        "ok | GPU 0: MPS |  |  | with the real GPU MPS; lessons 05 and 06 need CUDA and use virtual GPUs",
    ),
    # B4: CUDA_VISIBLE_DEVICES
    "B4 changed too late": (
        with_gpus(T4, caller=KERNEL | {"uuids": (RTX.uuid, T4.uuid), "changed": ("CUDA_VISIBLE_DEVICES",)}),
        "problem | changed after CUDA had started | "
        "started with (2); a new one would have 1. Set the variable in the first cell | "
        "Kernel > Restart Kernel | real GPU",
    ),
    "B4 empty": (
        machine(driver=OFFERED, place={"variables": {"CUDA_VISIBLE_DEVICES": ""}}),
        'problem | CUDA_VISIBLE_DEVICES="" hides every GPU | this machine (1) have numbers from 0 on | '
        "unset CUDA_VISIBLE_DEVICES",
    ),
    "B4 -1": (
        machine(driver=OFFERED, place={"variables": {"CUDA_VISIBLE_DEVICES": "-1"}, "system": "win32"}),
        'problem | CUDA_VISIBLE_DEVICES="-1" |  | Remove-Item Env:CUDA_VISIBLE_DEVICES',
    ),
    "B4 no such GPU": (
        machine(driver=OFFERED | {"gpus": ("a", "b")}, place={"variables": {"CUDA_VISIBLE_DEVICES": "2,0"}}),
        'problem | CUDA_VISIBLE_DEVICES="2,0" | this machine (2) | unset',
    ),
    "B4 it chooses": (
        with_gpus(T4, driver={"gpus": ("a", "b")}, place={"variables": {"CUDA_VISIBLE_DEVICES": "1"}}),
        "note | CUDA_VISIBLE_DEVICES=1: GPUs that PyTorch sees: 1 of 2 | cuda:0 is the first one named | "
        "unset | real GPU",
    ),
    "B4 not to blame": (
        machine(driver=OLD, place={"variables": {"CUDA_VISIBLE_DEVICES": "0"}}),
        "problem | too old |  | cu126",
    ),
    # B5: WSL
    "B5 a Linux driver in WSL": (
        machine(
            interpreter={"libcuda": "/usr/lib/x86_64-linux-gnu/libcuda.so.570.86.15"}, place={"wsl": True}
        ),
        "problem | A Linux driver inside WSL hides the one of Windows | "
        "/usr/lib/wsl/lib. /usr/lib/x86_64-linux-gnu/libcuda.so.570.86.15 was loaded | "
        "sudo apt purge '^nvidia-.*' '^libnvidia-.*'",
    ),
    "B5 WSL without a driver": (
        machine(place={"wsl": True}),
        "note | WSL sees no GPU | none inside WSL | wsl --update",
    ),
    # B6: another environment
    "B6 kernel elsewhere": (
        machine(
            caller=KERNEL | {"elsewhere": "/home/ann/course/.venv"},
            interpreter=torch_fails(
                "ModuleNotFoundError: No module named 'torch'", path="/usr/bin/python3", packages={}
            ),
        ),
        "problem | not installed in the environment of this notebook's kernel | "
        "The kernel runs /usr/bin/python3. Jupyter was started from .venv; | "
        f"close Jupyter, then in a terminal, in ~/course: python3 -m course_utils lab | {CANNOT}",
    ),
    "B6 a second environment": (
        machine(caller={"elsewhere": "/opt/other"}),
        "note | second environment | activated /opt/other | deactivate",
    ),
    "B6 a second environment, in a notebook": (
        machine(caller=KERNEL | {"elsewhere": "/opt/lab"}),
        "note | second environment | Jupyter was started from /opt/lab: what is installed | Change Kernel",
    ),
    "torch is missing": (
        machine(interpreter=torch_fails("ModuleNotFoundError: No module named 'torch'", packages={})),
        "problem | PyTorch is not installed in this environment | No module named 'torch' | "
        f"python3 -m course_utils lab | {CANNOT}",
    ),
    "nothing is installed": (
        machine(interpreter=NOTHING),
        f"problem | Nothing is installed here | .venv | python3 -m course_utils lab | {CANNOT}",
    ),
    "nothing is installed, Windows": (
        machine(interpreter=NOTHING, place={"system": "win32"}),
        f"problem | Nothing |  | py -m course_utils lab | {CANNOT}",
    ),
    "a broken .venv": (
        machine(interpreter={"version": (), "end": "it cannot be started: No such file", "computes": False}),
        "problem | This Python does not work: .venv/bin/python | it cannot be started: No such file | "
        f"delete the folder ~/course/.venv, then: python3 -m course_utils lab | {CANNOT}",
    ),
    "a broken kernel": (
        machine(caller=KERNEL, interpreter={"version": (), "end": "exit code 1", "computes": False}),
        f"problem | This Python does not work | exit code 1 | reinstall it | {CANNOT}",
    ),
    "an old Python": (
        machine(interpreter={"version": (3, 10, 13)}),
        f"problem | Python 3.10.13 | 3.11 to 3.14 | Python 3.13 | {CANNOT}",
    ),
    "torch cannot be loaded": (
        machine(interpreter=torch_fails("OSError: libcudnn.so.9: cannot open shared object file")),
        "problem | PyTorch 2.15.0+cu132 is installed, but cannot be loaded | libcudnn.so.9 | "
        f"--force-reinstall torch==2.15.0 torchvision --index-url {WHEELS}cu132 | {CANNOT}",
    ),
    "torch cannot be loaded, Windows": (
        machine(interpreter=torch_fails("OSError: [WinError 1114] A dynamic link library (DLL) failed")),
        f"problem | cannot be loaded | WinError 1114 | vc_redist.x64.exe | {CANNOT}",
    ),
    "torch does not calculate": (
        machine(interpreter={"computes": False, "vision": False, "errors": {}}),
        f"problem | cannot be loaded | does not calculate | --force-reinstall | {CANNOT}",
    ),
    "torch crashes": (
        machine(interpreter=torch_fails("", errors={}, step="torch_import", end="stopped by SIGILL")),
        f"problem | cannot be loaded | stopped by SIGILL | --force-reinstall | {CANNOT}",
    ),
    "a file named torch.py": (
        machine(interpreter=torch_fails("AttributeError: ...", torch_file="/home/ann/torch.py")),
        f"problem | named torch.py | ~/torch.py | another name | {CANNOT}",
    ),
    "an old torch": (
        machine(interpreter={"packages": builds("2.9.1+cu128"), "torch": "2.9.1+cu128"}),
        "problem | older than this course needs | 2.10 to 2.15 | install --upgrade torch torchvision | "
        f"{CANNOT}",
    ),
    # B7: torch and torchvision
    "a package was removed": (
        machine(interpreter={"absent": ("PIL", "tqdm", "jupyterlab", "gpustat")}),
        "problem | Packages are missing: pillow, tqdm, jupyterlab | something has removed them | "
        f"~/course/.venv/bin/python -m pip install -r requirements.txt | {CANNOT}",
    ),
    "a package was never there": (
        machine(interpreter={"absent": ("matplotlib", "jupyterlab")}, caller=KERNEL),
        "problem | Packages are missing: matplotlib | No module named | "
        f"%pip install matplotlib   (in a cell; then: Kernel > Restart Kernel) | {CANNOT}",
    ),
    "a pleasant package is missing": (
        machine(interpreter={"absent": ("ipywidgets",)}),
        "note | Not installed: ipywidgets | buttons and sliders | -m pip install -r requirements.txt",
    ),
    "B7 builds differ": (
        machine(
            interpreter={
                "packages": {"torch": "2.13.0+cpu", "torchvision": "0.28.0+cu130"},
                "vision": False,
                "errors": {"torchvision_import": f"RuntimeError: {machines.NMS}"},
            }
        ),
        "problem | torchvision 0.28.0+cu130 does not fit PyTorch 2.13.0+cpu | "
        f"It fails with: RuntimeError: {machines.NMS} | "
        f"--force-reinstall torch==2.13.0 torchvision --index-url {WHEELS}cpu | {CANNOT}",
    ),
    "B7 CUDA major versions": (
        machine(
            interpreter={
                "vision": False,
                "errors": {"torchvision_import": f"RuntimeError: {machines.MAJORS}."},
            }
        ),
        f"problem | does not fit | {machines.MAJORS} | --force-reinstall torch==2.15.0 | {CANNOT}",
    ),
    "torchvision is missing": (
        machine(interpreter={"packages": {"torch": "2.15.0"}, "vision": False}),
        "problem | torchvision is not installed | Lesson 04 | pip install torch==2.15.0 torchvision | "
        f"{CANNOT}",
    ),
    "B7 in Colab": (
        machine(
            place=COLAB,
            caller=KERNEL,
            interpreter=IN_COLAB | {"vision": False, "errors": {"torchvision_import": "RuntimeError"}},
        ),
        f"problem | does not fit |  | Runtime > Disconnect and delete runtime | {CANNOT}",
    ),
    # C1, C2: Colab
    "C1 torch replaced": (
        with_gpus(T4, place=COLAB, caller=KERNEL),
        "note | 2.15.0+cu132, is not the one Colab came with | pip | Disconnect | T4",
    ),
    "C1 torch replaced under a kernel": (
        with_gpus(T4, place=COLAB, caller=KERNEL | {"torch": "2.11.0+cu128"}),
        "problem | replaced while this kernel had it loaded: 2.11.0+cu128, now 2.15.0+cu132 | "
        "still runs the old one | Runtime > Restart session | T4",
    ),
    "C2 a CPU runtime": (
        machine(place=COLAB, caller=KERNEL, interpreter=IN_COLAB | CPU | {"recorded": "2.11.0+cpu"}),
        "note | This Colab runtime has no GPU | virtual GPUs | Runtime > Change runtime type > T4 GPU",
    ),
    "Kaggle without a GPU": (
        machine(place={"host": "kaggle"}),
        "note | This Kaggle notebook has no GPU | virtual | Settings > Accelerator > GPU T4 x2",
    ),
    # containers
    "container without the runtime": (
        machine(place={"container": True}, driver={"cards": 2}),
        "problem | started without the machine's GPU | Container Toolkit | docker run --gpus all",
    ),
    "container without a GPU": (
        machine(place={"container": True}),
        "note | This container has no GPU | virtual GPUs | docker run --gpus all",
    ),
    "container told to hide GPUs": (
        machine(place={"container": True, "variables": {"NVIDIA_VISIBLE_DEVICES": "void"}}),
        "note | NVIDIA_VISIBLE_DEVICES=void | even with --gpus | -e NVIDIA_VISIBLE_DEVICES=all",
    ),
    # variables
    "a stub for the driver": (
        machine(
            interpreter={"errors": {"devices": f"RuntimeError: CUDA error: {machines.STUB}"}},
            driver=OFFERED,
            place={"variables": {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64/stubs"}},
        ),
        f"problem | found a stub in place of the driver | {machines.STUB} | unset LD_LIBRARY_PATH",
    ),
    "a stray cuDNN": (
        machine(place={"variables": {"LD_LIBRARY_PATH": "/opt"}, "strays": ("/opt/libcudnn.so.8",)}),
        "note | LD_LIBRARY_PATH | /opt/libcudnn.so.8 | unset LD_LIBRARY_PATH",
    ),
    "a stub that may be found": (
        machine(place={"variables": {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64/stubs"}}),
        "note | LD_LIBRARY_PATH | a folder of stubs | unset LD_LIBRARY_PATH",
    ),
    "launches are waited for": (
        machine(place={"variables": {"CUDA_LAUNCH_BLOCKING": "1"}}),
        "note | CUDA_LAUNCH_BLOCKING=1 | timings are wrong | unset CUDA_LAUNCH_BLOCKING",
    ),
    "D4 allocator": (
        with_gpus(T4, place={"variables": {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}}),
        "note | PYTORCH_ALLOC_CONF=expandable_segments:True | before the first tensor on a GPU |  | T4",
    ),
    "D4 allocator, late": (
        with_gpus(
            T4,
            caller=KERNEL | {"uuids": (T4.uuid,), "changed": ("PYTORCH_ALLOC_CONF",)},
            place={"variables": {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}},
        ),
        "note | PYTORCH_ALLOC_CONF= | perhaps too late | "
        "Kernel > Restart Kernel, and set it in the first cell | T4",
    ),
    "D4 allocator, misspelt": (
        with_gpus(
            broken(T4, f"ValueError: {machines.ALLOCATOR}"),
            place={"variables": {"PYTORCH_ALLOC_CONF": "aa:1"}},
        ),
        f"problem | does not understand PYTORCH_ALLOC_CONF | {machines.ALLOCATOR} | "
        "unset PYTORCH_ALLOC_CONF | COURSE_DEVICE",
    ),
    "a chosen device": (
        machine(place={"variables": {"COURSE_DEVICE": "cpu"}}),
        "note | COURSE_DEVICE=cpu |  | unset COURSE_DEVICE | with the CPU, because COURSE_DEVICE=cpu.",
    ),
    "virtual GPUs are asked for": (
        with_gpus(T4, place={"variables": {"COURSE_DEVICE": "virtual"}}),
        "note | COURSE_DEVICE=virtual |  | unset COURSE_DEVICE | "
        "with virtual GPUs, because COURSE_DEVICE=virtual.",
    ),
    "a real GPU is asked for": (
        machine(place={"variables": {"COURSE_DEVICE": "real"}}),
        "problem | COURSE_DEVICE=real | The lessons stop: PyTorch finds no real GPU. | unset COURSE | "
        f"{CANNOT}",
    ),
    "a device that there is not": (
        machine(place={"variables": {"COURSE_DEVICE": "gpu"}}),
        f"problem | COURSE_DEVICE=gpu | none of auto, real, virtual and cpu | unset COURSE | {CANNOT}",
    ),
    "the real GPU that is asked for": (
        with_gpus(T4, place={"variables": {"COURSE_DEVICE": "real"}}),
        "note | COURSE_DEVICE=real |  | unset COURSE | real GPU",
    ),
    # H2: gpustat's library
    "H2 pynvml": (
        machine(interpreter={"packages": builds("2.15.0+cu132") | {"pynvml": "11.5.3"}}),
        "note | retired package pynvml 11.5.3 | FutureWarning: The pynvml package is deprecated | "
        "~/course/.venv/bin/python -m pip uninstall pynvml; then: ~/course/.venv/bin/python -m pip install "
        "--force-reinstall nvidia-ml-py",
    ),
    "H2 pynvml, in a notebook": (
        machine(interpreter={"packages": builds("2.15.0+cu132") | {"pynvml": "11.5.3"}}, caller=KERNEL),
        "note | retired package pynvml | in place of NVIDIA's | %pip uninstall -y pynvml",
    ),
    # room and data
    "no room to install": (
        machine(interpreter=NOTHING, place={"disk_free": 5 * 10**9}),
        f"problem | Only 5.0 GB of disk | 9.5 GB | delete | {CANNOT}",
    ),
    "little room": (machine(place={"disk_free": 10**8}), "note | Only 0.1 GB of disk | checkpoints | delete"),
    "little memory": (
        machine(place={"memory": 2 * 10**9}),
        "note | Only 2.0 GB of memory | one lesson at a time | Shut Down",
    ),
    "no data": (machine(), "note | CIFAR-10 is not there yet | draws stand-in pictures | "),
    "data": (machine(place={"data": "official"}), "ok | CIFAR-10 is there | /data | "),
    "data packed": (machine(place={"data": "archive"}), "ok | packed | /data | "),
    "data half there": (machine(place={"data": "incomplete"}), "note | not complete | stand-in | "),
    "own pictures": (machine(place={"data": "pictures"}), "ok | Pictures of your own | /data | "),
    "stand-in": (machine(place={"data": "standin"}), "ok | COURSE_DATA=standin | as you asked | "),
    "data that may not be read": (
        machine(place={"data": "unreadable"}),
        f"problem | may not be read: /data | stop | chmod -R u+rwX /data | {CANNOT}",
    ),
    "no home folder, and nothing else for data": (
        machine(place={"data": "homeless", "home": "", "home_missing": False}),
        f"problem | no folder for pictures |  | set COURSE_DATA | {CANNOT}",
    ),
    "no home folder": (machine(place={"home_missing": True}), "note | no home | Jupyter | set HOME"),
    "a folder that cannot be written": (
        machine(place={"read_only": True}),
        "note | cannot be written | packages cannot be kept in ~/course. | copy the folder",
    ),
    "a long path, Windows": (
        machine(place={"system": "win32", "root": "C:\\" + "x" * 95}),
        "note | long path | 260 characters | C:\\course",
    ),
    "a file of the reader's": (
        machine(place={"shadows": ("/home/ann/course/notebooks/numpy.py",)}),
        f"problem | named as a module: numpy | notebooks/numpy.py | another name | {CANNOT}",
    ),
    "data lost": (
        machine(place={"data": "lost"}),
        f"problem | does not exist: /data | stop | unset COURSE_DATA | {CANNOT}",
    ),
    # virtual GPUs in the asking notebook
    "virtual GPUs are on": (
        machine(caller=KERNEL | {"virtual": "8 of 2 GiB"}),
        "ok | Virtual GPUs are on: 8 of 2 GiB | real machine | ",
    ),
}


@pytest.mark.parametrize(("facts", "row"), CASES.values(), ids=CASES.keys())
def test_ailment(facts: Facts, row: str) -> None:
    case = Case(*row.split(" | "))
    *findings, verdict = judge(facts)
    found = [f for f in findings if case.title in f.title and case.meaning in f.meaning and case.fix in f.fix]
    assert found, text(findings)
    assert [finding.level for finding in found] == [case.level]
    assert bool(found[0].fix) == bool(case.fix)
    assert case.verdict in verdict.title
    assert (verdict.level == "problem") == (case.verdict == CANNOT)
    # a consequence is not reported as a second problem, and each problem has its way out
    problems = [finding for finding in findings if finding.level == "problem"]
    several = {"Nothing is installed here", "Only 5.0 GB of disk are free"}
    assert len(problems) == (case.level == "problem") or {problem.title for problem in problems} == several
    assert all(problem.fix for problem in problems)


@pytest.mark.parametrize(
    ("facts", "silence"),
    [
        (
            with_gpus(T4, place={"variables": {"LD_LIBRARY_PATH": "/stubs"}, "strays": ("/a",)}),
            "LD_LIBRARY_PATH",
        ),
        (machine(place={"variables": {"LD_LIBRARY_PATH": "/usr/lib64-nvidia"}}), "LD_LIBRARY_PATH"),
        (machine(place={"variables": {"NVIDIA_VISIBLE_DEVICES": "void"}}), "NVIDIA_VISIBLE_DEVICES"),
        (machine(place={"variables": {"CUDA_LAUNCH_BLOCKING": "0"}}), "CUDA_LAUNCH_BLOCKING"),
        (machine(place={"variables": {"COURSE_DEVICE": "auto"}}), "COURSE_DEVICE"),
        (
            machine(caller={"elsewhere": "/home/ann/course/.venv"}),
            "second environment",
        ),  # it is the one examined
        (machine(place={"system": "win32", "root": "C:\\" + "x" * 94}), "long path"),
        (machine(place={"root": "/" + "x" * 200}), "long path"),
        (with_gpus(T4, driver={"others": ("Intel",)}), "Intel"),
        (machine(caller={"elsewhere": "/opt/other"}, place=COLAB), "second environment"),
        (machine(caller={"elsewhere": "/opt/other"}, interpreter=NOTHING), "second environment"),
        (
            with_gpus(T4, caller=KERNEL | {"uuids": (T4.uuid,), "changed": ("CUDA_VISIBLE_DEVICES",)}),
            "started",
        ),
        (with_gpus(T4, place=COLAB, interpreter=IN_COLAB), "Colab came with"),
    ],
)
def test_what_does_no_harm_is_not_mentioned(facts: Facts, silence: str) -> None:
    assert silence not in text(judge(facts))


def test_a_fix_in_a_notebook_is_a_cell_and_a_click() -> None:
    facts = machine(interpreter=CPU, driver=OFFERED, caller=KERNEL)
    fixes = [finding.fix for finding in judge(facts)]
    assert any(
        fix.startswith("%pip install torch==2.15.0+cu130") and "Restart Kernel" in fix for fix in fixes
    )


@pytest.mark.parametrize(
    ("system", "home", "path", "title", "command"),
    [
        ("linux", "/home/ann", "/home/ann/env/bin/python", "~/env/bin/python", "~/env/bin/python -m pip"),
        (
            "linux",
            "/home/ann",
            "/home/ann/my env/python",
            "~/my env/python",
            '"/home/ann/my env/python" -m pip',
        ),
        (
            "win32",
            "C:\\ann",
            "C:\\ann\\env\\python.exe",
            "~\\env\\python.exe",
            "C:\\ann\\env\\python.exe -m pip",
        ),
        (
            "win32",
            "C:\\ann",
            "C:\\ann\\my env\\python.exe",
            "~\\my env\\python.exe",
            '& "C:\\ann\\my env\\python.exe" -m pip',
        ),
        ("linux", "/", "/env/bin/python", "/env/bin/python", "/env/bin/python -m pip"),
    ],
)
def test_paths_are_short_and_can_be_pasted(
    system: str, home: str, path: str, title: str, command: str
) -> None:
    """No user's name, unless a command needs it: Windows' shell and quotes do not know ~."""
    place = {"system": system, "home": home}
    findings = judge(machine(interpreter=CPU | {"path": path}, driver=OFFERED, place=place))
    assert findings[0].title == f"Python 3.12.1: {title}"
    (fix,) = (finding.fix for finding in findings if finding.fix.startswith(f"{command} install"))
    assert " https://download" in fix


def test_the_report_keeps_commands_whole_and_ends_with_the_verdict() -> None:
    long = Finding(
        "problem", "Something " * 20, "It means " * 30, "a command that is longer than a line " * 5
    )
    page = text([long, Finding("ok", "It can run.")], width=80)
    lines = page.splitlines()
    assert f"          To do: {long.fix}" in lines
    assert max(len(line) for line in lines if "To do" not in line) <= 80
    assert lines[0].startswith("problem   Something")
    assert lines[-1] == "It can run."


@pytest.mark.parametrize(
    ("torch", "vision", "tag", "versions"),
    [
        ("2.15.0+cu132", "0.29.2+cu132", "cu126", ("2.14.1", "0.29.1")),  # 2.15 has no such build
        ("2.13.0+cu130", "0.28.0+cu130", "cu126", ("2.13.0", "0.28.0")),
        ("2.15.0+cpu", "0.29.2+cpu", "cu130", ("2.15.0", "0.29.2")),
    ],
)
def test_another_build_is_of_versions_that_have_it(
    torch: str, vision: str, tag: str, versions: tuple[str, str]
) -> None:
    there = {"packages": {"torch": torch, "torchvision": vision}, "cuda": ""}
    cuda = {"cu126": "12.8", "cu130": "13.0"}[tag]
    findings = judge(machine(interpreter=there, driver=OFFERED | {"cuda": cuda}))
    command = "torch=={0}+{2} torchvision=={1}+{2} ".format(*versions, tag)
    assert any(command in finding.fix for finding in findings)


def test_the_builds_are_those_of_the_pinned_version() -> None:
    """A build for a newer PyTorch would be one step backwards: the table grows with requirements.txt."""
    pins = requirements(ROOT)
    for name in ("torch", "torchvision"):
        assert f"{name}=={TABLES['builds']['cu130'][name]}" in pins


def raising(facts: Facts) -> Iterator[Finding]:
    yield Finding("ok", "said before")
    raise KeyError("planted")


def test_a_rule_that_raises_says_so_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", (*rules.RULES[:2], raising, *rules.RULES[2:]))
    titles = [finding.title for finding in judge(machine())]
    assert titles[2:4] == ["said before", "this check failed: raising (KeyError: 'planted')"]
    assert len(titles) == len(judge(machine(place={"root": ""}))) > 7
    assert titles[-1] == "This machine can run the course: with virtual GPUs."


def test_facts_that_no_rule_can_read_end_in_lines() -> None:
    titles = [finding.title for finding in judge(replace(machine(), interpreter=None))]
    assert titles[-1].startswith("this check failed: verdict (AttributeError")
    assert titles[0].startswith("this check failed: python (")
