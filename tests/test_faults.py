"""The list of deliberate faults fits the course, and its tool tells what is found from what is not."""

from pathlib import Path

import pytest
from authors import faults
from authors.faults import Fault

from course_utils.lessons import ROOT


def test_there_are_many_and_each_has_its_name() -> None:
    assert len({fault.name for fault in faults.FAULTS}) == len(faults.FAULTS) >= 25


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_the_course(fault: Fault) -> None:
    assert fault.broken(ROOT) != (ROOT / fault.file).read_text(encoding="utf-8")
    assert fault.tests
    for file, _, test in (name.partition("::") for name in fault.tests):
        assert (ROOT / file).exists()
        assert not test or f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")


TESTS = """
import thing
def test_x(): assert thing.x == 1
"""


@pytest.mark.slow
@pytest.mark.parametrize(("old", "found"), [("x = 1", True), ("z = 3", False)])
def test_what_finds_a_fault_is_told(old: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text("x = 1\nz = 3\n", encoding="utf-8")
    (tmp_path / "test_thing.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n", encoding="utf-8")
    fault = Fault("one", "thing.py", old, f"{old[0]} = 9", ["test_thing.py"])
    assert faults.is_found(fault, tmp_path) is found
    assert "9" not in (tmp_path / "thing.py").read_text(encoding="utf-8")


def test_a_fault_that_no_longer_fits_is_named(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"one: 'y' stands 0 times in thing\.py"):
        Fault("one", "thing.py", "y", "", []).broken(tmp_path)
