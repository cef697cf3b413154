"""What the facts about the machine, its variables and the data folder mean. Pure functions of the facts."""

from collections.abc import Iterator

from course_utils.machine.environment import SIZES

from . import fixes
from .facts import NOTE, OK, PROBLEM, Facts, Finding

GB = 10**9
MEMORY, SHARED, DISK = 4 * GB, 10**9, 1 * GB  # below these the lessons get slow, or stop


def variables(facts: Facts) -> Iterator[Finding]:
    """Environment variables that hurt."""
    values = facts.place.variables
    path, mode = values.get("LD_LIBRARY_PATH", ""), values.get("COURSE_DEVICE", "")
    if ("stubs" in path or facts.place.strays) and not facts.gpus_work:
        what = ", ".join(facts.place.strays) or "a folder of stubs, empty libraries made for compilers"
        meaning = f"It leads to {what}. These can be loaded in place of those that PyTorch brings along."
        fix = fixes.unset(facts, "LD_LIBRARY_PATH")
        yield Finding(NOTE, "LD_LIBRARY_PATH leads to CUDA libraries", meaning, fix)
    if values.get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        meaning = "Every kernel is waited for: good for finding an error, but slow, and timings are wrong."
        fix = fixes.unset(facts, "CUDA_LAUNCH_BLOCKING")
        yield Finding(NOTE, f"CUDA_LAUNCH_BLOCKING={values['CUDA_LAUNCH_BLOCKING']} is set", meaning, fix)
    if values.get("NVIDIA_VISIBLE_DEVICES") in ("", "void", "none") and facts.place.container:
        meaning = "The container is started without GPUs, even with --gpus."
        title = f"NVIDIA_VISIBLE_DEVICES={values['NVIDIA_VISIBLE_DEVICES']} is set"
        fix = "docker run -e NVIDIA_VISIBLE_DEVICES=all --gpus all ...   (on the host)"
        yield Finding(NOTE, title, meaning, fix)
    if mode not in ("", "auto"):
        works = mode in ("virtual", "cpu") or (mode == "real" and facts.gpus_seen)
        known = "PyTorch finds no real GPU" if mode == "real" else "it is none of auto, real, virtual and cpu"
        meaning = "The lessons use that, and do not choose." if works else f"The lessons stop: {known}."
        level, fix = NOTE if works else PROBLEM, fixes.unset(facts, "COURSE_DEVICE")
        yield Finding(level, f"COURSE_DEVICE={mode} is set", meaning, fix)


def virtual(facts: Facts) -> Iterator[Finding]:
    """Virtual GPUs that are on in the asking notebook: the rest of the report is about the true machine."""
    if facts.caller.virtual:
        meaning = "In this notebook torch.cuda shows these; all other lines here are about the real machine."
        yield Finding(OK, f"Virtual GPUs are on: {facts.caller.virtual}", meaning)


def room(facts: Facts) -> Iterator[Finding]:
    """Disk and memory."""
    place, missing = facts.place, facts.interpreter is None or "torch" not in facts.interpreter.packages
    needed = sum(SIZES.get(place.system, SIZES["linux"])) * GB if missing else DISK
    if 0 <= place.disk_free < needed:
        what = "to install PyTorch" if missing else "for data and checkpoints"
        title = f"Only {place.disk_free / GB:.1f} GB of disk are free"
        level = PROBLEM if missing else NOTE
        yield Finding(level, title, f"{needed / GB:.1f} GB are needed {what}.", "delete what you do not need")
    elif place.disk_free >= 0 and 0 <= place.memory < MEMORY:
        meaning = "Run one lesson at a time, and close what you do not need."
        fix = "in JupyterLab: Kernel > Shut Down All Kernels, before each lesson"
        yield Finding(NOTE, f"Only {place.memory / GB:.1f} GB of memory", meaning, fix)
    elif place.disk_free >= 0:
        memory = f"{place.memory / GB:.0f} GB of memory, " if place.memory > 0 else ""
        yield Finding(OK, f"{memory}{place.disk_free / GB:.0f} GB of disk free")
    if place.container and 0 <= place.shared_memory < SHARED:
        meaning = "Workers of a DataLoader die there with: Bus error. The lessons use none."
        title = f"Only {place.shared_memory / GB:.2g} GB of shared memory in this container"
        yield Finding(NOTE, title, meaning, "docker run --shm-size=2g ...   (on the host)")


def data(facts: Facts) -> Iterator[Finding]:
    """The pictures of lesson 04."""
    state, folder = facts.course.data, facts.course.data_folder
    standin = "lesson 04 downloads it (170 MB), or draws stand-in pictures and says so."
    title, meaning = {
        "official": ("CIFAR-10 is there", f"In the folder {folder}."),
        "archive": ("CIFAR-10 is there, packed", f"Lesson 04 unpacks it in the folder {folder}."),
        "pictures": (
            "Pictures of your own are there",
            f"Lesson 04 uses them in place of CIFAR-10, from the folder {folder}.",
        ),
        "standin": ("COURSE_DATA=standin", "Lesson 04 uses drawn stand-in pictures, as you asked."),
        "none": ("CIFAR-10 is not there yet", f"The folder {folder} does not hold it: {standin}"),
        "incomplete": ("CIFAR-10 is not complete", f"In the folder {folder} something is missing: {standin}"),
        "lost": (f"COURSE_DATA names a folder that does not exist: {folder}", "Lesson 04 will stop there."),
    }[state]
    fix = fixes.unset(facts, "COURSE_DATA") if state == "lost" else ""
    yield Finding({"incomplete": NOTE, "none": NOTE, "lost": PROBLEM}.get(state, OK), title, meaning, fix)
