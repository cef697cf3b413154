"""The options of a command, known before anything is installed. Standard library only."""

import argparse
import tomllib
from pathlib import Path
from typing import Any

from course_utils.lessons import PYTHON, choose

Commands = dict[str, dict[str, Any]]
COMMANDS: Commands = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _count(text: str) -> int:
    """Read a number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return int(text)


def options_of(
    command: str, typed: list[str], program: str = f"{PYTHON} -m course_utils", commands: Commands = COMMANDS
) -> dict[str, Any]:
    """What a command's function is called with; ends the program at --help and at what it does not know.

    Args:
        command: one of `commands`.
        typed: its arguments. `lessons` among them become paths; what was not typed is left out.
        program: what is typed before the command.
        commands: of each command `about`, for its help, and `arguments`: of each what argparse is to know.

    Raises CourseError for an unknown lesson.
    """
    parser = argparse.ArgumentParser(
        f"{program} {command}",
        description=commands[command].get("about"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.register("type", "count", _count)
    parser.register("type", "path", Path)
    for name, settings in commands[command].get("arguments", {}).items():
        parser.add_argument(name, **settings)
    options = vars(parser.parse_args(typed))
    if "packages" in options and "stick" not in options:
        parser.error("--packages needs --stick FOLDER")
    return options | ({"lessons": choose(options["lessons"])} if "lessons" in options else {})
