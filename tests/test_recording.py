"""Recording a card: nothing is recorded without a GPU, nothing is lost, and only whole records are read."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from authors import recording
from authors.lesson_code import lesson_code

import course_utils
from course_utils.machine.recorded import CASES, SCHEMA

FIGURES: dict[str, dict[str, Any]] = {
    "matmul": {"units": "seconds", "sizes": [16], "cpu": [[2e-6]], "gpu": [[1e-6]], "cpu_threads": 2},
}


@pytest.fixture
def settings(monkeypatch):
    """Put back what the lessons' code sets for its whole process."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    monkeypatch.setenv("COURSE_DATA", "standin")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    yield
    torch.set_num_threads(threads)
    cudnn.deterministic, cudnn.benchmark = deterministic, benchmark


def a_card(**changes: Any) -> dict[str, Any]:
    """A whole record, as the recording command would write it, with changes."""
    machine = {"torch": "2.15.0+cu132", "cuda": "13.2", "driver": "580.1", "compute_capability": "7.5"}
    part = {"status": "done", "date": "2026-11-21T10:00:00+00:00", "commit": None, "seconds": 1.0}
    card = {
        "schema": SCHEMA,
        "rehearsal": False,
        "card": "Tesla T4",
        "machine": machine | {"python": "3.12.3", "os": "Linux"},
        "parts": {case: part | {"figures": figures} for case, figures in FIGURES.items()},
    }
    return card | changes


def save(folder: Path, name: str, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def test_every_part_has_a_case_to_read_it():
    assert list(recording.PARTS) == list(CASES)


def test_without_a_gpu_it_refuses_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^PyTorch finds no CUDA GPU here"):
        recording.record(folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_rehearsal_needs_a_folder():
    with pytest.raises(ValueError, match="--rehearse needs --out FOLDER"):
        recording.record(rehearse=True)


def test_a_folder_that_cannot_be_written_shows_before_anything_is_measured(monkeypatch, tmp_path):
    save(tmp_path, "a-file", "")
    monkeypatch.setattr(recording, "run_part", lambda *_: pytest.fail("measured"))
    with pytest.raises(OSError, match="a-file"):
        recording.record(["matmul"], tmp_path / "a-file", rehearse=True)


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
def test_a_rehearsal_runs_every_part_and_is_no_record(monkeypatch, tmp_path):
    def run_here(part, file, rehearse):  # a Python for each part would take too long
        with course_utils.virtual_gpus(count=8, memory="2 GiB"):
            recording.run_part(part, file, recording.read(file))

    monkeypatch.setattr(recording, "run_apart", run_here)
    assert recording.record(folder=tmp_path, rehearse=True) == []
    (file,) = tmp_path.iterdir()
    card = json.loads(file.read_text(encoding="utf-8"))
    assert (card["card"], card["rehearsal"]) == ("virtual (rehearsal)", True)
    assert {name: part["status"] for name, part in card["parts"].items()} == dict.fromkeys(CASES, "done")
    for case, kinds in CASES.items():
        figures = card["parts"][case]["figures"]
        assert {name: type(figures[name]).__name__ for name in kinds} == kinds
    rungs = card["parts"]["ladder"]["figures"]["rungs"]
    assert " ".join(name.split()[0] for name in rungs) == "0 1 2 3 4 5 8a 8b 9 10 11 12 13 14 15"
    assert all(len(rung["seconds"]) == len(rung["accuracy"]) == 1 for rung in rungs.values())
    speedrun = card["parts"]["speedrun"]["figures"]
    assert len(speedrun["seconds"]) == len(speedrun["accuracy"]) == 2
    with pytest.warns(UserWarning, match=r"virtual-rehearsal\.json is skipped: it is from a rehearsal"):
        assert course_utils.records("matmul", tmp_path) == []
    card |= {"rehearsal": False}
    save(tmp_path, file.name, card)  # not even where its mark is taken away
    with pytest.warns(UserWarning, match="from a rehearsal"):
        assert course_utils.records("matmul", tmp_path) == []


@pytest.mark.usefixtures("settings")
def test_a_part_that_fails_keeps_what_it_had(monkeypatch, tmp_path):
    def breaks(figures, scale):
        figures["so far"] = [1.0]
        yield "one measurement"
        raise RuntimeError("the fan stopped")

    monkeypatch.setitem(recording.PARTS, "matmul", breaks)
    found = recording.record(["matmul"], tmp_path, rehearse=True)
    assert found == ["failed: matmul: RuntimeError: the fan stopped"]
    failed = recording.read(tmp_path / "virtual-rehearsal.json")["parts"]["matmul"]
    assert (failed["status"], failed["figures"]) == ("failed", {"so far": [1.0]})


@pytest.mark.usefixtures("settings")
def test_a_part_that_takes_its_process_with_it_has_failed_and_the_others_go_on(monkeypatch, tmp_path):
    file = tmp_path / "virtual-rehearsal.json"

    def child(command, **_):
        assert command[-2:] == [tmp_path, "--rehearse"]
        card = recording.read(file)
        card["parts"][command[4]] |= {
            "figures": {"rows": 3},
            "status": "failed" if "matmul" in command else "done",
        }
        recording.write(file, card)

    monkeypatch.setattr(recording.subprocess, "run", child)
    monkeypatch.setattr(recording, "commit", lambda: None)
    found = recording.record(["matmul", "clocks"], tmp_path, rehearse=True)
    assert found == [f"failed: matmul: {recording.UNFINISHED}"]
    parts = recording.read(file)["parts"]
    assert parts["clocks"]["status"] == "done"
    assert (parts["matmul"]["status"], parts["matmul"]["figures"]) == ("failed", {"rows": 3})


@pytest.mark.usefixtures("settings")
def test_a_second_recording_keeps_the_parts_it_does_not_run(monkeypatch, tmp_path):
    for part in ("matmul", "clocks"):
        monkeypatch.setitem(recording.PARTS, part, lambda *_: iter([""]))
        recording.record([part], tmp_path, rehearse=True)
    file = tmp_path / "virtual-rehearsal.json"
    card = recording.read(file)
    assert list(card["parts"]) == ["matmul", "clocks"]
    card["machine"]["torch"] = "1.0"  # recorded with other software: these figures do not belong together
    recording.write(file, card)
    recording.record(["clocks"], tmp_path, rehearse=True)
    assert list(recording.read(file)["parts"]) == ["clocks"]


def test_a_whole_record_is_read(tmp_path):
    save(tmp_path, "tesla-t4.json", a_card())
    (found,) = course_utils.records("matmul", tmp_path)
    assert found.label == "Tesla T4, torch 2.15.0, 2026-11-21"
    assert found.figures == FIGURES["matmul"]
    assert found.machine["driver"] == "580.1"
    assert course_utils.records("clocks", tmp_path) == []  # this card has not recorded that


def test_a_failed_part_is_no_record(tmp_path):
    card = a_card()
    for status in ("failed", "running"):
        card["parts"]["matmul"] |= {"status": status, "figures": {}}
        save(tmp_path, "tesla-t4.json", card)
        assert course_utils.records("matmul", tmp_path) == []


DAMAGED = {
    "half a file": (json.dumps(a_card())[:200], "Expecting|Unterminated"),
    "no object": ([1, 2], "not a record of schema 1"),
    "another schema": (a_card(schema=99), "not a record of schema 1"),
    "a rehearsal": (a_card(rehearsal=True), "it is from a rehearsal"),
    "no machine": (a_card(machine=None), "its machine or its parts are missing"),
    "no parts": (a_card(parts=None), "its parts are missing"),
    "no sizes": (
        a_card(parts={"matmul": a_card()["parts"]["matmul"] | {"figures": {"units": "s", "cpu_threads": 1}}}),
        "'matmul' lacks: sizes, cpu, gpu",
    ),
}


@pytest.mark.parametrize(("content", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_skipped_with_one_warning(content, reason, tmp_path):
    save(tmp_path, "a-damaged.json", content)
    save(tmp_path, "tesla-t4.json", a_card())
    with pytest.warns(UserWarning, match=reason) as caught:
        found = course_utils.records("matmul", tmp_path)
    assert [record.card for record in found] == ["Tesla T4"]
    assert len(caught) == 1
    assert str(caught[0].message).startswith("the record a-damaged.json is skipped: ")
    assert len(str(caught[0].message).splitlines()) == 1


def test_an_unknown_case_names_the_known_ones():
    with pytest.raises(ValueError, match=r"no case 'speed'\. The cases: matmul, clocks"):
        course_utils.records("speed")


def test_the_courses_own_records_are_whole(recwarn):
    for case in CASES:
        for found in course_utils.records(case):
            assert found.card
    assert not recwarn.list


def test_code_that_a_lesson_no_longer_has_is_named():
    with pytest.raises(LookupError, match="lesson 01_device_basics does not define: gallop"):
        lesson_code("01_device_basics", ["sweep", "gallop"])


def test_given_values_stand_in_for_the_lessons_own():
    code = lesson_code("01_device_basics", ["wait", "clock"], device=torch.device("cpu"))
    assert code["clock"](lambda: None, code["wait"]) >= 0
    assert "sizes" not in code


def test_a_name_that_is_bound_again_later_has_its_first_value(monkeypatch, tmp_path):
    cells = ["import math\nx, y = 1, math.pi", "if x:\n    z = x + 1\nelse:\n    w = 0", "x = 5\nz = 5"]
    notebook = {"cells": [{"cell_type": "code", "source": [cell]} for cell in cells]}
    (tmp_path / "notebooks").mkdir()
    save(tmp_path / "notebooks", "09_some.ipynb", notebook)
    monkeypatch.setattr("authors.lesson_code.ROOT", tmp_path)
    code = lesson_code("09_some", ["x", "z"])
    assert (code["x"], code["z"]) == (1, 2)


def test_a_lessons_settings_for_the_libraries_hold_for_its_code(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    lesson_code("06_memory_tricks", ["MIB"])
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
