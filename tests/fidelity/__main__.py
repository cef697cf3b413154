"""Print the fidelity table as Markdown: python -m tests.fidelity"""

from itertools import groupby

from . import ROWS
from .gaps import GAPS


def main() -> None:
    """Print one table per topic, the known differences, and the number of rows."""
    for topic, rows in groupby(ROWS, key=lambda row: row.topic):
        print(f"\n## {topic}\n\n| call | on CUDA |\n|---|---|")
        for row in rows:
            call, outcome = (
                str(part).replace("|", "\\|").replace("\n", " ") for part in (row.call, row.expect)
            )
            print(f"| `{call}` | {outcome} |" if row.run is None else f"| {call} | {outcome} |")
    print("\n## Known differences of the virtual GPUs\n\n| call | why | torch |\n|---|---|---|")
    for call, gap in GAPS.items():
        print(f"| `{call}` | {gap.reason} | {' '.join(gap.only) or 'all'} |")
    print(f"\n{len(ROWS)} rows, {len(GAPS)} of them with a known difference.")


if __name__ == "__main__":
    main()
