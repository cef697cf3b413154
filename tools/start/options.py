"""The options of a command, known before anything is installed. Standard library only."""

import argparse
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from course_utils.lessons import choose

TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def options_of(command: str, arguments: list[str]) -> dict[str, Any]:
    """The options of a command of `python3 -m course_utils`, as `read_options` gives them."""
    return read_options(f"python3 -m course_utils {command}", TABLE[command], arguments)


def read_options(program: str, table: dict[str, Any], arguments: list[str]) -> dict[str, Any]:
    """What a command's function is called with; ends the program at --help and at what it does not know.

    Args:
        program: how the command is called.
        table: `about`, for its help, and `arguments`: of each what argparse is to know.
        arguments: what was typed. `lessons` among them become paths; what was not typed is left out.

    Raises CourseError for an unknown lesson.
    """
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        program, description=table.get("about"), formatter_class=layout, argument_default=argparse.SUPPRESS
    )
    parser.register("type", "int", int)
    parser.register("type", "path", Path)
    for name, settings in table.get("arguments", {}).items():
        parser.add_argument(name, **settings)
    options = vars(parser.parse_args(arguments))
    if "packages" in options and "stick" not in options:
        parser.error("--packages needs --stick FOLDER")
    return options | ({"lessons": choose(options["lessons"])} if "lessons" in options else {})


def function_of(table: dict[str, Any]) -> Callable[..., Any]:
    """What `does` names in a command's table, imported only now: it may need packages."""
    module, _, name = table["does"].rpartition(".")
    return getattr(import_module(module), name)
