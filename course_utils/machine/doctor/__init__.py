"""The doctor: what this machine is, what stops its GPU, and what to do about it. Standard library only.

`inspection.py` collects facts, `rules.py` finds out what they mean, `findings.toml` has the words, `report.py`
puts them in order. PyTorch is started only in a process of its own (`probe.py`): the asking one stays as it is.
"""

import sys

from . import report
from .facts import Finding
from .inspection import collect

__all__ = ["Finding", "doctor", "examine", "main"]

HELP = """\
Usage: python3 -m course_utils doctor

Says what this machine is, what stops its GPU, and the one command or click that puts it right.
Installs and changes nothing. Exit code 0 where the course can run, on real or virtual GPUs; else 1.
"""
_PATIENCE = "Trying this machine, and its PyTorch in a process of its own: a few seconds ..."


def examine() -> list[Finding]:
    """Examine this machine; the last finding is the verdict, a "problem" where the course cannot run."""
    return report.judge(collect())


def doctor() -> None:
    """Print what this machine is, what stops its GPU, and what to do about it; changes nothing."""
    print(_PATIENCE, flush=True)
    print(report.text(examine()))


def main(arguments: list[str]) -> int:
    """Print the report; return 0 where the course can run, else 1."""
    if arguments:
        print(HELP, end="")
        return int(arguments[0] not in ("-h", "--help"))
    if sys.stderr.isatty():
        print(_PATIENCE, file=sys.stderr, flush=True)
    findings = examine()
    print(report.text(findings))
    return int(findings[-1].level == "problem")
