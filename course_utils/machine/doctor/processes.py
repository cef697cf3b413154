"""Ask other programs, each with a time limit: the Python under examination, and nvidia-smi."""

import json
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from .facts import Driver, Gpu, Interpreter

PYTHON_LIMIT = 180.0  # seconds; the first import of PyTorch from a slow disk takes a minute
SMI_LIMIT = 20.0
_WSL_SMI = "/usr/lib/wsl/lib/nvidia-smi"  # not on the PATH of every shell there
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI vendor, and the beginning of a display's class


class Answer(NamedTuple):
    """What a program printed; `end` says how it ended where that was not by itself with exit code 0."""

    out: str
    end: str = ""


def ask(command: list[str], limit: float) -> Answer:
    """Run a program. One that does not answer is killed and left behind, even where killing has no effect."""
    # into files: a pipe could be held open for ever by what the program started
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            return Answer("", f"it cannot be started: {error.strerror or error}")
        end = ""
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):  # a process stuck in the driver cannot be killed
                process.wait(5)
            end = f"no answer in {limit:.0f} seconds"
        else:
            end = _ending(code) if code else ""
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        last = (texts[1].strip() or ("" if "{" in texts[0] else texts[0].strip())).splitlines()[-1:]
        return Answer(texts[0], ": ".join([end, *last]) if end else "")


def ask_interpreter(python: str, limit: float = PYTHON_LIMIT) -> Interpreter:
    """Let `probe.py` try a Python and its PyTorch, in a process of their own."""
    probe = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    answer = ask([python, "-c", probe], limit)
    found: dict = {}
    for line in answer.out.splitlines():
        with suppress(ValueError):
            said = json.loads(line)
            found = said if isinstance(said, dict) else found
    known = {field.name for field in fields(Interpreter)} - {"path", "end"}
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in found.items() if key in known}
    gpus = [
        Gpu(**gpu | {"capability": tuple(gpu.get("capability", (0, 0)))}) for gpu in found.get("gpus", ())
    ]
    end = answer.end or ("" if found.get("step") == "end" else "it stopped without a word")
    return Interpreter(path=python, **values | {"gpus": tuple(gpus), "end": end})


def ask_driver(root: Path = Path("/"), limit: float = SMI_LIMIT) -> Driver:
    """Ask nvidia-smi, the kernel and the PCI bus for NVIDIA's driver and cards."""
    module = re.search(r"Kernel Module\D*?([\d.]+)", text_of(root / "proc/driver/nvidia/version"))
    here = Driver(module=module[1] if module else "", cards=_cards(root))
    wsl = str(root / _WSL_SMI[1:])
    smi = shutil.which("nvidia-smi") or shutil.which(wsl)
    if not smi:
        return here
    table = ask([smi], limit)
    # the labels changed with driver 610: https://docs.nvidia.com/deploy/nvidia-smi/index.html
    version = re.search(r"(?:Driver|KMD) Version: *([\d.]+)", table.out)
    cuda = re.search(r"CUDA (?:UMD )?Version: *([\d.]+)", table.out)
    if table.end or not version:
        said = [line.strip() for line in table.out.splitlines() if line.strip()]
        error = said[0] if said and "no answer" not in table.end else table.end
        return replace(here, error=error or "nothing")
    listed = ask([smi, "--query-gpu=name,compute_cap", "--format=csv,noheader"], limit)
    gpus = re.findall(r"^(.+), (\d+)\.(\d+)$", "" if listed.end else listed.out, re.MULTILINE)
    return replace(
        here,
        version=version[1],
        cuda=cuda[1] if cuda else "",
        gpus=tuple(name for name, _, _ in gpus),
        capability=max(((int(major), int(minor)) for _, major, minor in gpus), default=()),
    )


def _cards(root: Path) -> int:
    """Count NVIDIA's display cards on the PCI bus (Linux; elsewhere 0)."""
    devices = (root / "sys/bus/pci/devices").glob("*")
    return sum(
        text_of(device / "vendor").strip() == _NVIDIA and text_of(device / "class").startswith(_DISPLAY)
        for device in devices
    )


def text_of(file: Path) -> str:
    """A file's text; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _ending(code: int) -> str:
    """Name an exit code other than 0."""
    if code < 0:
        with suppress(ValueError):
            return f"stopped by {signal.Signals(-code).name}"
    return f"exit code {code}"
