"""The canonical form and the common rules: held by every lesson, and each rule seen to catch its mistake."""

from pathlib import Path

import nbformat
import pytest
from authors import canonical, notebooks, rules
from nbformat import NotebookNode

from course_utils.lessons import CourseError, executed, lesson_paths


@pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)
def test_lesson_keeps_form_and_rules(path: Path) -> None:
    assert notebooks.check(path) == []


def write(notebook: NotebookNode, folder: Path, name: str = "01_first") -> Path:
    path = folder / f"{name}.ipynb"
    canonical.write(canonical.both_files(path, notebook, notebook))
    return path


def test_a_good_lesson_has_no_problem(small_lesson: NotebookNode, tmp_path: Path) -> None:
    assert notebooks.check(write(small_lesson, tmp_path)) == []


def test_setup_cell_is_short_and_names_the_lesson(small_lesson: NotebookNode) -> None:
    setup = small_lesson.cells[1].source
    assert len(setup.splitlines()) <= rules.CODE_LINES
    assert setup.endswith('device = course_utils.start("01_first")')


# --- the byte form ---


def add_noise(notebook: NotebookNode) -> None:
    """What JupyterLab, Colab and nbclient leave behind."""
    notebook.metadata.language_info.version = "3.11.7"
    notebook.metadata.widgets = {"state": {}}
    notebook.metadata.colab.authorship_tag = "ABX9"
    cell = notebook.cells[3]
    cell.metadata.execution = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
    cell.metadata.outputId = "4f3c"
    cell.outputs.append(nbformat.v4.new_output("stream", text="3\n"))


def test_fix_removes_noise_and_is_stable(small_lesson: NotebookNode, tmp_path: Path) -> None:
    path = write(small_lesson, tmp_path)
    clean = path.read_bytes()
    add_noise(small_lesson)
    path.write_text(nbformat.writes(small_lesson), encoding="utf-8")
    assert notebooks.check(path)[0].startswith("01_first.ipynb: not as `fix` writes it")
    assert notebooks.fix(path) == []
    assert path.read_bytes() == clean


def test_a_lesson_that_tells_answers_is_named_and_mended(small_lesson: NotebookNode, tmp_path: Path) -> None:
    path = write(small_lesson, tmp_path)
    told = canonical.read(path)
    told.cells[3].outputs = [stream("2\n")]
    path.write_text(canonical.to_text(told), encoding="utf-8")
    assert notebooks.check(path)[0].startswith("01_first.ipynb: not as `fix` writes it")
    assert notebooks.fix(path) == []
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in canonical.read(path).cells)


@pytest.mark.parametrize("what", ["source", "metadata", "id", "no file"])
def test_the_executed_file_differs_in_outputs_alone(
    what: str, small_lesson: NotebookNode, tmp_path: Path
) -> None:
    path = write(small_lesson, tmp_path)
    if what == "no file":
        executed(path).unlink()
    else:
        stored = canonical.read(executed(path))
        stored.cells[2][what] = {"tags": ["remove-input"]} if what == "metadata" else "other"
        executed(path).write_text(canonical.to_text(stored), encoding="utf-8")
    problem = "executed/01_first.ipynb: not the cells of the lesson, as `fix` writes them;"
    assert any(found.startswith(problem) for found in notebooks.check(path))


def test_only_changed_code_loses_its_outputs(small_lesson: NotebookNode, tmp_path: Path) -> None:
    path = write(small_lesson, tmp_path)
    lesson_only = canonical.read(path)
    lesson_only.cells[2].source += "\n\nOne word more."
    lesson_only.cells[3].source = "print(1 + 2)"
    path.write_text(canonical.to_text(lesson_only), encoding="utf-8")
    assert [found for found in notebooks.fix(path) if "has not been run" in found]
    stored = canonical.read(executed(path))
    assert stored.cells[2].source.endswith("One word more.")
    assert (stored.cells[1].execution_count, stored.cells[3].outputs) == (1, [])


def test_outputs_keep_their_order_around_a_picture(small_lesson: NotebookNode) -> None:
    new = nbformat.v4.new_output
    picture = new("display_data", data={"image/png": "aGk=", "text/plain": "<Figure>"}, metadata={"needs": 1})
    small_lesson.cells[3].outputs = [
        new("stream", text="a\n"),
        new("stream", text="b\n"),
        picture,
        new("stream", text="c\n"),
    ]
    outputs = canonical.canonical(small_lesson).cells[3].outputs
    assert [output.get("text", "picture") for output in outputs] == ["a\nb\n", "picture", "c\n"]
    assert outputs[1].metadata == {}


def test_code_that_teaches_nothing_is_folded(small_lesson: NotebookNode) -> None:
    small_lesson.cells[3].metadata = {"tags": ["remove-input"], "jupyter": {"outputs_hidden": True}}
    cells = canonical.canonical(small_lesson).cells
    assert cells[3].metadata["jupyter"] == {"source_hidden": True}
    assert not any("jupyter" in cell.metadata for cell in cells[:3])


def test_widget_views_go_and_their_text_stays(small_lesson: NotebookNode) -> None:
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "0/10"}
    small_lesson.cells[3].outputs = [nbformat.v4.new_output("display_data", data=data)]
    assert canonical.canonical(small_lesson).cells[3].outputs[0].data == {"text/plain": "0/10"}


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("<object at 0x7f0a1b2c3d4e>", "<object at 0x...>"),
        ("0xff is 255", "0xff is 255"),
        (
            "\x1b[32m~/env/lib/python3.11/site-packages/torch/a.py:1\x1b[39m",
            "\x1b[32msite-packages/torch/a.py:1\x1b[39m",
        ),
        ("File C:\\Users\\me\\env\\Lib\\site-packages\\torch\\a.py", "File site-packages/torch\\a.py"),
        ("File /home/me/course/course_utils/machine/timing.py:3", "File course_utils/machine/timing.py:3"),
        ("\x1b[32m/usr/lib/python3.13/json/decoder.py:9", "\x1b[32mpython3/json/decoder.py:9"),
        ("/tmp/ipykernel_12/34.py:1: UserWarning", "<cell>:1: UserWarning"),
    ],
)
def test_scrub(raw: str, clean: str) -> None:
    assert canonical.scrub(raw) == clean
    assert canonical.scrub(clean) == clean


def test_cells_without_an_id_get_one(small_lesson: NotebookNode) -> None:
    kept = [cell.pop("id") for cell in small_lesson.cells]
    small_lesson.nbformat_minor = 0  # as Colab saves it
    assert len({cell.id for cell in canonical.canonical(small_lesson).cells}) == len(kept)


def test_a_count_is_the_place_of_a_cell_that_was_run(small_lesson: NotebookNode) -> None:
    small_lesson.cells[1].execution_count, small_lesson.cells[3].execution_count = None, 12
    cells = canonical.canonical(small_lesson).cells
    assert (cells[1].execution_count, cells[3].execution_count) == (None, 2)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "01_first.ipynb").write_text('{"cells": [', encoding="utf-8")
    with pytest.raises(CourseError, match=r"^01_first\.ipynb is not a readable notebook"):
        notebooks.check(tmp_path / "01_first.ipynb")


# --- the rules ---


def code(source: str, outputs: tuple = (), **metadata: object) -> NotebookNode:
    return nbformat.v4.new_code_cell(source, execution_count=3, outputs=list(outputs), metadata=metadata)


def stream(text: str) -> NotebookNode:
    return nbformat.v4.new_output("stream", text=text)


ERROR = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
PICTURE = nbformat.v4.new_output(
    "display_data", data={"image/png": "A" * 220_000}, metadata={"image/png": {"alt": "much"}}
)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (code("x = 1", tags=["nbval-ignore-outputs"]), "tag 'nbval-ignore-outputs' is not one of"),
        (code("x = 1", tags=["nbval-ignore-output"]), "tag 'nbval-ignore-output' needs a reason"),
        (code("x = 1", tags=["nbval-skip"], reason="time"), "tag 'nbval-skip' needs a reason"),
        (code("\n".join(f"x{n} = {n}" for n in range(16))), "16 lines: more than 15 need the tag 'long-"),
        (code("x = 1", tags=["long-cell"], reason="one loop in one piece"), "1 lines: more than 15 need"),
        (code("  \n"), "is empty"),
        (code("1/0", [ERROR]), "must show an error if, and only if, it is tagged 'raises-exception'"),
        (code("1/1", tags=["raises-exception"]), "must show an error if, and only if"),
        (code("show()", [PICTURE, stream("so much")]), "a picture of 165 kB, at most 150 kB"),
        (code("here()", [stream("/home/me/data")]), "the output shows a path of this machine: '/home/me"),
        (code("here()", [stream("C:\\Users\\me")]), "the output shows a path of this machine: 'C:"),
        (nbformat.v4.new_code_cell("x = 1"), "has not been run"),
    ],
)
def test_a_broken_rule_is_named(cell: NotebookNode, problem: str, small_lesson: NotebookNode) -> None:
    small_lesson.cells.append(cell)
    found = rules.problems(canonical.canonical(small_lesson), Path("01_first.ipynb"))
    assert len(found) == 1, found
    assert f"cell {cell.source.strip(chr(10))[:40]!r}: {problem}" in found[0]


def test_exempt_cells_with_a_reason_are_accepted(small_lesson: NotebookNode) -> None:
    tags = ["nbval-ignore-output", "long-cell"]
    small_lesson.cells.append(code("x = 1\n" * 16, tags=tags, reason="times differ from run to run"))
    assert rules.problems(canonical.canonical(small_lesson), Path("01_first.ipynb")) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("**Time:** about 20 minutes.", "**Time:** a while.", "does not follow the skeleton"),
        ("the reader can do.", "the reader can do", "does not follow the skeleton"),
        ("# Lesson 01: First", "# Lesson 1: First", "does not follow the skeleton"),
        ("# Lesson 01: First", "# Lesson 02: First", "the title says lesson 02"),
    ],
)
def test_a_wrong_head_is_named(old: str, new: str, problem: str, small_lesson: NotebookNode) -> None:
    assert old in small_lesson.cells[0].source
    small_lesson.cells[0].source = small_lesson.cells[0].source.replace(old, new)
    (found,) = rules.problems(small_lesson, Path("01_first.ipynb"))
    assert problem in found


@pytest.mark.parametrize(
    ("cell", "old", "new"), [(1, "import os", "import json"), (0, "01_first", "02_second")]
)
def test_an_edited_setup_cell_and_another_lessons_badge_are_named_and_fixed(
    cell: int, old: str, new: str, small_lesson: NotebookNode, tmp_path: Path
) -> None:
    small_lesson.cells[cell].source = small_lesson.cells[cell].source.replace(old, new)
    path = write(small_lesson, tmp_path)
    assert "01_first.ipynb: not as `fix` writes it (form, badge, setup cell" in notebooks.check(path)[0]
    assert notebooks.fix(path) == []


# --- headings, heights, pictures ---


def markdown(source: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source)


SMALL = nbformat.v4.new_output("display_data", data={"image/png": "aGk="})
SMALL_WITH_ALT = nbformat.v4.new_output(
    "display_data", data={"image/png": "aGk="}, metadata={"image/png": {"alt": "a bar"}}
)


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([markdown("# Another title")], "needs exactly one heading with a single #, the title"),
        ([markdown("### One"), markdown("### One")], "heading 'One' comes twice"),
        ([markdown("## Subtracting")], "section 'Subtracting' must begin with its number, 2."),
        ([markdown("## 3. Subtracting")], "section '3. Subtracting' must begin with its number, 2."),
        ([markdown("## Your turn"), markdown("## 2. Subtracting")], "the sections 'Your turn' and 'What"),
        ([markdown("A line.\n\n" * 20)], "about 28 lines on a slide"),
        ([code("plot()", [SMALL]), markdown("It rises.")], "a picture has no alternative text"),
    ],
)
def test_an_uncomfortable_lesson_is_named(
    cells: list[NotebookNode], problem: str, small_lesson: NotebookNode
) -> None:
    small_lesson.cells += cells
    (found,) = rules.problems(small_lesson, Path("01_first.ipynb"))
    assert problem in found


@pytest.mark.parametrize(
    "cells",
    [
        [markdown("### Below"), markdown("## 2. Next\n\n### Below it"), markdown("## What you can do now")],
        [markdown("```\n# a comment\n```")],
        [code("plot()", [SMALL_WITH_ALT])],
    ],
)
def test_a_comfortable_lesson_has_no_problem(cells: list[NotebookNode], small_lesson: NotebookNode) -> None:
    small_lesson.cells += cells
    assert rules.problems(small_lesson, Path("01_first.ipynb")) == []


def test_a_long_cell_that_says_nothing_is_marked(
    small_lesson: NotebookNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sources = {"silent": "work()", "bar": "for x in tqdm(y): work(x)", "line": 'print("takes 5 seconds")'}
    small_lesson.cells += [nbformat.v4.new_code_cell(source, id=name) for name, source in sources.items()]
    seconds = {"setup": 1.9} | dict.fromkeys(sources, 2.1)
    monkeypatch.setattr(notebooks, "execute", lambda *_, **__: None)
    monkeypatch.setattr(notebooks, "seconds", lambda cell: seconds.get(cell.id, 0))
    notebooks.run(write(small_lesson, tmp_path))
    marked = [line for line in capsys.readouterr().out.splitlines() if "<- over two seconds" in line]
    assert marked == ["    2.10 s  work()  <- over two seconds without a bar"]
