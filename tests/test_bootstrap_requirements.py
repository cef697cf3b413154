"""One list of packages, exact and explained; everything else refers to it."""

import re
import tomllib

from packaging.requirements import Requirement

from course_utils.lessons import ROOT
from course_utils.machine.environment import requirements

LINES = requirements(ROOT)
PINS = dict(line.split("==") for line in LINES if line != "-e .")


def test_every_line_is_an_exact_version_with_a_reason() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"(-e \.|[a-z-]+==[\d.]+) +# \S.*", line) for line in listed), listed
    assert "-e ." in LINES


def test_nothing_asks_for_pynvml() -> None:
    assert "pynvml" not in PINS
    assert "nvidia-ml-py" in PINS


def test_the_package_is_content_with_the_pins_and_with_colab() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [Requirement(line) for line in project["dependencies"]]
    assert all(need.specifier.contains(PINS[need.name]) for need in needs)
    colab = {"torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128"}
    assert all(need.specifier.contains(colab[need.name]) for need in needs if need.name in colab)


def test_conda_installs_the_same_list() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "- -r requirements.txt" in text
    assert not [name for name in PINS if re.search(rf"^ *- {name}\b", text, re.M)]
