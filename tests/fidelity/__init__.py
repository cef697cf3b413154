"""The fidelity table: what PyTorch does on CUDA, call by call, and what virtual GPUs must do too.

Each row is a call and what real CUDA answers: a value, or an exception with its text. `test_fidelity.py`
runs every row against the real GPUs of this machine where there are any, and against the virtual GPUs where
there are none. `python -m tests.fidelity` prints the table.

Where the expectations come from. None was taken from the virtual GPUs. Every row was run on the CUDA
libraries of the wheels torch 2.11.0+cu130 and 2.15.0+cu132, over a CUDA runtime whose kernels do nothing:
device checks, error texts, dtype rules, the memory allocator and `nn.DataParallel` are PyTorch's own code
there. Rows about computed numbers compare with the same computation on the CPU instead.
"""

from . import (
    allocator,
    checkpoints,
    creating,
    devices,
    memory,
    mixed_precision,
    mixing,
    mixing_layers,
    moving,
    parallel,
    python_side,
    random_and_streams,
    training,
)
from .table import Raises, Row, evaluate, matches

TOPICS = (
    creating,
    moving,
    devices,
    mixing,
    mixing_layers,
    python_side,
    memory,
    allocator,
    training,
    mixed_precision,
    parallel,
    checkpoints,
    random_and_streams,
)
ROWS: list[Row] = [row for topic in TOPICS for row in topic.TABLE.rows]

__all__ = ["ROWS", "TOPICS", "Raises", "Row", "evaluate", "matches"]
