"""The parts of a recording: what is measured on a card. The code that is timed is the lessons' own.

Each part is a generator. It puts what it has measured into `figures` and yields a line of progress after
each measurement, so that a part which breaks off leaves what it had.
"""

import gc
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch

import course_utils
from authors.lesson_code import lesson_code
from course_utils.distributed.scripts import speedrun as script
from course_utils.machine.timing import format_seconds

sys.path.append(str(Path(script.__file__).parent))  # lesson 08 imports the file it has taken home

TAKEN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
DEVICE = torch.device("cuda", 0)
Figures = dict[str, Any]
LARGER = (2048, 4096)  # a laptop need not compute these matmuls in the lesson
Scale = dict[str, Any]  # how much is measured: [full] of the TOML file, or [tiny] to try the recording itself
FULL = TAKEN["full"] | {"recipe": script.RECIPES["gpu"]}
TINY = TAKEN["tiny"]


def taken(part: str, **given: Any) -> Figures:
    """Run what a part takes of its lesson, with these values in place of the lesson's own."""
    return lesson_code(TAKEN[part]["lesson"], TAKEN[part]["names"].split(), **given)


def matmul(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time lesson 01's matmuls on the CPU and on the card, for the size from which the card wins."""
    lesson = taken("matmul")
    sizes = scale.get("sizes", [*lesson["sizes"], *LARGER])
    figures |= {"units": "seconds per n x n float32 matmul", "sizes": sizes, "cpu": [], "gpu": []}
    figures["cpu_threads"] = torch.get_num_threads()
    for n in sizes:
        for place, name in (("cpu", "cpu"), (DEVICE, "gpu")):
            (timing,) = lesson["sweep"]([n], place)
            figures[name].append(list(timing.times))
            yield f"{n:5} on the {name}: {timing}"


def clocks(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time one matmul in the ways of lesson 01: without waiting, with, and between CUDA events."""
    lesson = taken("clocks", device=DEVICE)
    figures |= {"units": "milliseconds per 1024 x 1024 float32 matmul", "first": [lesson["first"]]}
    figures |= {"naive": lesson["naive"], "waited": lesson["waited"], "events": lesson["times"]}
    yield f"least of five: naive {min(lesson['naive']):.3f} ms, waiting {min(lesson['waited']):.3f} ms"


def training_loop(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time an epoch of lesson 04's first loop and of each faster rung, with one CPU thread as there."""
    torch.set_num_threads(1)
    size = scale["pictures"]
    lesson = taken("training_loop", device=DEVICE, TRAIN_SIZE=size, TEST_SIZE=10, TIMED_SIZE=size)
    figures |= {"units": "seconds per epoch", "source": lesson["train_set"].source, "pictures": size}
    figures |= {"cpu_threads": torch.get_num_threads(), "rungs": {}}
    for name, run in lesson["rungs"].items():
        timing = course_utils.measure(run, DEVICE, repeats=scale["repeats"], warmup=1)
        figures["rungs"][name] = list(timing.times)
        yield f"{name}: {format_seconds(timing)} an epoch, {size / timing:,.0f} pictures per second"


def data_parallel(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time lesson 05's training loop on 1, 2, 4 and 8 GPUs, as many as there are."""
    count = torch.cuda.device_count()
    lesson = taken("data_parallel", device=DEVICE, count=count)
    lesson["labels"] = lesson["labels"][: scale["few_pictures"]]
    figures |= {"units": "seconds per epoch in batches of 100", "pictures": len(lesson["labels"])}
    figures |= {"source": lesson["train_set"].source, "gpus": {}}
    for n in lesson["numbers"]:
        epoch = partial(lesson["train"], n, epochs=1)
        timing = course_utils.measure(epoch, DEVICE, repeats=scale["repeats"], warmup=1)
        figures["gpus"][str(n)] = list(timing.times)
        yield f"{n} x GPU: {format_seconds(timing)} an epoch"


def memory(figures: Figures, scale: Scale) -> Iterator[str]:
    """Set the peak that lesson 06 predicts for each of its cases beside the measured ones."""
    lesson, step, cases = _memory_lesson(scale)
    figures |= {"units": "bytes at the peak of a training step", "half": str(lesson["HALF"]), "cases": {}}
    for job in lesson["jobs"].values():
        step(job, {})  # the first step also loads libraries and their work space
    for name, job, case in cases:
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(DEVICE)
        # autocast knows no meta device, so mixed precision cannot be predicted there
        predicted = None if "amp" in case else lesson["run_case"](lesson["predicted_peak"], job, case)
        allocated, _ = step(job, case)
        reserved = torch.cuda.max_memory_reserved(DEVICE)
        with course_utils.track_memory() as ledger:
            step(job, case)
        sizes = {"before": before, "predicted": predicted, "allocated": allocated, "reserved": reserved}
        figures["cases"][name] = sizes | {"ledger": ledger.peak(DEVICE) - before}
        off = f", {predicted / allocated - 1:+.1%} predicted" if predicted else ""
        yield f"{name}: {allocated / 2**20:.1f} MiB{off}"


def levers(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time a training step of lesson 06 with each of its levers."""
    lesson, step, cases = _memory_lesson(scale)
    figures |= {"units": "seconds per training step", "half": str(lesson["HALF"]), "steps": {}}
    for name, job, case in cases:
        step(job, case)  # not counted: it chooses and loads kernels
        figures["steps"][name] = [step(job, case)[1] for _ in range(scale["repeats"])]
        yield f"{name}: {format_seconds(median(figures['steps'][name]))} a step"


def _memory_lesson(scale: Scale) -> tuple[Figures, Callable[..., Any], list[tuple[str, Any, dict[str, Any]]]]:
    """Return lesson 06's names, what measures a step of a job, and the cases as (name, job, levers)."""
    lesson = taken("memory", device=DEVICE, BATCH=scale["batch"])
    pairs = product(lesson["jobs"].items(), lesson["CASES"].items())
    cases = [(f"{net}, {name}", job, case) for (net, job), (name, case) in pairs]
    return lesson, partial(lesson["run_case"], lesson["measure_step"]), cases[: scale.get("cases")]


def ladder(figures: Figures, scale: Scale) -> Iterator[str]:
    """Climb lesson 08's ladder on all pictures: seconds of training and test accuracy at each rung."""
    sizes = {"TRAIN_SIZE": scale.get("train_size"), "TEST_SIZE": scale.get("test_size")}
    lesson = taken("ladder", device=DEVICE, EPOCHS=scale["epochs"], **sizes)
    figures |= {"units": "seconds of training", "source": lesson["train_set"].source}
    figures |= {"epochs": scale["epochs"], "pictures": len(lesson["labels"]), "rungs": {}}
    for rung in map(str.split, TAKEN["ladder"]["rungs"].split(",")):
        if rung[-1] in scale["left_out"]:
            continue  # a virtual GPU has no CUDA graphs, and compiling takes long
        lesson = lesson_code(TAKEN["ladder"]["lesson"], rung, **lesson)  # the pieces stay the same objects
        for done, (seconds, accuracy) in lesson["ladder"].items():
            if done not in figures["rungs"]:
                figures["rungs"][done] = {"seconds": [seconds], "accuracy": [accuracy]}
                yield f"{done}: accuracy {accuracy:.1%} in {format_seconds(seconds)}"


def speedrun(figures: Figures, scale: Scale) -> Iterator[str]:
    """Run lesson 08's file with several seeds; a first run starts CUDA and is not counted."""
    sets = course_utils.load_cifar10(train_size=scale.get("train_size"), test_size=scale.get("test_size"))
    data = [torch.as_tensor(part) for some in sets for part in (some.data, some.targets)]
    figures |= {"units": "seconds from the pictures in memory to the last test prediction"}
    figures |= {"source": sets[0].source, "recipe": scale["recipe"], "accuracy": [], "seconds": []}
    torch.backends.cudnn.benchmark = True
    script.speedrun(data, DEVICE, scale["recipe"], -1)
    for seed in range(scale["seeds"]):
        accuracy, seconds = script.speedrun(data, DEVICE, scale["recipe"], seed)
        figures["accuracy"].append(accuracy)
        figures["seconds"].append(seconds)
        yield f"seed {seed}: accuracy {accuracy:.2%} in {format_seconds(seconds)}"


PARTS: dict[str, Callable[[Figures, Scale], Iterator[str]]] = {
    part.__name__: part
    for part in (matmul, clocks, training_loop, data_parallel, memory, levers, ladder, speedrun)
}
