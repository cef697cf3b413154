"""Judging arithmetic about many GPUs: steps and learning rate, GPUs for a model in shards, tools."""

import math
from collections.abc import Callable
from typing import Any

from ..engine import close, wrong

TOOLS = ("one GPU", "DataParallel", "DDP", "FSDP", "model parallel")


def judge_scaling(answer: Callable[..., Any]) -> None:
    """Ask for steps in an epoch and learning rate, where the numbers divide and where they do not."""
    for samples, batch, gpus, rate in (
        (50_000, 100, 1, 0.1),
        (50_000, 100, 5, 0.1),
        (50_000, 64, 8, 0.05),
        (1_281_167, 32, 256, 0.0125),
        (1_000, 64, 1_000, 0.01),
        (513, 64, 8, 0.4),
    ):
        case = f"scaled_up({samples}, {batch}, {gpus}, {rate})"
        said = answer(samples, batch, gpus, rate)
        if said is None:
            wrong("nothing", "Your function returns nothing. Does it end in `return`?")
        if not isinstance(said, list | tuple) or len(said) != 2 or not all(map(_is_number, said)):
            wrong("pair", f"{case} gives {said}. Return two numbers: the steps, and the learning rate.")
        _check_steps(case, said[0], said[1], samples, batch, gpus, rate)
        _check_rate(case, said[1], gpus, rate)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_steps(
    case: str, steps: float, other: float, samples: int, batch: int, gpus: int, rate: float
) -> None:
    """Compare the steps of an epoch."""
    exact = samples / (batch * gpus)
    right = math.ceil(exact)
    if steps == right:
        return
    if other == right:
        wrong("swapped", f"{case}: the steps come first, then the learning rate.")
    if close(steps, exact):
        wrong("whole", f"{case} says {steps:.6g} steps. Steps are whole: the last one has what is left.")
    if steps == math.floor(exact):
        wrong("floor", f"{case} says {steps} steps. The samples that are left over make one more.")
    if gpus > 1 and steps == math.ceil(samples / batch):
        wrong("one_gpu", f"{case} says {steps} steps, as on one GPU. A step uses {gpus} batches at a time.")
    if steps == math.floor(exact) + 1:
        wrong("one_more", f"{case} says {steps} steps. Rounding up is not always one more.")
    if gpus > 1 and steps == math.ceil(samples * gpus / batch):
        wrong("more", f"{case} says {steps} steps. More GPUs make fewer steps in an epoch, not more.")
    wrong("steps", f"{case} says {steps} steps. How many samples does one step use, on all GPUs together?")


def _check_rate(case: str, said: float, gpus: int, rate: float) -> None:
    """Compare the learning rate."""
    if close(said, rate * gpus):
        return
    if close(said, rate):
        wrong("same_rate", f"{case}: the batch is {gpus} times as large, and the rate has stayed {rate}.")
    if close(said, rate / gpus):
        wrong("smaller", f"{case}: {said:.3g}. A larger batch has less noise, so its step may be longer.")
    if close(said, rate * math.sqrt(gpus)):
        wrong("root", f"{case}: {said:.3g} is the square-root rule, which some use with Adam. Here: linear.")
    wrong("rate", f"{case}: {said:.3g}. The rate grows in proportion to the number of GPUs.")


GIB = 2**30


def judge_gpus(answer: Callable[..., Any]) -> None:
    """Ask for the fewest GPUs, also where the numbers divide exactly, and where no number is enough."""
    for parameters, block, memory in (
        (1_000_000, 0, 16_000_000),
        (7_000_000_000, 0, 12_000_000_000),
        (70_000_000_000, 2_000_000_000, 80_000_000_000),
        (7_000_000_000, 200_000_000, 24 * GIB),
        (70_000_000_000, 900_000_000, 80 * GIB),
        (3_000, 3_000, 24_000),
        (5_000, 4_000, 24_000),
    ):
        case = f"gpus_needed({parameters:_}, {block:_}, {memory:_})"
        said, room = answer(parameters, block, memory), memory - 8 * block
        right = -(-16 * parameters // room) if room > 0 else None
        if said != right or isinstance(said, bool):
            _explain_gpus(case, said, right, parameters, block, memory)
        if right is not None and not hasattr(said, "__index__"):
            wrong("whole", f"{case} says {said!r}. GPUs are whole: use // or math.ceil, not /.")


def _explain_gpus(case: str, said: Any, right: Any, parameters: int, block: int, memory: int) -> None:
    """Say what is wrong with a number of GPUs."""
    if right is None:
        wrong("impossible", f"{case} says {said!r}. The block alone fills a GPU, and no number of GPUs makes "
              "it smaller: None.")  # fmt: skip
    if said is None:
        wrong("nothing", f"{case} says None, and {right} would do.")
    if not _is_number(said):
        wrong("number", f"{case} says {said!r}. Return a whole number, or None.")
    room = memory - 8 * block
    if block and close(said, math.ceil(16 * parameters / memory)):
        wrong("block", f"{case} says {said}. While a block computes it is whole, with its gradient: 8 bytes "
              "for each of its parameters are not shared out.")  # fmt: skip
    for each, key, what in ((4, "weights", "weights"), (8, "adam", "weights and gradients"),
                            (12, "one_average", "weights, gradients and one of Adam's means")):  # fmt: skip
        if close(said, math.ceil(each * parameters / room)):
            wrong(
                key, f"{case} says {said}. {each} bytes for a parameter are {what}. Adam keeps two averages."
            )
    if block and close(said, math.ceil(16 * parameters / max(1, memory - 4 * block))):
        wrong("block_gradient", f"{case} says {said}. The whole block has its gradient, too: 8 bytes each.")
    if block and close(said, math.ceil((16 * parameters + 8 * block) / memory)):
        wrong("block_shared", f"{case} says {said}. The block is whole on every GPU: it is not shared out.")
    if close(said, 16 * parameters / room) and said != int(said):
        wrong("whole", f"{case} says {said:.6g}. There are whole GPUs only: round up.")
    if said == 16 * parameters // room:
        wrong("floor", f"{case} says {said}. So many have not enough room: round up.")
    if said == 16 * parameters // room + 1:
        wrong("one_more", f"{case} says {said}, and {right} would do. Rounding up is not always one more.")
    wrong("other", f"{case} says {said}, and {right} is right: 16 bytes shared out, 8 for the block on each.")


def judge_tools(answer: Any) -> None:
    """Ask for the first tool of the figure that fits, for each situation in the order of the stub."""
    if not isinstance(answer, dict) or len(answer) != len(_SITUATIONS):
        wrong("form", "Leave the five situations as they are, and put a tool in place of each `...`.")
    for said, (right, hints) in zip(answer.values(), _SITUATIONS, strict=True):
        word = _tool(said)
        if word != right:
            key, hint = hints.get(word, hints[""])
            wrong(key, hint)


def _tool(said: Any) -> str:
    """Return the tool that a word names."""
    if said is ... or said is None:
        wrong("gap", "There is still a gap. Each of the five situations needs a tool.")
    letters = str(said).lower().replace(" ", "").replace("-", "").replace("_", "")
    names = {tool.lower().replace(" ", ""): tool for tool in TOOLS}
    names |= {"distributeddataparallel": "DDP", "fsdp2": "FSDP", "fullyshard": "FSDP", "1gpu": "one GPU"}
    if letters not in names:
        wrong("word", f"{said!r} is none of the tools: " + ", ".join(map(repr, TOOLS)) + ".")
    return names[letters]


_NOTEBOOK = (
    "notebook",
    "One hour in a running notebook with two GPUs: which tool needs one line and no second process?",
)
_LAYERS = ("layers", "Each layer fits, the sum of weights, gradients and Adam does not: what cuts that sum?")
_SITUATIONS: tuple[tuple[str, dict[str, tuple[str, str]]], ...] = (
    ("one GPU", {"": ("simple", "It fits and is quick enough: every further tool would only cost.")}),
    (
        "DDP",
        {
            "DataParallel": (
                "scripts",
                "Time matters here, and one process with 8 GPUs is slower than 8 of them.",
            ),
            "one GPU": ("weeks", "That is the training that takes weeks. There are eight GPUs."),
            "": ("fits", "The model fits, so it need not be cut into pieces, which costs traffic."),
        },
    ),
    (
        "DataParallel",
        {"": _NOTEBOOK},
    ),
    (
        "FSDP",
        {
            "DDP": (
                "whole",
                "DDP puts the whole model with Adam on every GPU, and that does not fit on any.",
            ),
            "DataParallel": ("whole", "DataParallel copies the whole model to every GPU; it does not fit."),
            "": _LAYERS,
        },
    ),
    (
        "model parallel",
        {"": ("one_layer", "FSDP gathers a layer whole before it computes. This one does not fit anywhere.")},
    ),
)
