"""The options of the longer commands, known before anything is installed. Standard library only."""

import argparse
import tomllib
from pathlib import Path

from course_utils.lessons import ROOT

ABOUT = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def options_of(command: str, arguments: list[str]) -> argparse.Namespace:
    """Return the options of a command; ends the program at --help and at what it does not know."""
    parser = argparse.ArgumentParser(
        f"python3 -m course_utils {command}",
        description=ABOUT[command],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    if command == "bench":
        parser.set_defaults(lessons=[])
        add("--rounds", type=int, default=30, help="rounds of each training-step pair (default 30)")
        add("--pictures", type=int, default=10_000, help="pictures in an epoch (default 10000)")
    else:
        add("lessons", nargs="*", metavar="LESSON", help="a name or a number; all by default")
    if command == "slides":
        folder = ROOT / "build" / "slides"
        add("--output", type=Path, default=folder, help="the folder, by default build/slides")
    if command == "demo":
        add("--real-data", action="store_true", help="rehearse with the pictures that are here")
        add("--download", action="store_true", help="fetch CIFAR-10 first (170 MB), once")
        about = "instead: prepare FOLDER for a room without internet"
        add("--stick", type=Path, metavar="FOLDER", help=about)
        add("--packages", action="store_true", help="with --stick: the wheels for this platform, too")
    options = parser.parse_args(arguments)
    if command == "demo" and options.packages and not options.stick:
        parser.error("--packages needs --stick FOLDER")
    return options
