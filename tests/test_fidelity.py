"""Every row of the fidelity table, on real GPUs where this machine has them, else on virtual ones."""

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fidelity import ROWS, Raises, Row, evaluate, matches
from fidelity.gaps import GAPS, gap_of
from fidelity.random_and_streams import DEVICE_SIDE_ASSERT

import course_utils

REAL = torch.cuda.is_available() and os.environ.get("COURSE_DEVICE", "auto") in ("auto", "real")

OUT_OF_RANGE = """
import contextlib, os, sys
import course_utils, torch
gpus = contextlib.nullcontext() if {real} else course_utils.virtual_gpus(count=8)
with gpus:
    scores, other = torch.ones(2, 3, device="cuda"), torch.ones(2, device="cuda")
    for call in (
        lambda: torch.nn.functional.cross_entropy(scores, torch.tensor([0, 3]).cuda()).item(),
        lambda: (other + 1).tolist(),
    ):
        try:
            call()
            print("no error", end="\\0")
        except Exception as error:
            print(type(error).__name__, str(error), sep=":", end="\\0")
sys.stdout.flush()
os._exit(0)  # a poisoned CUDA may abort at a normal exit
"""


@pytest.fixture(scope="module")
def gpus() -> Iterator[None]:
    """Have GPUs: the machine's own, or eight virtual ones of 2 GiB."""
    if REAL:
        yield
    else:
        with course_utils.virtual_gpus(count=8, memory="2 GiB"):
            yield


@pytest.fixture
def fresh(gpus: None) -> Iterator[None]:
    """Run a row with device 0 current and the seed 0, and put the default device back after it."""
    torch.cuda.init()
    torch.manual_seed(0)
    gc.disable()  # or tensors that an earlier row's error held may go while this row counts bytes
    yield
    gc.enable()
    torch.set_default_device(None)
    torch.cuda.set_device(0)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.topic}: {row.call}")
def test_row(row: Row, request: pytest.FixtureRequest) -> None:
    if row.gpus > torch.cuda.device_count():
        pytest.skip(f"needs {row.gpus} GPUs, this machine has {torch.cuda.device_count()}")
    if not REAL and (reason := gap_of(row.call)):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = evaluate(row)
    except Exception as error:
        outcome = error
        if not isinstance(row.expect, Raises):
            raise
    assert matches(row, outcome), f"expected {row.expect}\ngot {type(outcome).__name__}: {outcome}"


def test_label_out_of_range_poisons_the_process() -> None:
    """A label outside the classes: a device-side assert, and afterwards every call fails until a restart."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_RANGE.format(real=REAL)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    name, text = DEVICE_SIDE_ASSERT.kind.__name__, DEVICE_SIDE_ASSERT
    for line in done.stdout.split("\0")[:2]:
        kind, _, message = line.partition(":")
        assert kind == name
        assert matches(Row("", "", text), torch.AcceleratorError(message))


def test_the_table_is_large_and_without_doubles() -> None:
    calls = [row.call for row in ROWS]
    assert len(calls) == len(set(calls))
    assert len(calls) > 600
    assert set(GAPS) <= set(calls)
