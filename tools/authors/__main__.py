"""What authors use: `python tools/authors COMMAND [ARGUMENTS]`; help.txt says what each command does."""

import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name
from subprocess import SubprocessError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:1] = map(str, (ROOT, HERE.parent, ROOT / "tests"))  # this checkout's, in place of this folder

from start.options import options_of  # noqa: E402

from course_utils.lessons import CourseError  # noqa: E402

COMMANDS = tomllib.loads((HERE / "commands.toml").read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    """Run one command; returns 1 where something is wrong, which is printed, one line each."""
    command, *rest = arguments or [""]
    if command not in COMMANDS:
        print((HERE / "help.txt").read_text(encoding="utf-8"), end="")
        return int(command not in ("-h", "--help"))
    try:
        options = options_of(command, rest, "python tools/authors", COMMANDS)
        function = resolve_name(COMMANDS[command]["does"])
        if "lessons" in options:
            found = [problem for path in options["lessons"] for problem in function(path)]
        else:
            found = function(**options) or []
    except (CourseError, ValueError, OSError, SubprocessError) as error:
        found = [str(error)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
