"""Entry of `python3 -m course_utils`.

This file and `__init__.py` keep to what Python 3.6 understands, so that an old Python can say what is wrong.
"""

import shutil
import sys
from pathlib import Path


def complaint(version: tuple) -> str:
    """Return what to do where Python is older than 3.11, else an empty string."""
    if tuple(version[:2]) >= (3, 11):
        return ""
    newer = [name for name in ("python3.13", "python3.12", "python3.11", "python3.14") if shutil.which(name)]
    way = f"Use {newer[0]} in place of python3." if newer else "Install a newer one from python.org."
    return f"course_utils: this is Python {version[0]}.{version[1]}, the course needs 3.11 to 3.14. {way}"


def main() -> int:
    """Check the Python version, then hand the arguments to the clone's command line."""
    if complaint(sys.version_info):
        sys.exit(complaint(sys.version_info))
    tools = Path(__file__).resolve().parents[1] / "tools"
    if (tools / "start").is_dir():
        sys.path.insert(0, str(tools))
        from start.cli import main as command_line

        return command_line(sys.argv[1:])
    if sys.argv[1:2] != ["doctor"]:
        sys.exit(
            "course_utils: installed alone it has one command, doctor. The others need a clone of the course."
        )
    from course_utils.machine.doctor import main as examine

    return examine(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
