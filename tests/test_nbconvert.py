"""A lesson run by Jupyter's own command, in the environment of a plain shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.lessons import ROOT

pytestmark = pytest.mark.slow


def test_nbconvert_executes_a_lesson_from_a_plain_shell(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COURSE_", "PYTEST"))}
    env["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, as where it is activated
    path = ROOT / "notebooks" / "00_start_here.ipynb"
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", path]
    done = subprocess.run(
        [*map(str, command), f"--output-dir={tmp_path}"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / path.name).read_text(encoding="utf-8"))["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
