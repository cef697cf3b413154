"""The start page tells the truth about the other lessons; what it leaves off works when switched on."""

import re

import pytest
import torch
from authors import canonical, rules
from authors.lesson_code import lesson_code

import course_utils
from course_utils.lessons import ROOT, lesson_paths

PAGE = canonical.read(ROOT / "notebooks" / "00_start_here.ipynb")
TEXT = "\n\n".join(cell.source for cell in PAGE.cells if cell.cell_type == "markdown")
OTHERS = [path for path in lesson_paths() if path != ROOT / "notebooks" / "00_start_here.ipynb"]
HEADS = {path.stem: rules.HEAD.match(canonical.read(path).cells[0].source) for path in OTHERS}
ROW = re.compile(r"^\| \[(\d\d) (.+?)\]\((\w+)\.ipynb\) \| (about \d+ minutes) \| .+? \| ?(.*?) ?\|$", re.M)
WHERE_TO_GET = TEXT.partition("## 8. Where to get a GPU")[2].partition("## What you can do now")[0]


def test_the_map_has_every_lesson_with_its_title_and_time() -> None:
    listed = [(number, title, name, time) for number, title, name, time, _ in ROW.findall(TEXT)]
    assert listed == [(head["number"], head["title"], name, head["time"]) for name, head in HEADS.items()]


def prerequisites(number: str, builds_on: dict[str, str]) -> set[str]:
    earlier = builds_on.get(number)
    return set() if earlier is None else {earlier} | prerequisites(earlier, builds_on)


def test_table_and_drawing_agree_with_what_the_lessons_say_they_need() -> None:
    drawn = lesson_code("00_start_here", ["builds_on"])["builds_on"]
    assert {number: earlier for number, *_, earlier in ROW.findall(TEXT) if earlier} == drawn
    for head in HEADS.values():
        named = set(re.findall(r"\blesson (\d\d)\b", head["needs"]))
        assert named <= prerequisites(head["number"], drawn)
        assert bool(named) == (head["number"] in drawn)


def test_every_place_with_a_gpu_has_a_source_and_all_have_a_date() -> None:
    assert re.search(r"read on 20\d\d-\d\d-\d\d\b", WHERE_TO_GET)
    places = re.split(r"^### ", WHERE_TO_GET, flags=re.M)[1:]
    assert len(places) == 6
    assert all("](https://" in place for place in places)


def test_no_price_is_quoted() -> None:
    assert not re.search(r"[$€£]\s?\d|\d\s?(?:USD|EUR|dollars?|cents?)\b", TEXT)


def test_the_drawing_of_nvidia_smi_explains_every_letter_and_shows_no_figure() -> None:
    (drawing,) = re.findall(r"```\n(\+-.*?\+)\n```", TEXT, re.S)
    letters = "".join(re.findall(r"^\| ([A-N](?:, [A-N])*) \|", TEXT, re.M)).replace(", ", "")
    assert letters == "ABCDEFGHIJKLMN"
    assert all(re.search(rf"{letter}\b|\b{letter}", drawing) for letter in letters)
    assert not re.search(r"\d", drawing)
    assert len({len(line) for line in drawing.splitlines()}) == 1


def test_the_cards_are_judged_by_the_builds_own_list(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = [cell.source for cell in PAGE.cells if "_cuda_getArchFlags" in cell.source]
    fake = type("torch", (), {"_C": type("C", (), {"_cuda_getArchFlags": lambda: "sm_60 sm_75 compute_75"})})
    exec(source, {"torch": fake})
    works = {line[:26].strip(): line.endswith("  works") for line in capsys.readouterr().out.splitlines()[1:]}
    assert [name for name, good in works.items() if good] == ["P100", "T4"]
    exec(source, {"torch": type("torch", (), {"_C": object()})})
    assert all(line.endswith("  does not work") for line in capsys.readouterr().out.splitlines()[1:])


def test_the_monitor_runs_when_it_is_switched_on(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = [cell.source for cell in PAGE.cells if "WATCH = False" in cell.source]
    shown: list[object] = []
    with course_utils.virtual_gpus(1):
        names = {"course_utils": course_utils, "torch": torch, "device": torch.device("cuda", 0)}
        exec(source.replace("WATCH = False", "WATCH = True"), names | {"display": shown.append})
    assert "GPU 0, Virtual GPU (CPU): memory 0 to " in capsys.readouterr().out
    assert len(shown) == 1
