"""Every lesson once more, with the worked answer in every exercise: then all of it is done."""

from pathlib import Path

import nbformat
import pytest
from execute import run_lesson
from nbformat import NotebookNode
from project import ROOT
from test_exercises import LESSONS, exercises_of

from course_utils.exercises.engine import NOT_ATTEMPTED, NOT_YET


def solved(notebook: NotebookNode, lesson: str) -> NotebookNode:
    """Put the worked answers into a lesson's cells."""
    for exercise in exercises_of(lesson):
        first = "guess" if exercise.kind == "predict" else "check"
        for cell in notebook.cells:
            if cell.cell_type == "code" and f"exercise.{exercise.name}.{first}(" in cell.source:
                cell.source = exercise.worked + cell.source.removeprefix(exercise.stub)
    return notebook


def repeat_predictions(notebook: NotebookNode) -> None:
    """Append what settles each prediction: a reader comes back to it after the whole lesson has run."""
    settling = [cell for cell in notebook.cells if cell.cell_type == "code" and ".compare(" in cell.source]
    notebook.cells += [nbformat.v4.new_code_cell(cell.source, id=f"again-{cell.id}") for cell in settling]


def shown(notebook: NotebookNode) -> list[str]:
    """Return what exercises said, as plain text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data["text/plain"] for output in outputs if output.output_type == "display_data"]


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_solved_lesson_runs_and_is_all_done(
    lesson: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    notebook = solved(nbformat.read(path, as_version=4), lesson)
    repeat_predictions(notebook)
    texts = shown(run_lesson(notebook, path.parent).notebook)
    count = len(exercises_of(lesson))
    assert not [text for text in texts if NOT_ATTEMPTED in text or NOT_YET in text]
    assert any(f"Lesson {lesson}: {count} of {count} done, all." in text for text in texts)
