"""`gpu_status()`: one line per GPU in gpustat's form, for real and for virtual GPUs.

Real GPUs are read by the first of these that answers: gpustat (NVIDIA's library NVML), the command
nvidia-smi, PyTorch. What a reader does not know stays None and is printed as `??`; nothing is estimated.
"""

import io
import re
import subprocess
from dataclasses import dataclass
from typing import Any

import torch

from course_utils import virtual
from course_utils.virtual.machine import active

MIB = 2**20
# gpustat's names, which are also those of nvidia-smi --query-gpu
KEYS = """index uuid name temperature.gpu fan.speed utilization.gpu utilization.enc utilization.dec power.draw
enforced.power.limit memory.used memory.total processes""".split()
_SMI_KEYS = ("index", "name", "temperature.gpu", "utilization.gpu", "memory.used", "memory.total")
_SMI_COMMAND = ["nvidia-smi", f"--query-gpu={','.join(_SMI_KEYS)}", "--format=csv,noheader,nounits"]
_SMI_SECONDS = 10
_COLOUR = re.compile(r"\x1b(?:\[[0-9;]*m|\(B)")
VIRTUAL_NOTE = "Virtual GPUs have no temperature (??°C) and no utilisation (?? %) of their own."
OLD_PYNVML = (  # it shares its file with nvidia-ml-py, so uninstalling it alone is not enough
    "pynvml is missing, or another package's; run: pip uninstall pynvml nvidia-ml-py3, "
    "then: pip install --force-reinstall nvidia-ml-py"
)
REMEDIES = {
    "NVML Shared Library Not Found": "no NVIDIA driver, or a container that was started without it",
    "Driver Not Loaded": "the driver is installed but not running; restart the machine",
    "version mismatch": "the driver was updated while it ran; restart the machine",
}


class Unreadable(Exception):
    """A reader has no answer; the text says why in one line."""


@dataclass(frozen=True)
class GpuStatus:
    """What the GPUs were doing at one moment; `print` it.

    Attributes:
        gpus: one dictionary per GPU with gpustat's keys: memory in MiB (gpustat writes MB), temperature in
            degrees Celsius, utilization in percent; None is unknown.
        source: who was asked: "virtual", "gpustat", "nvidia-smi", "torch" or "nobody".
        note: lines that say what is missing and why; may be empty.
    """

    gpus: list[dict[str, Any]]
    source: str
    note: str = ""

    def __str__(self) -> str:
        lines = _formatted(self.gpus) if self.gpus else "no GPU"
        return "\n".join(filter(None, (lines, self.note)))

    __repr__ = __str__


def gpu_status() -> GpuStatus:
    """Say which GPUs there are and what they hold: the virtual ones where they are on, else the real ones.

    Real GPUs are all those of the machine, also those that `CUDA_VISIBLE_DEVICES` hides from this process,
    unless only PyTorch could be asked. Raises nothing: what goes wrong is in the note.
    """
    if virtual.is_active():
        return GpuStatus(_read_virtual(), "virtual", VIRTUAL_NOTE)
    problems = []
    readers = {"gpustat": _read_gpustat, "nvidia-smi": _read_smi, "torch": _read_torch}
    for source, read in readers.items():
        try:
            return GpuStatus(read(), source, "\n".join(problems))
        except Unreadable as problem:
            problems.append(f"{source}: {problem}")
    return GpuStatus([], "nobody", "\n".join(problems))


def _entry(**known: Any) -> dict[str, Any]:
    """Return one GPU's dictionary; a dot in a key is written as two underscores."""
    return dict.fromkeys(KEYS) | {key.replace("__", "."): value for key, value in known.items()}


def _read_virtual() -> list[dict[str, Any]]:
    """Read the virtual GPUs; used is what PyTorch's allocator has reserved, as a card would count it."""
    gpus = []
    for index, memory in enumerate(active().memory):
        used = memory.reserved // MIB
        process = {"username": None, "command": "python", "pid": None, "gpu_memory_usage": used}
        facts = {"memory__used": used, "memory__total": memory.capacity // MIB}
        facts["processes"] = [process] if memory.reserved else []
        gpus.append(_entry(index=index, name=torch.cuda.get_device_name(index), **facts))
    return gpus


def _read_gpustat() -> list[dict[str, Any]]:
    """Ask gpustat; raises Unreadable where it is missing, broken, or has no driver to ask."""
    gpustat = _import_gpustat()
    try:
        gpus = [_known(gpu.entry) for gpu in gpustat.new_query()]
    except Exception as error:  # NVMLError is imported under two names, depending on the version
        raise Unreadable(_explain(str(error) or type(error).__name__)) from None
    if not gpus:
        raise Unreadable("the driver reports no GPU")
    return gpus


def _import_gpustat() -> Any:
    try:
        import gpustat
    except ModuleNotFoundError as error:
        raise Unreadable(f"not installed; run: pip install {error.name}") from None
    except (ImportError, AttributeError) as error:  # an old pynvml: gpustat issues 107 and 153
        text = str(error).strip().splitlines()[0]
        raise Unreadable(OLD_PYNVML if "pynvml" in text else text) from None
    return gpustat


def _known(entry: dict[str, Any]) -> dict[str, Any]:
    """Return gpustat's dictionary of one GPU in full; a GPU that is lost has "?" for everything."""
    found = {key: entry[key] for key in KEYS}
    return {key: None if value == "?" else value for key, value in found.items()}


def _explain(text: str) -> str:
    remedy = next((remedy for known, remedy in REMEDIES.items() if known in text), "")
    return f"{text.rstrip('.')} ({remedy})" if remedy else text


def _read_smi() -> list[dict[str, Any]]:
    """Ask the command nvidia-smi; raises Unreadable where it is missing or fails."""
    try:
        answer = subprocess.run(_SMI_COMMAND, capture_output=True, text=True, timeout=_SMI_SECONDS)
    except FileNotFoundError:
        raise Unreadable("command not found") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise Unreadable(f"did not answer ({type(error).__name__})") from None
    text = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
    if answer.returncode != 0 or not text:
        raise Unreadable(_explain(text[0]) if text else "printed nothing")
    return [_parse(line) for line in text]


def _parse(line: str) -> dict[str, Any]:
    """Turn one line of nvidia-smi's CSV into a dictionary; `[N/A]` and its like become None."""
    index, *name, temperature, utilization, used, total = (part.strip() for part in line.split(","))
    figures = {
        "temperature__gpu": temperature,
        "utilization__gpu": utilization,
        "memory__used": used,
        "memory__total": total,
    }
    numbers = {key: int(value) if value.isdecimal() else None for key, value in figures.items()}
    return _entry(index=int(index), name=", ".join(name), **numbers)


def _read_torch() -> list[dict[str, Any]]:
    """Ask PyTorch about the GPUs that this process can use; raises Unreadable where it has none."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        raise Unreadable("PyTorch finds no GPU that it can use")
    try:
        if found.type == "mps":
            used, total = torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
            return [_entry(index=0, name="mps", memory__used=used // MIB, memory__total=total // MIB)]
        return [_ask_torch(found.type, index) for index in range(torch.accelerator.device_count())]
    except RuntimeError as error:
        raise Unreadable(str(error).splitlines()[0]) from None


def _ask_torch(kind: str, index: int) -> dict[str, Any]:
    free, total = torch.accelerator.get_memory_info(index)
    name = torch.get_device_module(kind).get_device_name(index)
    return _entry(index=index, name=name, memory__used=(total - free) // MIB, memory__total=total // MIB)


def _formatted(gpus: list[dict[str, Any]]) -> str:
    """Print by gpustat itself, or in the same form where it is not installed."""
    try:
        gpustat = _import_gpustat()
    except Unreadable:
        return "\n".join(_line(gpu) for gpu in gpus)
    page = io.StringIO()
    listed = gpustat.GPUStatCollection([gpustat.GPUStat(gpu) for gpu in gpus])
    listed.print_formatted(page, no_color=True, show_header=False, show_cmd=True, eol_char="\n")
    return _COLOUR.sub("", page.getvalue()).rstrip("\n")  # FORCE_COLOR, which notebooks set, beats no_color


def _line(gpu: dict[str, Any]) -> str:
    """One GPU in gpustat's form."""
    known = {key: "??" if value is None else value for key, value in gpu.items()}
    work = f"{known['temperature.gpu']:>3}°C, {known['utilization.gpu']:>3} %"
    memory = f"{known['memory.used']:>5} / {known['memory.total']:>5} MB"
    users = [f" {process['command']}({process['gpu_memory_usage']}M)" for process in gpu["processes"] or ()]
    return f"[{gpu['index']}] {gpu['name']} |{work} | {memory} |{''.join(users)}"
