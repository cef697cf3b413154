"""Entry of `python3 -m course_utils`.

This file and `__init__.py` keep to what Python 3.6 understands, so that an old Python can say what is wrong.
"""

import sys

if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))  # a file in this folder named random.py must not hide Python's own
import shutil
from importlib.util import find_spec
from pathlib import Path


def complaint(version: tuple) -> str:
    """Return what to do where Python is older than 3.11, else an empty string."""
    if tuple(version[:2]) >= (3, 11):
        return ""
    newer = [name for name in ("python3.13", "python3.12", "python3.11", "python3.14") if shutil.which(name)]
    way = f"Use {newer[0]} in place of python3." if newer else "Install a newer one from python.org."
    return f"course_utils: this is Python {version[0]}.{version[1]}, the course needs 3.11 to 3.14. {way}"


def try_script(typed: list) -> int:
    """Run a script on virtual GPUs, with the Python that runs this."""
    if find_spec("torch") is None:
        sys.exit(f"course_utils try: {sys.executable} has no PyTorch. Use the Python that runs your script.")
    from course_utils.distributed.try_command import main as run

    return run(typed)


def main() -> int:
    """Check the Python version, then hand the arguments to the clone's command line."""
    if complaint(sys.version_info):
        sys.exit(complaint(sys.version_info))
    if sys.stdout:  # None without a console; a file in Windows' own encoding lacks many a letter
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.argv[1:2] == ["try"]:  # in the script's environment, which need not be the course's
        return try_script(sys.argv[2:])
    tools = Path(__file__).resolve().parents[1] / "tools"
    if (tools / "start").is_dir():
        sys.path.insert(0, str(tools))
        from start.cli import main as command_line

        return command_line(sys.argv[1:])
    if sys.argv[1:2] != ["doctor"]:
        sys.exit(
            "course_utils: installed alone it has two commands, doctor and try. The others need a clone."
        )
    from course_utils.machine.doctor import main as examine

    return examine(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
