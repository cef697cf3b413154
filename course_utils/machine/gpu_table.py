"""`gpu_status()`: one line per GPU in gpustat's form, for real and for virtual GPUs.

Real GPUs are read by the first of these that answers: gpustat (NVIDIA's library NVML), the command
nvidia-smi, PyTorch. What a reader does not know stays None and is printed as `??`; nothing is estimated.
"""

from dataclasses import dataclass
from typing import Any

import torch

from course_utils import virtual
from course_utils.machine.system import query_gpus

MIB = 2**20
# gpustat's names, which are also those of nvidia-smi --query-gpu
KEYS = "index name temperature.gpu utilization.gpu memory.used memory.total processes".split()
VIRTUAL_NOTE = "Virtual GPUs have no temperature (??°C) and no utilisation (?? %) of their own."
Gpu = dict[str, Any]


@dataclass(frozen=True)
class GpuStatus:
    """What the GPUs were doing at one moment; `print` it.

    Attributes:
        gpus: one dictionary per GPU with gpustat's keys: memory in MiB (gpustat writes MB), temperature in
            degrees Celsius, utilization in percent; None is unknown.
        source: who was asked: "virtual", "gpustat", "nvidia-smi", "torch" or "nobody".
        note: lines that say what is missing and why; may be empty.
    """

    gpus: list[Gpu]
    source: str
    note: str = ""

    def __repr__(self) -> str:
        width = max((len(gpu["name"]) for gpu in self.gpus), default=0)
        lines = [_line(gpu, width) for gpu in self.gpus] or ["no GPU"]
        return "\n".join(filter(None, (*lines, self.note)))


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
        except Exception as error:  # of gpustat, NVML, PyTorch and their drivers
            text = str(error).strip() or type(error).__name__
            problems.append(f"{source}: {text.splitlines()[0]}")
    return GpuStatus([], "nobody", "\n".join([*problems, "course_utils.doctor() says what to do."]))


def _gpu(index: int, name: str, used: int, total: int) -> Gpu:
    """Return one GPU's dictionary, where only its memory is known, in bytes."""
    known = {"index": index, "name": name, "memory.used": used // MIB, "memory.total": total // MIB}
    return dict.fromkeys(KEYS) | known


def _read_virtual() -> list[Gpu]:
    """Read the virtual GPUs; used is what PyTorch's allocator has reserved, as a card would count it."""
    gpus = _read_torch()
    for gpu in gpus:
        process = {"command": "python", "gpu_memory_usage": gpu["memory.used"]}
        gpu["processes"] = [process] if gpu["memory.used"] else []
    return gpus


def _read_gpustat() -> list[Gpu]:
    """Ask gpustat; raises what it and NVML raise."""
    import gpustat

    gpus = [gpu.entry for gpu in gpustat.new_query()]
    if not gpus:
        raise LookupError("the driver reports no GPU")
    # a GPU that is lost has "?" for everything
    return [{key: None if gpu[key] == "?" else gpu[key] for key in KEYS} for gpu in gpus]


def _read_smi() -> list[Gpu]:
    """Ask the command nvidia-smi; raises LookupError where it is missing or fails."""
    rows, problem = query_gpus("index", "temperature.gpu", "utilization.gpu", "memory.used", "memory.total")
    if problem:
        raise LookupError(problem)
    gpus = []
    for row in rows:
        numbers = {key: int(value) for key, value in row.items() if value.isdecimal()}  # not "[N/A]"
        gpus.append(dict.fromkeys(KEYS) | numbers | {"name": row["name"]})
    return gpus


def _read_torch() -> list[Gpu]:
    """Ask PyTorch about the GPUs that this process can use; raises LookupError where it has none."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        raise LookupError("PyTorch finds no GPU that it can use")
    if found.type == "mps":
        return [_gpu(0, "mps", torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory())]
    gpus = []
    for index in range(torch.accelerator.device_count()):
        free, total = torch.accelerator.get_memory_info(index)
        name = torch.get_device_module(found.type).get_device_name(index)
        gpus.append(_gpu(index, name, total - free, total))
    return gpus


def _line(gpu: Gpu, width: int) -> str:
    """One GPU as `gpustat --no-header --show-cmd` prints it; `width` is that of the longest name."""
    known = {key: "??" if value is None else value for key, value in gpu.items()}
    work = f"{known['temperature.gpu']:>3}°C, {known['utilization.gpu']:>3} %"
    memory = f"{known['memory.used']:>5} / {known['memory.total']:>5} MB"
    users = []
    for process in gpu["processes"] or ():
        used = process["gpu_memory_usage"]
        users.append(f" {process['command'] or '--'}({'?' if used is None else used}M)")
    return f"[{gpu['index']}] {gpu['name']:<{width}} |{work} | {memory} |{''.join(users)}"
