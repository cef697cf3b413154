"""How pytest runs the course: each lesson's cells (tests/lesson_cells.py), on all cores, the longest first.

The kernels are set up as by `python tools/authors run`, so what that stores is what pytest finds.
"""

import os
import re
from collections.abc import Generator
from pathlib import Path

import nbval.kernel
import pytest
from authors.canonical import SANITIZE_FILE
from lesson_cells import Lesson
from nbval.plugin import IPyNbFile
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from course_utils.lessons import ROOT

# Before anything imports torch. Where a core has other work, too, OpenMP's threads wait for each other in a
# loop that takes all the time there is: tests that took 49 s with one thread took 297 s with two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["garbage"]
collect_ignore_glob = ["notebooks/*.py"]  # what lessons write there, tests among it

# The files that take longest, so that no core is left waiting for one of them in the end
LONGEST = (
    "tests/test_colab_lessons.py",
    "tests/browser/",
    "notebooks/08",
    "notebooks/07",
    "notebooks/10",
    "notebooks/",
    "tests/test_exercises.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer less for an author in a hurry, and more for the night."""
    parser.addoption("--one-pass", action="store_true", help="run lessons without their solved pass")
    parser.addoption("--everything", action="store_true", help="every lesson everywhere, for the night")


def pytest_configure(config: pytest.Config) -> None:
    """Give nbval the patterns and the kernel environment, neither of which depends on the current folder."""
    config.option.nbval_sanitize_with = str(SANITIZE_FILE)
    start_new_kernel = nbval.kernel.start_new_kernel

    def start_course_kernel(**options: object) -> tuple:
        from start.runner import repeatable_environment  # imported late: unit tests need no kernel

        return start_new_kernel(env=repeatable_environment(), **options)

    nbval.kernel.start_new_kernel = start_course_kernel


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All cores for folders; for single files, and on one core, no other process."""
    cores = os.cpu_count() or 1
    files = any(Path(name.partition("::")[0]).suffix for name in config.args)
    return 0 if files or cores == 1 else cores


class ByFileOrLesson(LoadFileScheduling):
    """A file's tests go to one core; of the exercises' file a lesson's, and all that share a browser."""

    def _split_scope(self, nodeid: str) -> str:
        together = re.search(r"test_exercises\.py.*\[(\d\d)-|tests/(browser)/", nodeid)
        return together[together.lastindex] if together else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Take this scheduler where files are to stay together."""
    return ByFileOrLesson(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, list, list]:
    """Make a lesson of a notebook."""
    found = yield
    return [Lesson.from_parent(parent, path=file_path) if type(each) is IPyNbFile else each for each in found]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark lessons as slow, and begin with the longest files."""
    for item in items:
        if isinstance(item.parent, IPyNbFile):
            item.add_marker("slow")
    items.sort(key=lambda item: _place(item.path))


def _place(path: Path) -> int:
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return next((place for place, start in enumerate(LONGEST) if name.startswith(start)), len(LONGEST))
