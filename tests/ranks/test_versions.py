"""Machines with different versions of PyTorch do not train together: every rank says so and stops.

Two that only pretend are among the stored runs, failing_runs.toml.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch

import course_utils

OTHER = os.environ.get("COURSE_COLAB_PYTHON", "")
AGENT = (
    "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id job --rdzv-endpoint 127.0.0.1:$PORT {} "
    "--epochs 1"
)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Path]:
    """A folder with train_ddp.py and data."""
    with chdir(tmp_path):
        course_utils.take_home("train_ddp.py")
        pictures, labels = torch.zeros(8, 32, 32, 3, dtype=torch.uint8), torch.zeros(8, dtype=torch.long)
        sets = {"pictures": pictures, "labels": labels}
        torch.save(sets | {f"test_{name}": tensor for name, tensor in sets.items()}, "pictures.pt")
        yield tmp_path


@pytest.mark.slow
@pytest.mark.skipif(not OTHER, reason="set COURSE_COLAB_PYTHON to a Python that has another PyTorch")
def test_two_versions_for_real(training: Path) -> None:
    ask = [OTHER, "-c", "import torch; print(torch.__version__)"]
    theirs = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    commands = [AGENT.format(f'--no-python "{python}" train_ddp.py') for python in (sys.executable, OTHER)]
    result = course_utils.torchrun(*commands)
    if theirs == torch.__version__:
        assert result.ok
    else:
        assert "The processes differ: " in result.error
        assert theirs in result.error
        assert torch.__version__ in result.error
