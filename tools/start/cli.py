"""The command line, `python3 -m course_utils COMMAND`. Standard library only, until a command needs more."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

from course_utils import __version__
from course_utils.lessons import PYTHON, ROOT, CourseError, choose
from course_utils.machine import environment
from start import bootstrap, options, workspace

HELP = Path(__file__).with_name("help.txt")


def lab(arguments: list[str]) -> int:
    """Open JupyterLab on a lesson."""
    if environment.in_colab():
        raise CourseError("Colab is a notebook already: open a lesson there by its badge in README.md")
    named = [arguments.pop(0)] if arguments and not arguments[0].startswith("-") else []
    if named and arguments and not arguments[0].startswith("-"):
        raise CourseError(f"lab opens one lesson; {arguments[0]!r} is one word too many")
    # by address, not as a file: so it is also in the link that is printed where no browser opens
    address = f"/lab/tree/{workspace.FOLDER}"
    lessons = [f"--LabApp.default_url={address}/{path.name}" for path in choose(named)[:1]]
    python = bootstrap.prepare()
    for line in workspace.refresh():
        print(line, flush=True)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel before one in the home folder
    return hand_over([python, "-m", "jupyterlab", *lessons, *arguments])


def test(arguments: list[str]) -> int:
    """Run pytest from the root of the course."""
    if arguments[:1] == ["quick"]:
        arguments = ["tests", "-m", "not slow", *arguments[1:]]
    return hand_over([bootstrap.prepare(), "-m", "pytest", *arguments])


def do(command: str, arguments: list[str]) -> int:
    """Run one command; return its exit code.

    What needs packages runs in the course's own .venv where no other environment is active.
    """
    table = options.COMMANDS[command]
    if "arguments" not in table:  # it reads what was typed itself, and installs what it needs
        return resolve_name(table["does"])(arguments)
    given = options.options_of(command, arguments)  # before anything is installed
    if environment.find().kind == "own":
        return hand_over([bootstrap.prepare(), "-m", "course_utils", command, *arguments])
    return resolve_name(table["does"])(**given)


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code; what the reader can put right is told in one line."""
    command, *rest = arguments or ["--help"]
    asks_help = command in ("lab", "test", "run") and rest[:1] in (["-h"], ["--help"])
    try:
        if asks_help or command in ("help", "-h", "--help"):
            print(HELP.read_text(encoding="utf-8").replace("python3", PYTHON), end="")
            return 0
        if command == "--version":
            print(f"course_utils {__version__}")
            return 0
        if command not in options.COMMANDS:
            known = ", ".join(options.COMMANDS)
            raise CourseError(f"no command {command!r}. The commands: {known}; try --help")
        return do(command, rest) or 0
    except (CourseError, OSError) as error:  # the latter: a full disk, a folder that is read-only
        print(f"course_utils: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        python = sys.executable
        if " " in python:
            python = f'& "{python}"' if os.name == "nt" else f'"{python}"'
        fix = f"{python} -m pip install -r requirements.txt"
        print(f"course_utils: {error.name} is not installed here. Run: {fix}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ncourse_utils: stopped. The same command goes on from here.", file=sys.stderr)
        return 130


def hand_over(command: list[str | Path]) -> int:
    """Become `command`, run in the root folder; its exit code and Ctrl-C are its own."""
    words = [str(word) for word in command]
    os.chdir(ROOT)
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(words[0], words)
    # Windows cannot replace a program: wait for it, and leave Ctrl-C to it
    signal.signal(signal.SIGINT, lambda *_: None)
    return subprocess.call(words)
