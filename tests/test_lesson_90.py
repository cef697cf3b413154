"""The reference of setup and tools: sources and dates; what it leaves off works when switched on."""

import re

import pytest
import torch
from authors import canonical

import course_utils
from course_utils.lessons import ROOT

PAGE = canonical.read(ROOT / "notebooks" / "90_setup_and_tools.ipynb")
TEXT = "\n\n".join(cell.source for cell in PAGE.cells if cell.cell_type == "markdown")
WHERE_TO_GET = TEXT.partition("## 8. Where to get a GPU")[2].partition("## What you can do now")[0]


def test_every_place_with_a_gpu_has_a_source_and_all_have_a_date_and_no_price() -> None:
    assert re.search(r"read on 20\d\d-\d\d-\d\d\b", WHERE_TO_GET)
    places = re.split(r"^### ", WHERE_TO_GET, flags=re.M)[1:]
    assert len(places) == 6
    assert all("](https://" in place for place in places)
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
    assert [name for name, good in works.items() if good] == ["P100", "GeForce GTX 10", "T4, GeForce RTX 20"]
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
