"""The exercises of lesson 04: sizes, averages, a run that resumes, and a faster epoch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from . import progress
from .engine import Score, close, exercise, myth, wrong
from .judging.averaging import judge_mean
from .judging.racing import judge_epoch, race
from .judging.repairing import judge_network
from .judging.resuming import judge_resume

summary = partial(progress.summary, "04")

big_data = myth(
    "big_data",
    "A GPU saves you from loading a big data set bit by bit.",
    "false",
    "The loader loads bit by bit, whatever the device, and a GPU mostly has less memory than its computer.",
    {
        "true": "Which object hands out 64 pictures at a time, and on which device are they when it does?",
        "outdated": "It never held. Streaming has always been the work of the loader, which runs on the CPU.",
    },
    __name__,
)

pinned = myth(
    "pinned",
    "`pin_memory=True` saves GPU memory.",
    "false",
    "Pinned memory is the computer's own memory; the copy on the GPU takes as much as ever.",
    {
        "true": "Which memory is pinned, the GPU's or the computer's?",
        "outdated": "It never held. Pinning is about where a batch lies before it is copied to the GPU.",
    },
    __name__,
)


@exercise(
    kind="predict",
    minutes=1,
    difficulty="medium",
    stub="exercise.rows_out.guess(...)",
    solution="exercise.rows_out.guess(196)",
    reasoning="25 pictures are 25 x 1176 = 29,400 numbers. view(-1, 150) makes 29,400 / 150 = 196 rows.",
    hints=(
        "How many numbers does the pool hand over for one picture? The last message has told you.",
        "view(-1, 150) makes rows of 150 from all numbers of the batch, whoever they belong to.",
    ),
    why="A view with -1 in front lets rows stop being pictures, and nothing is raised where it happens.",
    choices=(25, 150, 196, "an error"),
)
def rows_out(guess: Any, actual: int) -> None:
    """25 pictures go in: how many rows of scores come out?"""
    if guess == actual:
        return
    if guess == 25:
        wrong("same", "One row for each picture is what should come out. But which axis does the view fix?")
    if guess == 150:
        wrong("width", "150 is how long a row is. How many such rows do 25 x 1176 numbers make?")
    if isinstance(guess, str) and "error" in guess.lower():
        wrong("error", "64 x 1176 was no multiple of 150, hence the error. Is 25 x 1176 one?")
    wrong("other", "Divide all numbers of the batch by the length of a row.")


@exercise(
    kind="repair",
    minutes=8,
    difficulty="medium",
    stub="""
        class OneConv(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv1 = nn.Conv2d(3, 8, 3)
                self.pool = nn.MaxPool2d(2, 2)
                self.fc1 = nn.Linear(8 * 6 * 6, 10)

            def forward(self, x):
                x = self.pool(F.relu(self.conv1(x)))  # noqa: F821
                x = x.view(-1, 8 * 6 * 6)
                return self.fc1(x)
    """,
    solution="""
        class OneConv(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv1 = nn.Conv2d(3, 8, 3)
                self.pool = nn.MaxPool2d(2, 2)
                self.fc1 = nn.Linear(8 * 15 * 15, 10)

            def forward(self, x):
                x = self.pool(nn.functional.relu(self.conv1(x)))
                x = torch.flatten(x, 1)
                return self.fc1(x)
    """,
    reasoning="A 3 x 3 convolution turns 32 into 30, the pool 30 into 15. flatten(x, 1) keeps the batch.",
    hints=(
        "There are three mistakes: a name, a size, and the line that hides the size.",
        "Follow the side length: what do a 3 x 3 convolution without padding and then the pool make of 32?",
        "torch.flatten(x, 1) keeps axis 0, so a wrong size fails in the layer that has it.",
    ),
    why="A size is computed, not guessed, and with the batch's axis kept a wrong one fails where it is.",
)
def OneConv(answer: Any) -> None:
    """Repair the network: its one convolution, ten scores for each picture, no rows that belong to nobody."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        judge_network(answer if isinstance(answer, nn.Module) else answer())


@exercise(
    kind="predict",
    minutes=1,
    difficulty="easy",
    stub="exercise.first_loss.guess(...)",
    solution="exercise.first_loss.guess(2.3)",
    reasoning="It gives each of ten classes about the probability 1/10, and -ln(1/10) = ln(10) = 2.303.",
    hints=(
        "Which probability does a network that knows nothing give to the right one of ten classes?",
        "The loss is minus the natural logarithm of that probability: math.log.",
    ),
    why="The first loss is known before any training, so it checks model, labels and loss at once.",
    choices=(-2.3, 0, 0.1, 1, 2.3, 10),
)
def first_loss(guess: Any, actual: float) -> None:
    """What is the first loss of an untrained network, with ten classes?"""
    if not isinstance(guess, int | float):
        wrong("number", "Guess a number, such as 0.5.")
    if abs(guess - actual) < 0.15:
        return
    if abs(guess + actual) < 0.15:
        wrong(
            "sign", "Nearly: the logarithm of a probability is negative, so the loss puts a minus in front."
        )
    if guess == 0:
        wrong("zero", "A loss of 0 means the right class is given the probability 1, each time. Untrained?")
    if close(guess, 0.1) or close(guess, 0.9):
        wrong("probability", "That is a probability. The loss is minus its logarithm.")
    if guess == 1:
        wrong("log10", "That is the logarithm to base 10. The cross-entropy takes the natural one.")
    wrong("other", "Begin with the probability that it gives to the right one of ten classes.")


loader_mean = myth(
    "loader_mean",
    "`running_loss / len(loader)` is the mean loss of an epoch.",
    "false",
    "It is the mean of the batches' means, which counts a small last batch like a full one.",
    {
        "true": "It would be, if all batches were of one size. Is the last one?",
        "outdated": "It never held: every batch counts alike in it, however few samples it has.",
    },
    __name__,
)


@exercise(
    kind="write",
    minutes=8,
    difficulty="medium",
    stub='''
        def mean_loss(model, batches, criterion, device):
            """Return the mean loss over all samples of `batches`, a number."""
            return ...
    ''',
    solution="""
        @torch.inference_mode()
        def mean_loss(model, batches, criterion, device):
            loss_sum, samples = torch.zeros((), device=device), 0
            for x, y in batches:
                loss = criterion(model(x.to(device)), y.to(device))
                loss_sum += loss * len(y)
                samples += len(y)
            return loss_sum.item() / samples
    """,
    reasoning="criterion returns a batch's mean, so times len(y) it is a sum, and sums add up.",
    hints=(
        "criterion returns the mean over a batch. Which number turns it into the sum over that batch?",
        "Add up two things: the batches' sums, and how many samples you have seen.",
        "Divide once, at the end, by the samples you counted.",
    ),
    why="A number that changes with the batch size alone cannot tell one model from another.",
)
def mean_loss(answer: Callable[..., Any]) -> None:
    """Return the mean loss over all samples of the batches, as a number, whatever sizes the batches have."""
    with torch.random.fork_rng(devices=[]):
        judge_mean(answer)


@exercise(
    kind="write",
    minutes=10,
    difficulty="hard",
    stub='''
        def save_run(file, model, optimizer, schedule, shuffler):
            """Write everything the next loss depends on to the one file."""
            return ...


        def load_run(file, model, optimizer, schedule, shuffler):
            """Bring everything back to where it was, in the objects given."""
            return ...
    ''',
    solution="""
        def save_run(file, model, optimizer, schedule, shuffler):
            parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save(state | {"rng": torch.get_rng_state(), "shuffler": shuffler.get_state()}, file)


        def load_run(file, model, optimizer, schedule, shuffler):
            state = torch.load(file, map_location="cpu")
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            torch.set_rng_state(state["rng"])
            shuffler.set_state(state["shuffler"])
    """,
    reasoning="Five things decide the next loss: three state dicts and the states of two generators.",
    hints=(
        "List what the next loss depends on: weights, momentum, learning rate, and what is drawn at random.",
        "model, optimizer and schedule have state_dict() and load_state_dict().",
        "Dropout depends on torch.get_rng_state(), the order on shuffler.get_state(); both have a set_ twin.",
    ),
    why="A run that resumes exactly can be cut off at any time, and nobody can tell from its numbers.",
)
def resume(save_run: Callable[..., Any], load_run: Callable[..., Any]) -> None:
    """Write a function that saves a run to one file and one that brings it back, so that it ends the same."""
    with torch.random.fork_rng(devices=[]):
        for seed in (3, 40):
            judge_resume(save_run, load_run, seed)


@exercise(
    kind="predict",
    minutes=1,
    difficulty="easy",
    stub="exercise.set_size.guess(...)",
    solution="exercise.set_size.guess(146)",
    reasoning="50,000 x 32 x 32 x 3 numbers of one byte are 153.6 million bytes; by 2**20 that is 146 MiB.",
    hints=(
        "A picture has 32 x 32 pixels, a pixel three colours, and a uint8 number one byte.",
        "A MiB is 2**20 bytes, a little more than a million.",
    ),
    why="Whether data fits on a GPU is known from one multiplication, before anything is copied.",
    choices=(49, 146, 154, 586, 1172),
)
def set_size(guess: Any, actual: int) -> None:
    """How many MiB do all 50,000 training pictures take on the device, as uint8?"""
    if not isinstance(guess, int | float):
        wrong("number", "Guess a number of MiB, such as 30.")
    usual = {
        "float32": (4, "That is what they take as float32, with four bytes for each number. uint8 has one."),
        "float64": (8, "Eight bytes for each number? That is float64, or bits. uint8 takes one byte."),
        "colours": (1 / 3, "You have counted one number for each pixel. There are three colours."),
    }
    if abs(guess - actual) <= 3:
        return
    for key, (factor, hint) in usual.items():
        if abs(guess / actual - factor) < 0.06 * factor:
            wrong(key, hint)
    if abs(guess - actual * 2**20 / 1e6) <= 2:
        wrong("megabytes", "Nearly: these are megabytes, of a million bytes each. A MiB has 2**20.")
    wrong("other", "Multiply pictures, rows, columns and colours; then divide by 2**20.")


@exercise(
    kind="challenge",
    minutes=15,
    difficulty="hard",
    stub='''
        def faster_epoch(model, pictures, labels, criterion, optimizer):
            """Train on every picture once; return the mean loss."""
            return ...
    ''',
    solution="""
        def faster_epoch(model, pictures, labels, criterion, optimizer, batch_size=128):
            model.train().to(memory_format=torch.channels_last)
            device, samples, loss_sum = pictures.device, len(labels), 0.0
            order = torch.randperm(samples).to(device)
            shift = torch.randint(-2, 3, (samples, 2)).to(device)
            flip = (torch.rand(samples, 1) < 0.5).to(device)
            for start in range(0, samples, batch_size):
                part = slice(start, start + batch_size)
                batch = gather(pictures, order[part], shift[part], flip[part])
                batch = batch.float().sub_(127).div_(64).permute(0, 3, 1, 2)
                loss = criterion(model(batch), labels[order[part]])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.detach() * len(batch)
            return loss_sum.item() / samples
    """,
    reasoning="The fast loop of section 9 with batches of 128: half the steps, still enough to learn.",
    hints=(
        "Begin with train_epoch_fast: write down what it needs and this function is not given.",
        "Measure which part of your epoch takes longest: preparing the batches, or the model?",
        "Larger batches mean fewer steps. A larger learning rate can make up for some of them.",
    ),
    why="The same pictures, the same learning, in a fraction of the time: that is the speed that counts.",
)
def faster_epoch(answer: Callable[..., Any]) -> Score:
    """Train one epoch on uint8 pictures that lie on the model's device, and beat the lesson's first loop."""
    with torch.random.fork_rng(devices=[]):
        judge_epoch(answer)
        return Score(race(answer), "times as fast as the first loop", par=3.0, lower=False)
