"""Ask the Python under examination, and NVIDIA's driver."""

import json
import re
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

from course_utils.machine.system import NO_COMMAND, ask, nvidia_smi, query_gpus, text_of

from .facts import Driver, Gpu, Interpreter

PYTHON_LIMIT = 180.0  # seconds; the first import of PyTorch from a slow disk takes a minute
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI vendor, and the beginning of a display's class


def ask_interpreter(python: str, limit: float = PYTHON_LIMIT) -> Interpreter:
    """Let `probe.py` try a Python and its PyTorch, in a process of their own."""
    probe = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    answer = ask([python, "-c", probe], limit)
    found: dict = {}
    for line in answer.out.splitlines():
        with suppress(ValueError):
            said = json.loads(line)
            found = said if isinstance(said, dict) else found
    known = {field.name for field in fields(Interpreter)}
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in found.items() if key in known}
    gpus = (gpu | {"capability": tuple(gpu.get("capability", (0, 0)))} for gpu in found.get("gpus", ()))
    end = answer.end or ("" if found.get("step") == "end" else "it stopped without a word")
    return Interpreter(**values | {"path": python, "gpus": tuple(Gpu(**gpu) for gpu in gpus), "end": end})


def ask_driver(root: Path = Path("/")) -> Driver:
    """Ask nvidia-smi, the kernel and the PCI bus for NVIDIA's driver and cards."""
    module = re.search(r"Kernel Module\D*?([\d.]+)", text_of(root / "proc/driver/nvidia/version"))
    cards = sum(
        text_of(device / "vendor").strip() == _NVIDIA and text_of(device / "class").startswith(_DISPLAY)
        for device in (root / "sys/bus/pci/devices").glob("*")  # Linux; elsewhere there is no such folder
    )
    here = Driver(module=module[1] if module else "", cards=cards)
    table = nvidia_smi()
    if table.end == NO_COMMAND:
        return here
    # the labels changed with driver 610: https://docs.nvidia.com/deploy/nvidia-smi/index.html
    version = re.search(r"(?:Driver|KMD) Version: *([\d.]+)", table.out)
    cuda = re.search(r"CUDA (?:UMD )?Version: *([\d.]+)", table.out)
    if table.end or not version:
        return replace(here, error=table.end or table.out.strip().partition("\n")[0] or "nothing")
    gpus, _ = query_gpus("compute_cap")
    capabilities = [tuple(map(int, re.findall(r"\d+", gpu["compute_cap"]))) for gpu in gpus]
    return replace(
        here,
        version=version[1],
        cuda=cuda[1] if cuda else "",
        gpus=tuple(gpu["name"] for gpu in gpus),
        capability=max(capabilities, default=()),
    )
