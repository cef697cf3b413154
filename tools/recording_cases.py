"""The parts of a recording: what is measured on a card. The code that is timed is the lessons' own.

Each part is a generator. It puts what it has measured into `figures` and yields a line of progress (or "")
after each measurement, so that a part which breaks off leaves what it had.
"""

import gc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import torch
from lesson_code import lesson_code
from recording_scale import DEVICE, FULL, LARGER, TINY, Figures, Scale
from recording_speed import ladder, speedrun

import course_utils
from course_utils.machine.timing import Timing, format_seconds

__all__ = ["FULL", "PARTS", "TINY"]


def fidelity(figures: Figures, scale: Scale) -> Iterator[str]:
    """Run every row of the fidelity table, each from the same state, as tests/test_fidelity.py does."""
    from fidelity import ROWS  # here, because importing the rows is slow
    from fidelity.gaps import gap_of

    figures |= {"passed": 0, "failed": 0, "skipped": 0, "rows": {}, "failures": []}
    for row in ROWS[: scale.rows]:
        name = f"{row.topic}: {row.call}"
        figures["rows"][name] = "running"
        yield ""  # so that a row which ends the process is known by its name
        if row.gpus > torch.cuda.device_count():
            result = "skipped"
        elif not scale.real and gap_of(row.call):
            result = "skipped"  # a known difference of the virtual GPUs
        else:
            result, got = _run_row(row)
            if result == "failed":
                figures["failures"].append({"row": name, "expected": str(row.expect), "got": got})
        figures["rows"][name] = result
        figures[result] += 1
    yield "{passed} rows passed, {failed} failed, {skipped} skipped".format(**figures)


def _run_row(row: Any) -> tuple[str, str]:
    """Run one row; return "passed" or "failed", and what came out."""
    from fidelity import evaluate, matches

    torch.cuda.init()
    torch.manual_seed(0)
    gc.disable()  # or tensors that an earlier row's error held may go while this row counts bytes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = evaluate(row)
    except Exception as error:
        outcome = error
    finally:
        gc.enable()
        torch.set_default_device(None)
        torch.cuda.set_device(0)
    try:
        passed = matches(row, outcome)
    except Exception as error:  # a value that cannot be compared with the expected one
        passed, outcome = False, error
    return "passed" if passed else "failed", f"{type(outcome).__name__}: {outcome}"


def matmul(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time lesson 01's matmuls on the CPU and on the card, for the size from which the card wins."""
    lesson = lesson_code("01_device_basics", ["sweep", "sizes"])
    sizes = list(scale.sizes or (*lesson["sizes"], *LARGER))
    figures |= {"units": "seconds per n x n float32 matmul", "sizes": sizes, "cpu": [], "gpu": []}
    figures["cpu_threads"] = torch.get_num_threads()
    for n in sizes:
        for place, name in (("cpu", "cpu"), (DEVICE, "gpu")):
            (timing,) = lesson["sweep"]([n], place)
            figures[name].append(list(timing.times))
            yield f"{n:5} on the {name}: {timing}"


def clocks(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time one matmul in the ways of lesson 01: without waiting, with, and between CUDA events."""
    figures["units"] = "milliseconds per 1024 x 1024 float32 matmul"
    names = ("wait", "clock", "a", "first", "naive", "waited", "marks")
    lesson = lesson_code("01_device_basics", names, device=DEVICE)
    figures |= {"first": [lesson["first"]], "naive": lesson["naive"], "waited": lesson["waited"]}
    figures["events"] = lesson["times"]
    yield f"least of five: naive {min(lesson['naive']):.3f} ms, waiting {min(lesson['waited']):.3f} ms"


LOOP = """BATCH_SIZE LEARNING_RATE FAST_BATCH_SIZE torch.backends.cudnn.deterministic train_set sample MEAN
to_numbers to_variants train_set.transform options Net train_epoch_first criterion all_pictures all_labels
gather train_epoch_fast timed_loader plain new_run first fast rungs""".split()


def training_loop(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time an epoch of lesson 04's first loop and of each faster rung, with one CPU thread as there."""
    torch.set_num_threads(1)
    size = scale.pictures
    given = {"device": DEVICE, "TRAIN_SIZE": size, "TEST_SIZE": 10, "TIMED_SIZE": size}
    lesson = lesson_code("04_cifar_training_loop", LOOP, **given)
    figures |= {"units": "seconds per epoch", "source": lesson["train_set"].source, "pictures": size}
    figures |= {"cpu_threads": torch.get_num_threads(), "rungs": {}}
    for name, run in lesson["rungs"].items():
        timing = _measure(run, scale)
        figures["rungs"][name] = list(timing.times)
        yield f"{name}: {format_seconds(timing)} an epoch, {size / timing:,.0f} pictures per second"


def _measure(run: Callable[[], object], scale: Scale) -> Timing:
    return course_utils.measure(run, DEVICE, repeats=scale.repeats, warmup=1)


PARALLEL = ("Net", "train_set", "pictures", "labels", "train", "numbers")


def data_parallel(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time lesson 05's training loop on 1, 2, 4 and 8 GPUs, as many as there are."""
    count = torch.cuda.device_count()
    lesson = lesson_code("05_data_parallel", PARALLEL, device=DEVICE, count=count)
    lesson["labels"] = lesson["labels"][: scale.few_pictures]
    figures |= {"units": "seconds per epoch in batches of 100", "pictures": len(lesson["labels"])}
    figures |= {"source": lesson["train_set"].source, "gpus": {}}
    for n in lesson["numbers"]:
        timing = _measure(partial(lesson["train"], n, epochs=1), scale)
        figures["gpus"][str(n)] = list(timing.times)
        yield f"{n} x GPU: {format_seconds(timing)} an epoch"


TRICKS = """MIB HAS_COUNT Block ConvNet TinyTransformer pictures texts adam no_scaler build train_step
measure_step bf16_in_hardware HALF optimizers jobs CASES run_case PeakCounter predicted_peak""".split()


def memory(figures: Figures, scale: Scale) -> Iterator[str]:
    """Set the peak that lesson 06 predicts for each of its cases beside the measured ones."""
    lesson, cases = _memory_lesson(scale)
    run, measure_step = lesson["run_case"], lesson["measure_step"]
    figures |= {"units": "bytes at the peak of a training step", "half": str(lesson["HALF"]), "cases": {}}
    for job in lesson["jobs"].values():
        run(measure_step, job, {})  # the first step also loads libraries and their work space
    for name, job, case in cases:
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(DEVICE)
        # autocast knows no meta device, so mixed precision cannot be predicted there
        predicted = None if "amp" in case else run(lesson["predicted_peak"], job, case)
        allocated, _ = run(measure_step, job, case)
        reserved = torch.cuda.max_memory_reserved(DEVICE)
        with course_utils.track_memory() as ledger:
            run(measure_step, job, case)
        sizes = {"before": before, "predicted": predicted, "allocated": allocated, "reserved": reserved}
        figures["cases"][name] = sizes | {"ledger": ledger.peak(DEVICE) - before}
        yield f"{name}: {allocated / 2**20:.1f} MiB"


def levers(figures: Figures, scale: Scale) -> Iterator[str]:
    """Time a training step of lesson 06 with each of its levers."""
    lesson, cases = _memory_lesson(scale)
    run, measure_step = lesson["run_case"], lesson["measure_step"]
    figures |= {"units": "seconds per training step", "half": str(lesson["HALF"]), "steps": {}}
    for name, job, case in cases:
        run(measure_step, job, case)  # not counted: it chooses and loads kernels
        figures["steps"][name] = [run(measure_step, job, case)[1] for _ in range(scale.repeats)]
        yield f"{name}: {format_seconds(median(figures['steps'][name]))} a step"


def _memory_lesson(scale: Scale) -> tuple[Figures, list[tuple[str, Any, dict[str, Any]]]]:
    """Return lesson 06's names, and its cases as (name, job, levers)."""
    lesson = lesson_code("06_memory_tricks", TRICKS, device=DEVICE, BATCH=scale.batch)
    pairs = product(lesson["jobs"].items(), lesson["CASES"].items())
    cases = [(f"{net}, {name}", job, case) for (net, job), (name, case) in pairs]
    return lesson, cases[: scale.cases]


PARTS: dict[str, Callable[[Figures, Scale], Iterator[str]]] = {
    "fidelity": fidelity,
    "matmul": matmul,
    "clocks": clocks,
    "training_loop": training_loop,
    "data_parallel": data_parallel,
    "memory": memory,
    "levers": levers,
    "ladder": ladder,
    "speedrun": speedrun,
}
