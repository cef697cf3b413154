"""What real GPUs measured: one JSON file per card in this folder, by `python tools/authors record`.

No file is trusted that is damaged or comes from a rehearsal.
"""

import json
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SCHEMA = 1  # of the files; a reader takes only its own
CASES: dict[str, dict[str, str]] = tomllib.loads((FOLDER / "cases.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Record:
    """One case measured on one real card.

    Attributes:
        card: the card's name, such as "Tesla T4".
        torch: the version of PyTorch.
        date: the day of the recording (UTC), as "2026-11-21".
        machine: everything else that is known of the machine: driver, CUDA, CPU, ...
        figures: the case's figures, each repeat kept; `figures["units"]` says what the numbers are.
    """

    card: str
    torch: str
    date: str
    machine: dict[str, Any]
    figures: dict[str, Any]

    @property
    def label(self) -> str:
        """Card, PyTorch and day, for a legend: "Tesla T4, torch 2.11.0, 2026-11-21"."""
        return f"{self.card}, torch {self.torch.partition('+')[0]}, {self.date}"


def records(case: str, folder: Path = FOLDER) -> list[Record]:
    """Return what real GPUs measured for `case`, one record per card, in the order of the files' names.

    A file that is damaged, of another schema or from a rehearsal is skipped with a warning; a card whose
    recording of this case failed has no record.

    Args:
        case: one of CASES, such as "matmul".
        folder: where the JSON files lie; by default those that come with the course.

    Raises:
        ValueError: there is no such case.
    """
    if case not in CASES:
        raise ValueError(f"there is no case {case!r}. The cases: {', '.join(CASES)}.")
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            part = _part(card, case)
        except (ValueError, RecursionError) as error:
            warnings.warn(f"the record {path.name} is skipped: {error}", stacklevel=2)
            continue
        if part:
            machine = card["machine"]
            found.append(Record(card["card"], machine["torch"], part["date"][:10], machine, part["figures"]))
    return found


def _part(card: Any, case: str) -> dict[str, Any]:
    """Return a card's part for a case, empty where it has none; ValueError says why the file is no record."""
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        raise ValueError(f"it is not a record of schema {SCHEMA}")
    if card.get("rehearsal") is not False or str(card.get("card")).lower().startswith("virtual"):
        raise ValueError("it is from a rehearsal, not from a real GPU")
    match card:
        case {"card": str(), "machine": {"torch": str()}, "parts": dict(parts)}:
            part = parts.get(case, {})
        case _:
            raise ValueError("its card, its machine or its parts are missing")
    if part.get("status") != "done":
        return {}
    if lacking := [key for key in CASES[case] if key not in part["figures"]]:
        raise ValueError(f"its part {case!r} lacks: {', '.join(lacking)}")
    return part
