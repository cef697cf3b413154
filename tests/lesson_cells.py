"""A lesson under pytest: every cell as the reader gets it, then with the exercises solved, in one kernel.

Outputs are compared strictly with those in notebooks/executed, whichever of a lesson's two files is named.
In the second pass they stay the same, but for what exercises say: they must have nothing left to ask for; by
day, without --everything, it does not repeat what takes longest. A cell whose output comes from the reader's
own function carries the tag `uses-answer`, and a reason. Where float32 training makes much of how a CPU
rounds, the tag `close-numbers` lets numbers differ a little.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from math import isclose

from authors import canonical
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile
from start import runner

from course_utils.lessons import with_results

PATIENCE = 60  # seconds for the rest of an output, where the machine has other work
NUMBER = re.compile(r"\d+\.\d+")
CLOSE = 0.1  # relative; seen between two kinds of CPU: up to 0.04
# What takes long, hears of no answer, and leaves what the cells after it need: by day it is not run again.
AT_NIGHT = {
    "00_start_here": ("part-2-what-machine-is-this-2",),
    "01_device_basics": ("part-2-what-does-pytorch-see-6", "exercise-is-available-enough-4"),
    "03_cross_device_error": ("when-the-message-points-at-the-wrong-2",),
    "04_cifar_training_loop": ("rungs", "train-fast"),
    "05_data_parallel": (
        "part-4-the-training-loop-of-lesson-04-on-1-2-3",
        "part-5-where-to-go-from-here-one-process-per-5",
    ),
    "06_memory_tricks": (
        "all-levers-two-models-5",
        "part-5-will-it-fit-a-prediction-4",
        "part-5-will-it-fit-a-prediction-6",
    ),
    "07_beyond_one_process": (
        "exercise-only-rank-0-needs-it-3",
        "the-same-training-5",
        "the-same-training-6",
        "part-5-gradients-are-averaged-in-backward-4",
        "part-7-a-worker-dies-3",
        "part-8-when-it-does-not-start-8",
        "part-11-when-the-model-no-longer-fits-5",
    ),
    "08_full_speed": ("exercise-compile-everything-4", "part-8-the-end-of-the-ladder-9"),
    "10_your_own_code": (
        "works-run",
        "on-eight-run",
        "read-run",
        "fit-run",
        "fit-run-2",
        "ranks-run",
        "test-run",
    ),
    "90_setup_and_tools": ("part-2-what-machine-is-this-5",),
}
LONG = 7  # characters of a number that is the same by chance in no other place


class LessonCell(IPyNbCell):
    """A code cell as it stands in the lesson."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.output_timeout = PATIENCE

    def compare_outputs(self, test: list, ref: list, skip_compare: tuple | None = None) -> bool:
        """Compare strictly; in cells tagged so, and on another kind of CPU, close numbers are as good."""
        if "close-numbers" in self.cell.metadata.get("tags", []) or not runner.X86:
            test = with_close_numbers(test, ref)
        return super().compare_outputs(test, ref, skip_compare)


class SolvedCell(LessonCell):
    """A code cell of the second pass; exercises have their worked answers in it."""

    strict = True  # besides what exercises say

    def compare_outputs(self, test: list, ref: list, skip_compare: tuple | None = None) -> bool:
        """Compare what is not an exercise's own, and hold that every exercise is content."""
        said = "\n".join(output["data"]["text/plain"] for output in test if is_verdict(output))
        complaints = [words for words in unsolved(self.cell.source) if words in said]
        if complaints:
            self.comparison_traceback = [f"{complaints[0]!r} although every exercise is solved:\n{said}"]
            return False
        depends = ".check(" in self.cell.source or "uses-answer" in self.cell.metadata.get("tags", [])
        if depends or not self.strict:
            return True
        test, ref = ([output for output in outputs if not is_verdict(output)] for outputs in (test, ref))
        return super().compare_outputs(test, ref, skip_compare)


class SettledCell(SolvedCell):
    """A code cell that settles a prediction, run once more where the lesson has ended and left its traces."""

    strict = False


def with_close_numbers(test: list, ref: list) -> list:
    """Outputs with each number replaced by the stored one in its place, where the two are close."""
    result = deepcopy(test)
    for output, stored in zip(result, ref, strict=False):
        shown, wanted = (each if "text" in each else each.get("data", {}) for each in (output, stored))
        for kind in {"text", "text/plain", "text/html"} & shown.keys() & wanted.keys():
            shown[kind] = with_numbers_of(wanted[kind], shown[kind])
    return result


def with_numbers_of(stored: str, text: str) -> str:
    """`text` with the numbers of `stored`, if all are close to its own.

    Long numbers that are the same in the stored text must be the same here.
    """
    found, wanted = NUMBER.findall(text), NUMBER.findall(stored)
    pairs = set(zip(found, wanted, strict=False))
    long = [pair for pair in pairs if len(pair[1]) > LONG]
    close = all(isclose(float(one), float(other), rel_tol=CLOSE) for one, other in pairs)
    if not close or len(found) != len(wanted) or len(long) > len({other for _, other in long}):
        return text
    numbers = iter(wanted)
    return NUMBER.sub(lambda _: next(numbers), text)


class Lesson(IPyNbFile):
    """A notebook of the course. `--one-pass` leaves the second pass out."""

    def collect(self) -> Iterator[IPyNbCell]:
        """Yield the cells of the first pass, then those of the second."""
        stored = stored_outputs(self)
        cells = []
        for item in super().collect():
            cell = stored.get((item.cell["id"], item.cell.source), item.cell)
            cell.execution_count = cell.execution_count or 0  # nbval compares no cell without a number
            cells.append({"cell_num": item.cell_num, "cell": cell, "options": item.options})
            yield LessonCell.from_parent(self, name=item.name, **cells[-1])
        if not self.config.option.one_pass:
            yield from second_pass(self, cells)


def stored_outputs(lesson: Lesson) -> dict[tuple[str, str], NotebookNode]:
    """The cells that have outputs, by id and code: of the executed file, which may be the lesson's own."""
    cells = canonical.read(with_results(lesson.path)).cells
    return {(cell.id, cell.source): cell for cell in cells if cell.cell_type == "code"}


def second_pass(lesson: Lesson, cells: list[dict]) -> Iterator[SolvedCell]:
    """The cells with every exercise solved; then once more what settles a prediction.

    A reader comes back to that after the whole lesson has run.
    """
    again = [deepcopy(cell) for cell in cells]
    solve([cell["cell"] for cell in again], lesson.path.name[:2])
    later = () if lesson.config.option.everything else AT_NIGHT.get(lesson.path.stem, ())
    assert {cell["cell"].id for cell in again}.issuperset(later), f"AT_NIGHT: no such cell in {lesson.path}"
    for cell in [cell for cell in again if cell["cell"].id not in later]:
        yield SolvedCell.from_parent(lesson, name=f"Cell {cell['cell_num']} solved", **cell)
    for cell in deepcopy(again):
        if ".compare(" in cell["cell"].source:
            yield SettledCell.from_parent(lesson, name=f"Cell {cell['cell_num']} later", **cell)


def solve(cells: list[NotebookNode], lesson: str) -> None:
    """Put the worked answers into the cells of a lesson."""
    if not any("exercise." in cell.source for cell in cells):
        return  # without exercises nothing needs to be imported
    from exercise_cases import exercises_of

    for exercise in exercises_of(lesson):
        first = "guess" if exercise.kind == "predict" else "check"
        for cell in cells:
            if f"exercise.{exercise.name}.{first}(" in cell.source:
                cell.source = exercise.worked + cell.source.removeprefix(exercise.stub)


def is_verdict(output: NotebookNode) -> bool:
    """Tell whether an output is a box in which an exercise speaks."""
    from course_utils.exercises.showing import BOX

    return BOX in output.get("data", {}).get("text/html", "")


def unsolved(source: str) -> list[str]:
    """What no exercise says in a solved cell with this source."""
    from course_utils.exercises.exercise import NOT_ATTEMPTED, NOT_YET

    return [NOT_ATTEMPTED, NOT_YET, "No guess was made", *(["[ ]"] if "exercise.summary(" in source else [])]
