"""What the doctor finds out about a machine, and what it says about it. Standard library only."""

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what it is, what it means, and the one command or click that puts it right.

    `level` is "ok", "note" (nothing stops you) or "problem"; `fix` is empty where there is nothing to do.
    """

    level: str
    title: str
    meaning: str = ""
    fix: str = ""
