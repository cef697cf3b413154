"""The doctor: what this machine is, what stops its GPU, and what to do about it. Standard library only.

`inspection.py` collects facts, `rules.py` finds out what they mean, `findings.toml` has the words. PyTorch is
started only in a process of its own (`probe.py`): the asking one stays as it is.
"""

import sys
import textwrap

from .facts import Finding
from .findings import TABLES
from .inspection import collect
from .rules import judge

__all__ = ["Finding", "doctor", "examine", "main"]

HELP = TABLES["command"]["help"].format(python="py" if sys.platform == "win32" else "python3")
PATIENCE = TABLES["command"]["patience"]
WIDTH, INDENT = 96, 10


def examine() -> list[Finding]:
    """Examine this machine; the last finding is the verdict, a "problem" where the course cannot run."""
    return judge(collect())


def doctor() -> None:
    """Print what this machine is, what stops its GPU, and what to do about it; changes nothing."""
    print(PATIENCE, flush=True)
    print(text(examine()))


def main(arguments: list[str]) -> int:
    """Print the report; return 0 where the course can run, else 1."""
    if arguments:
        print(HELP, end="")
        return int(arguments[0] not in ("-h", "--help"))
    if sys.stderr.isatty():
        print(PATIENCE, file=sys.stderr, flush=True)
    findings = examine()
    sys.stdout.reconfigure(errors="backslashreplace")  # a file in Windows' own encoding: no name stops it
    print(text(findings))
    return int(findings[-1].level == "problem")


def text(findings: list[Finding], width: int = WIDTH) -> str:
    """The report: each finding with its level, what it means, and on a line of its own the fix."""
    *rest, last = findings
    ending = f"{last.title} To do: {last.fix}" if last.fix else last.title
    return "\n".join([*(_block(finding, width) for finding in rest), "", ending])


def _block(finding: Finding, width: int) -> str:
    """One finding; the fix is never broken into lines, so that it can be copied."""
    pad = " " * INDENT
    shape = {"width": width, "subsequent_indent": pad, "break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(finding.title, initial_indent=f"{finding.level:<{INDENT}}", **shape)
    lines += textwrap.wrap(finding.meaning, initial_indent=pad, **shape)
    return "\n".join([*lines, *([f"{pad}To do: {finding.fix}"] if finding.fix else [])])
