"""Print the fidelity table as Markdown: python -m tests.fidelity"""

from itertools import groupby

from . import ROWS


def main() -> None:
    """Print one table per topic and the number of rows."""
    for topic, rows in groupby(ROWS, key=lambda row: row.topic):
        print(f"\n## {topic}\n\n| call | on CUDA |\n|---|---|")
        for row in rows:
            call, outcome = (
                str(part).replace("|", "\\|").replace("\n", " ") for part in (row.call, row.expect)
            )
            print(f"| `{call}` | {outcome} |" if row.run is None else f"| {call} | {outcome} |")
    print(f"\n{len(ROWS)} rows.")


if __name__ == "__main__":
    main()
