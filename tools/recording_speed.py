"""The parts of a recording that lesson 08 shows: its ladder, and the run of its file at full speed.

Each is a generator as in recording_cases.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from lesson_code import lesson_code
from recording_scale import DEVICE, Figures, Scale

import course_utils
from course_utils.distributed.scripts import speedrun as script
from course_utils.machine.timing import format_seconds

sys.path.append(str(Path(script.__file__).parent))  # the lesson imports the file it has taken home

PIECES = """LEARNING_RATE BATCH_SIZE torch.backends.cudnn.deterministic train_set test_set to_numbers
to_variants train_set.transform FirstNet train recipes enter climb from_loader waiting_step momentum numbers
one_look pictures test_pictures test_labels draws one_by_one gather at_once free_step half_type half scaler
loss_of half_step BASE compiled sizes Replay triangle plain_conv build conv norm fast_biases smooth
whitening whitened two_looks"""
RUNGS = """rung_0, rung_1, rung_2, rung_3, rung_4, rung_5, start fast compile_seconds rung_6, rung_7, rung_8a,
rung_8b, rung_9, rung_10, rung_11, rung_12, rung_13, rung_14, last recipes[name] rung_15"""


def ladder(figures: Figures, scale: Scale) -> Iterator[str]:
    """Climb lesson 08's ladder on all pictures: seconds of training and test accuracy at each rung."""
    name = "08_full_speed"
    train_size, test_size, epochs = scale.ladder
    given = {"device": DEVICE, "TRAIN_SIZE": train_size, "TEST_SIZE": test_size, "EPOCHS": epochs}
    lesson = lesson_code(name, PIECES.split(), **given)
    figures |= {"units": "seconds of training", "source": lesson["train_set"].source, "epochs": epochs}
    figures |= {"pictures": len(lesson["labels"]), "rungs": {}}
    for rung in map(str.split, RUNGS.split(",")):
        if rung[-1] in ("rung_6", "rung_7") and not scale.real:
            continue  # a virtual GPU has no CUDA graphs, and compiling takes long
        lesson = lesson_code(name, rung, **lesson)  # the pieces stay the same objects
        for done, (seconds, accuracy) in lesson["ladder"].items():
            if done not in figures["rungs"]:
                figures["rungs"][done] = {"seconds": [seconds], "accuracy": [accuracy]}
                yield f"{done}: accuracy {accuracy:.1%} in {format_seconds(seconds)}"


def speedrun(figures: Figures, scale: Scale) -> Iterator[str]:
    """Run lesson 08's file with several seeds; a first run starts CUDA and is not counted."""
    sets = course_utils.load_cifar10(train_size=scale.ladder[0], test_size=scale.ladder[1])
    data = [torch.as_tensor(part) for some in sets for part in (some.data, some.targets)]
    figures |= {"units": "seconds from the pictures in memory to the last test prediction"}
    figures |= {"source": sets[0].source, "recipe": scale.recipe, "accuracy": [], "seconds": []}
    torch.backends.cudnn.deterministic = False  # lesson 08's ladder may have set it in this process
    torch.backends.cudnn.benchmark = True
    script.speedrun(data, DEVICE, scale.recipe, -1)
    for seed in range(scale.seeds):
        accuracy, seconds = script.speedrun(data, DEVICE, scale.recipe, seed)
        figures["accuracy"].append(accuracy)
        figures["seconds"].append(seconds)
        yield f"seed {seed}: accuracy {accuracy:.2%} in {format_seconds(seconds)}"
