"""What authors use: `python tools/authors COMMAND [ARGUMENTS]`; help.txt says what each command does."""

import sys
import tomllib
from pathlib import Path
from subprocess import SubprocessError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:1] = map(str, (ROOT, HERE.parent, ROOT / "tests"))  # this checkout's, in place of this folder

from start.options import function_of, read_options  # noqa: E402

from course_utils.lessons import CourseError  # noqa: E402

COMMANDS = tomllib.loads((HERE / "commands.toml").read_text(encoding="utf-8"))


def do(command: str, arguments: list[str]) -> list[str]:
    """Run one command; return what is wrong, one line each."""
    table = COMMANDS[command]
    options = read_options(f"python tools/authors {command}", table, arguments)
    function = function_of(table)
    if "lessons" in options:
        return [problem for path in options["lessons"] for problem in function(path)]
    return function(**options) or []


def main(arguments: list[str]) -> int:
    """Run one command; returns 1 where something is wrong, which is printed."""
    command, *rest = arguments or [""]
    if command not in COMMANDS:
        print((HERE / "help.txt").read_text(encoding="utf-8"), end="")
        return int(command not in ("-h", "--help"))
    try:
        found = do(command, rest)
    except (CourseError, ValueError, OSError, SubprocessError) as error:
        found = [str(error)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
