"""The exercises of lesson 02: copies, what moves and what is saved, checkpoints, few copies."""

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from . import progress
from .engine import Score, exercise, myth, wrong
from .judging.checkpoints import checkpoint_is_loaded, no_code_is_run
from .judging.evaluation import count_copies
from .judging.placement import CopyCounter, some_gpus

summary = partial(progress.summary, "02")

CPU = torch.device("cpu")


def _compare(guess: Any, actual: Iterable[Any], hints: dict[str, tuple[str, str]]) -> None:
    """Compare a selection with the right one; the first of the items in doubt has the hint."""
    said = re.findall(r"\w+", guess) if isinstance(guess, str) else guess
    said = {str(item) for item in said} if isinstance(said, list | tuple | set) else {str(said)}
    if not said <= set(hints):
        wrong("form", f"Write a list with your choice of these: {', '.join(hints)}.")
    right = {str(item) for item in actual}
    for item, (key, hint) in hints.items():
        if (item in said) != (item in right):
            wrong(key, hint)


always_copies = myth(
    "always_copies",
    ".to(device) always returns a copy.",
    "false",
    "It copies only where it has to: a tensor that already fits comes back itself, so .to twice is free.",
    {
        "true": "So it looks as long as every tensor comes from elsewhere. What would a tensor do that is "
        "on the device already?",
        "outdated": "It was never so: a tensor that needs no change has always come back itself.",
    },
    __name__,
)


@exercise(
    kind="predict",
    minutes=2,
    difficulty="easy",
    stub="exercise.same_object.guess(...)",
    solution="exercise.same_object.guess([1, 2, 3])",
    reasoning=".to makes a new tensor only for another device, another dtype, or on request (copy=True). "
    "On a machine with the CPU alone, y.cpu() has nothing to do either, and 6 belongs to the list.",
    hints=(
        "Ask of each line: would the result differ from y in device or dtype?",
        "y is float32 and on device; other is, too. On a GPU two lines ask for something else than that, "
        "and one asks for a copy in so many words.",
    ),
    why="Code that changes the result of .to in place must know whether y changes with it.",
    choices=(1, 2, 3, 4, 5, 6),
    several=True,
)
def same_object(guess: Any, actual: list[int]) -> None:
    """Which of the six lines give back y itself?"""
    hints = {
        "1": ("device", "Line 1 asks for the device that y is on. There is nothing to copy."),
        "2": (
            "other",
            "Line 2 asks for the device and dtype of other; size and numbers do not matter.",
        ),
        "3": ("dtype", "Line 3: y is float32 from the beginning, so there is nothing to convert."),
        "4": ("half", "Line 4: float16 numbers take 2 bytes each, those of y take 4. They need a new place."),
        "5": ("copy", "Line 5: copy=True makes a copy even where none is needed."),
        "6": ("cpu", "Line 6: .cpu() follows the same rule. Where is y, and so what has .cpu() to do?"),
    }
    _compare(guess, actual, hints)


@exercise(
    kind="predict",
    minutes=1,
    difficulty="easy",
    stub="exercise.who_changes.guess(...)",
    solution='exercise.who_changes.guess("model")',
    reasoning="Module.to puts new contents into the parameters that the module has. Tensor.to returns "
    "another tensor and leaves its own alone, so its result has to be assigned.",
    hints=(
        "One of the two results is thrown away. Does that matter for both?",
        "A module can exchange what its attributes hold. A tensor cannot become another one.",
    ),
    why="x.to(device) on a line of its own is one of the most common mistakes, and it raises no error.",
    choices=("model", "x", "both", "neither"),
)
def who_changes(guess: Any, actual: list[str]) -> None:
    """Neither result is assigned: which one changes, "model", "x", "both" or "neither"?"""
    said = guess[0] if isinstance(guess, list | tuple) and len(guess) == 1 else guess
    said = said.strip().lower() if isinstance(said, str) else said
    hints = {
        "model": "The model changed, as the output shows.",
        "x": "The other way round: x.to made a new tensor, which nobody kept.",
        "both": "The model did change. But x is the tensor it was: x.to made a new one, which nobody kept.",
        "neither": "That holds for x. A module, however, changes in place, and returns itself.",
    }
    if not isinstance(said, str) or said not in hints:
        wrong("word", 'Answer with one of "model", "x", "both" and "neither".')
    if said != ("neither" if not actual else actual[0] if len(actual) == 1 else "both"):
        wrong(said, hints[said])


moves_computation = myth(
    "moves_computation",
    "model.to(device) puts all computation on the GPU.",
    "false",
    "It moves the tensors that the model has registered; each operation runs where its inputs are.",
    {
        "true": "A tensor that forward makes is not there yet when the model moves. Where will it be?",
        "outdated": "No version of PyTorch did that: .to has always moved tensors, not operations.",
    },
    __name__,
)


_FIVE = ("weight", "mean", "mask", "scale", "layers")


@exercise(
    kind="predict",
    minutes=2,
    difficulty="medium",
    stub="exercise.what_moves.guess(...)",
    solution='exercise.what_moves.guess(["weight", "mean", "mask"])',
    reasoning="Module.to goes through the parameters and the buffers that are registered, saved or not. "
    "Other attributes, and what is inside a Python list, it does not see.",
    hints=(
        "PyTorch has to know a tensor to move it. How does it learn of each of the five?",
        "nn.Parameter and register_buffer make a tensor known. A plain attribute and a Python list do not.",
    ),
    why="What stays behind raises no error until it meets a tensor that moved.",
    choices=_FIVE,
    several=True,
)
def what_moves(guess: Any, actual: list[str]) -> None:
    """Which of the five, "weight", "mean", "mask", "scale" and "layers", does .to move?"""
    hints = {
        "scale": ("plain", "scale is a plain attribute. PyTorch does not know that it belongs to the model."),
        "layers": ("list", "layers is a Python list, and .to does not look into lists."),
        "mean": ("buffer", "mean is not trained, but register_buffer made it part of the model: it moves."),
        "mask": ("nonpersistent", "mask is a buffer like mean: persistent=False changes saving, not moving."),
        "weight": ("parameter", "weight is a parameter, the first thing that a model moves."),
    }
    _compare(guess, actual, hints)


@exercise(
    kind="predict",
    minutes=1,
    difficulty="medium",
    stub="exercise.what_is_saved.guess(...)",
    solution='exercise.what_is_saved.guess(["weight", "mean"])',
    reasoning="state_dict holds parameters and persistent buffers. mask asked not to be saved, and the other "
    "two were never registered.",
    hints=(
        "What is not known cannot be saved. One that is known asked to be left out.",
        "Read the line of mask once more.",
    ),
    why="What is not in the state_dict is silently missing when the model is loaded again.",
    choices=_FIVE,
    several=True,
)
def what_is_saved(guess: Any, actual: list[str]) -> None:
    """Which of the five, "weight", "mean", "mask", "scale" and "layers", are in the state_dict?"""
    hints = {
        "mask": ("nonpersistent", "persistent=False means just this: mask moves with the model, unsaved."),
        "scale": ("plain", "scale is a plain attribute. What PyTorch does not know it does not save."),
        "layers": ("list", "The layers in a Python list are not part of the model, so they are not saved."),
        "mean": ("buffer", "mean is not trained, but a model without it would compute other results."),
        "weight": ("parameter", "A parameter is always saved: it is what training found out."),
    }
    _compare(guess, actual, hints)


@exercise(
    kind="repair",
    minutes=5,
    difficulty="easy",
    stub="""
    class Standardize(nn.Module):
        def __init__(self, mean, std):
            super().__init__()
            self.mean = mean
            self.std = std

        def forward(self, x):
            return (x - self.mean) / self.std
    """,
    solution="""
    class Standardize(nn.Module):
        def __init__(self, mean, std):
            super().__init__()
            self.register_buffer("mean", mean)
            self.register_buffer("std", std)

        def forward(self, x):
            return (x - self.mean) / self.std
    """,
    reasoning="A registered buffer is part of the model: it moves and is saved, and no optimizer sees it. "
    "forward needs no change, because self.mean still finds it.",
    hints=(
        "PyTorch has to know the two tensors as part of the model, but not as something to train.",
        "Section 7 has five ways to keep numbers. Which one moves, is saved, and is not trained?",
        "Only __init__ changes: two lines, each with self.register_buffer(name, tensor).",
    ),
    why="Constants that belong to a model, such as the statistics of its data, are buffers.",
)
def standardize(answer: Any) -> None:
    """Repair the class: its tensors move with the model, are saved with it, and are not trained."""
    generator = torch.Generator().manual_seed(0)
    mean, std, x = (torch.rand(size, generator=generator) + 0.5 for size in (3, 3, (4, 3)))
    expected = (x - mean) / std
    with some_gpus() as gpus:
        layer, other = _built(answer, mean.clone(), std.clone()), answer(torch.zeros(3), torch.ones(3))
        if not isinstance(layer, nn.Module):
            wrong("module", "Standardize must stay a layer, a subclass of nn.Module.")
        found = _apart(layer, x)
        if found is None or found.device != CPU:
            wrong("hard_coded", "Before any move the layer must work on the CPU: name no GPU in the class.")
        _same_numbers(layer, x, std, expected)
        if list(nn.Module.parameters(layer)):
            text = "A parameter moves, but it is there to be trained. These numbers are facts of the data."
            wrong("parameter", text)
        _moves(answer, x, mean, std, gpus[-1])
        found = _apart(layer.to(gpus[0]).to(CPU), x)
        if found is None or not torch.allclose(found, expected, atol=1e-5):
            wrong("one_way", "After a journey to the GPU and back, it no longer works on the CPU.")
        other.to(gpus[0]).to(CPU).load_state_dict(layer.state_dict())
        if not torch.allclose(other(x), expected, atol=1e-5):
            wrong("not_saved", "It moves. But a new layer that loads the state_dict still has other numbers.")
        modes = (answer(mean, std).train(mode)(x) for mode in (True, False))
        if not all(torch.allclose(found, expected, atol=1e-5) for found in modes):
            text = "After .train() or .eval() the results are others; they should not depend on the mode."
            wrong("training", text)


def _built(answer: Any, mean: torch.Tensor, std: torch.Tensor) -> Any:
    """Make a layer; explain a buffer whose name is taken."""
    try:
        return answer(mean, std)
    except KeyError as error:
        if "already exists" in str(error):
            text = "register_buffer makes the attribute itself, and something of that name is there already."
            wrong("taken", text)
        raise


def _apart(layer: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    """Call a layer; None where its tensors are on different devices."""
    try:
        return layer(x)
    except RuntimeError as error:
        if "same device" not in str(error):
            raise
        return None


def _same_numbers(layer: nn.Module, x: torch.Tensor, std: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare a layer's results and gradients with those of the class in the stub."""
    x = x.clone().requires_grad_()
    found = layer(x)
    if not torch.allclose(found, expected, atol=1e-5):
        wrong("numbers", "The results are not those of before: subtract the mean, then divide by std.")
    (gradient,) = torch.autograd.grad(found.sum(), x) if found.requires_grad else (None,)
    if gradient is None or not torch.allclose(gradient, (1 / std).expand_as(gradient)):
        wrong("gradient", "The results are right, but the gradient does not get through to the input.")


def _moves(answer: Any, x: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, gpu: torch.device) -> None:
    """See whether layers of the class move as a part of a model, and how they find their tensors."""
    model, on_gpu = nn.Sequential(answer(mean.clone(), std.clone())).to(gpu), x.to(gpu)
    with CopyCounter() as counter:
        found = _apart(model, on_gpu)
    if found is None and _apart(answer(mean.clone(), std.clone()).to(gpu), on_gpu) is not None:
        text = (
            "It moves by its own .to, but not as a part of a model: a model never calls that of its layers."
        )
        wrong("override", text)
    if found is None or found.device != gpu:
        wrong("stays_behind", "After .to(device) forward still meets a tensor that stayed where it was.")
    if counter.copies:
        wrong("in_forward", "It works, but forward copies to the GPU. The layer should move once, with .to.")
    if not torch.allclose(found.cpu(), (x - mean) / std, atol=1e-5):
        wrong("numbers", "On the GPU the results differ from those on the CPU.")


save_whole_model = myth(
    "save_whole_model",
    "torch.save(model, path) is the way to save a model.",
    "outdated",
    "Since PyTorch 2.6 such a file no longer loads by default; save the state_dict.",
    {
        "true": "Saving works. The trouble comes when somebody loads the file: run the cell below.",
        "false": "It was a usual way for years, and torch.load took such files until version 2.6.",
    },
    __name__,
)


@exercise(
    kind="write",
    minutes=6,
    difficulty="medium",
    stub="""
    def load_checkpoint(path, model):
        # your lines
        ...
    """,
    solution="""
    def load_checkpoint(path, model):
        checkpoint = torch.load(path, map_location="cpu")
        model.load_state_dict(checkpoint["model"])
        return checkpoint["epoch"]
    """,
    reasoning="map_location decides where the file's tensors go, and every machine has a CPU. "
    "load_state_dict then copies into the model's own tensors, wherever those are.",
    hints=(
        "Three steps: read the file, give the model its numbers, return the epoch.",
        "The file remembers its GPU. Which argument of torch.load overrules it? Which place is always there?",
        "torch.load(path, map_location=...) gives the dictionary; model.load_state_dict takes its part.",
    ),
    why="A checkpoint should open on any machine, and never run code from its file.",
)
def load_checkpoint(answer: Any) -> None:
    """Write the function that loads a checkpoint on any machine, whichever GPU wrote it."""
    with some_gpus() as gpus:
        checkpoint_is_loaded(answer, 7, writer=gpus[-1], visible=0, home=CPU)
        checkpoint_is_loaded(answer, 8, writer=gpus[len(gpus) // 2], visible=0, home=CPU)
        checkpoint_is_loaded(answer, 9, writer=gpus[-1], visible=1, home=gpus[0])
        no_code_is_run(answer)


@exercise(
    kind="challenge",
    minutes=12,
    difficulty="hard",
    stub="""
    def evaluate(model, batches, device):
        losses, hits, seen = [], 0, 0
        with torch.no_grad():
            for images, labels in batches:
                x = (images.float() / 255).to(device)
                logits = model(x)
                loss = nn.functional.cross_entropy(logits, labels.to(device))
                losses.append(loss.item() * len(labels))
                hits += (logits.cpu().argmax(1) == labels).sum().item()
                seen += len(labels)
        return sum(losses) / seen, hits / seen
    """,
    solution="""
    def evaluate(model, batches, device):
        totals, seen = torch.zeros(2, device=device), 0
        with torch.no_grad():
            for images, labels in batches:
                x, y = images.to(device).float() / 255, labels.to(device)
                logits = model(x)
                loss = nn.functional.cross_entropy(logits, y, reduction="sum")
                totals += torch.stack([loss, (logits.argmax(1) == y).sum()])
                seen += len(labels)
        loss, accuracy = (totals / seen).tolist()
        return loss, accuracy
    """,
    reasoning="Each batch goes over once, as small as it is stored, sums stay on the device, and one fetch "
    "at the end brings both. It can be beaten: labels can travel in the same tensor as their images, and "
    "batches that fit the GPU together can travel together.",
    hints=(
        "Count per batch: images and labels go up, the loss and the logits come down. Which of them must?",
        "Everything that is compared or summed can stay on the device until the loop is over.",
        "Keep both sums in one tensor on the device; .tolist() fetches both at once. Converting images "
        "from uint8 after the move does not save a copy, but three quarters of its bytes.",
    ),
    why="Each fetch makes Python wait for the GPU; one per epoch is enough.",
)
def evaluate(answer: Any) -> Score:
    """Return the mean loss and the accuracy with as few copies between host and GPU as you can."""
    with some_gpus() as gpus:
        count_copies(answer, (5, 3), 1, gpus[-1])
        counter = count_copies(answer, (16,) * 8 + (8,), 2, gpus[0])
    if counter.nbytes < 136 * 3 * 16 * 16:  # the images as uint8: no answer gets by with less
        wrong(
            "uncounted", "The images reached the GPU in a way that is not counted. Copy tensors, as with .to."
        )
    return Score(counter.copies, f"copies ({counter.nbytes / 1024:.0f} KiB)", par=19)
