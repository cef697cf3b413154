"""How pytest runs the lessons: every cell compared with its stored output, twice over in one kernel.

The kernel is set up as by `python tools/notebooks.py run`, so what that command stores is what pytest finds.
"""

import os
from copy import deepcopy
from itertools import groupby

import nbval.kernel
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile
from project import SANITIZE_FILE

# Before anything imports torch. Where a core has other work, too, OpenMP's threads wait for each other in a
# loop that takes all the time there is: tests that took 49 s with one thread took 297 s with two.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer a single pass for an author in a hurry."""
    parser.addoption("--one-pass", action="store_true", help="run each lesson's cells once instead of twice")


def pytest_configure(config: pytest.Config) -> None:
    """Give nbval the patterns and the kernel environment, neither of which depends on the current folder."""
    config.option.nbval_sanitize_with = str(SANITIZE_FILE)
    start_new_kernel = nbval.kernel.start_new_kernel

    def start_course_kernel(**options: object) -> tuple:
        from execute import kernel_environment  # imported late: unit tests need no kernel

        return start_new_kernel(env=kernel_environment(), **options)

    nbval.kernel.start_new_kernel = start_course_kernel


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Append every lesson's cells again: a second run in the same kernel must print the same."""
    if config.option.one_pass:
        return
    twice = []
    for parent, group in groupby(items, key=lambda item: item.parent):
        cells = list(group)
        twice += cells
        if isinstance(parent, IPyNbFile):
            twice += [_again(cell) for cell in cells]
    items[:] = twice


def _again(item: IPyNbCell) -> IPyNbCell:
    return IPyNbCell.from_parent(
        item.parent,
        name=f"{item.name} again",
        cell_num=item.cell_num,
        cell=deepcopy(item.cell),  # nbval joins the stored streams in place when it compares
        options=item.options,
    )
