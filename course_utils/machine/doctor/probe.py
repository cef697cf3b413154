"""Sent as text to the Python under examination: what it is, what its PyTorch is, and whether that works.

After each step it prints all it has found as one JSON line, so that a crash or a hang leaves that much.
It imports nothing of the course. The keys are the fields of `facts.Interpreter`.
"""

import json
import re
import sys
import warnings
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path

found = {"errors": {}, "packages": {}}


def installed():
    """Read versions from the files, without importing: pip's record lacks the build tag (+cu132)."""
    found["version"] = list(sys.version_info[:3])
    for name in ("torch", "torchvision", "pynvml"):
        with suppress(metadata.PackageNotFoundError):
            package = metadata.distribution(name)
            file = Path(package.locate_file(f"{name}/version.py"))
            tagged = re.search(r"__version__ = '(.+)'", file.read_text()) if file.is_file() else None
            found["packages"][name] = tagged[1] if tagged else package.version
    with suppress(metadata.PackageNotFoundError):
        found["recorded"] = metadata.version("torch")
    # by the names they are imported by
    others = "numpy matplotlib PIL tqdm psutil ipykernel jupyterlab ipywidgets gpustat".split()
    found["absent"] = [name for name in others if not util.find_spec(name)]
    spec = util.find_spec("torch")
    found["torch_file"] = (spec and spec.origin) or ""


def torch_import():
    """Load PyTorch and calculate on the CPU."""
    import torch

    found["torch"] = torch.__version__
    found["cuda"] = torch.version.cuda or ""
    builds = {"hip": "ROCm", "xpu": "XPU"}
    found["other"] = next((name for key, name in builds.items() if getattr(torch.version, key, "")), "")
    found["computes"] = float((torch.ones(4) @ torch.ones(4)).item()) == 4.0


def devices():
    """Ask PyTorch for GPUs; where it has none, provoke the error that says why."""
    import torch

    if hasattr(torch._C, "_cuda_getDriverVersion"):
        number = torch._C._cuda_getDriverVersion()  # 12080 is "12.8", 0 no driver
        found["driver_cuda"] = f"{number // 1000}.{number % 1000 // 10}" if number else ""
    found["archs"] = torch.cuda.get_arch_list()
    now = torch.accelerator.current_accelerator(check_available=True)
    found["accelerator"] = now.type if now else ""
    if found["accelerator"] == "cuda":
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            about = {"name": card.name, "capability": [card.major, card.minor], "memory": card.total_memory}
            found.setdefault("gpus", []).append(about | {"uuid": str(getattr(card, "uuid", ""))})
    elif now and now.type == "xpu":
        count = torch.xpu.device_count()
        found["gpus"] = [{"name": torch.xpu.get_device_name(number)} for number in range(count)]
    elif now:
        found["gpus"] = [{"name": "Apple GPU (MPS)" if now.type == "mps" else now.type.upper()}]
    elif found["cuda"]:
        torch.cuda.init()


def kernels():
    """Launch one kernel on each GPU and wait for it: only that proves that the GPU can be used."""
    import torch

    for number, gpu in enumerate(found.get("gpus", [])):
        try:
            total = (torch.ones(256, device=torch.device(found["accelerator"], number)) + 1).sum()
            torch.accelerator.synchronize(number)
            gpu["error"] = "" if total.item() == 512 else f"wrong result: {total.item()}, not 512"
        except Exception as error:
            gpu["error"] = line_of(error)
    maps = Path("/proc/self/maps")
    drivers = re.findall(r"/\S*/libcuda\.so\S*", maps.read_text()) if maps.is_file() else []
    found["libcuda"] = drivers[0] if drivers else ""


def torchvision_import():
    """Load torchvision, last: a wrong one can take the process down."""
    import torchvision

    found["vision"] = bool(torchvision.__version__)


def line_of(error):
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"


with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    for step in (installed, torch_import, devices, kernels, torchvision_import):
        found["step"] = step.__name__
        print(json.dumps(found), flush=True)
        try:
            step()
        except BaseException as error:
            found["errors"][step.__name__] = line_of(error)
        found["warnings"] = sorted({str(warning.message).strip().partition("\n")[0] for warning in heard})
        if step is torch_import and "torch_import" in found["errors"]:
            break
found["step"] = "end"
print(json.dumps(found), flush=True)
