"""Code and notebooks keep the style that pyproject.toml sets."""

import subprocess
import sys

import pytest

from course_utils.lessons import ROOT


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["rules", "format"])
def test_ruff_finds_nothing(command: list[str]) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed; requirements.txt has it")
    found = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
