"""GPUs for all tests of explain."""

from collections.abc import Iterator

import pytest
import torch

import course_utils


@pytest.fixture(autouse=True, scope="module")
def gpus() -> Iterator[None]:
    """Have GPUs: the machine's own, or virtual ones."""
    if torch.cuda.is_available():
        yield
    else:
        with course_utils.virtual_gpus(count=2):
            yield
