"""What the facts about the machine, its variables and the data folder mean. Pure functions of the facts."""

from collections.abc import Iterator

from course_utils.machine.environment import SIZES

from .facts import Facts, Finding
from .findings import finding

GB = 10**9
MEMORY, SHARED, DISK = 4.0, 1.0, 1.0  # GB; below these the lessons get slow, or stop


def variables(facts: Facts) -> Iterator[Finding]:
    """Virtual GPUs that are on in the asking notebook, and environment variables that hurt."""
    if facts.caller.virtual:
        yield finding(facts, "virtual")
    values, strays = facts.place.variables, ", ".join(facts.place.strays)
    if ("stubs" in values.get("LD_LIBRARY_PATH", "") or strays) and not facts.gpus_work:
        yield finding(facts, "library_path", strays=strays, stubs=not strays)
    if values.get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        yield finding(facts, "launch_blocking", value=values["CUDA_LAUNCH_BLOCKING"])
    if values.get("NVIDIA_VISIBLE_DEVICES") in ("", "void", "none") and facts.place.container:
        yield finding(facts, "container_told_to_hide", value=values["NVIDIA_VISIBLE_DEVICES"])
    mode = values.get("COURSE_DEVICE", "")
    if mode in ("virtual", "cpu") or (mode == "real" and facts.interpreter.gpus):
        yield finding(facts, "device_chosen", mode=mode)
    elif mode not in ("", "auto"):
        yield finding(facts, "device_impossible", mode=mode, real=mode == "real", unknown=mode != "real")


def room(facts: Facts) -> Iterator[Finding]:
    """Disk and memory."""
    place, installed = facts.place, "torch" in facts.interpreter.packages
    disk, memory, shared = place.disk_free / GB, place.memory / GB, place.shared_memory / GB
    needed = DISK if installed else sum(SIZES.get(place.system, SIZES["linux"]))
    if 0 <= disk < needed:
        yield finding(facts, "disk_nearly_full" if installed else "disk_too_small", disk=disk, needed=needed)
    elif disk >= 0:
        name = "little_memory" if 0 <= memory < MEMORY else "room"
        yield finding(facts, name, memory=memory, disk=disk, memory_known=memory > 0)
    if place.container and 0 <= shared < SHARED:
        yield finding(facts, "little_shared_memory", shared=shared)


def data(facts: Facts) -> Iterator[Finding]:
    """The pictures of lesson 04."""
    yield finding(facts, f"data_{facts.course.data}")
