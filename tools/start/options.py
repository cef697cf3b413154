"""The options of the longer commands, known before anything is installed. Standard library only."""

import argparse
from pathlib import Path

from course_utils.lessons import ROOT

DEMO = """\
Rehearse the lessons on the machine of the class: what the doctor finds, which pictures are here, each lesson
once in a fresh kernel, how long it takes, and where it prints something else than its stored page.
Fast: stand-in pictures, one pass, no download. No notebook and no progress is changed. Exit code 1 where a
lesson did not run to its end, the pictures are faulty, or the doctor says that the course cannot run here.
"""
BENCH = """\
Measure what virtual GPUs and the memory ledger cost on this machine, and what lesson 04's faster loop gains.
Every figure is a ratio of two things measured in turn in the same run, so that a busy machine slows both.
"""


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(
        f"python3 -m course_utils {command}", None, description, formatter_class=layout
    )


def _add_lessons(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="a name or a number; all by default")


def demo(arguments: list[str]) -> argparse.Namespace:
    """Return the options of the rehearsal; ends the program at --help and at what it does not know."""
    parser = _parser("demo", DEMO)
    _add_lessons(parser)
    parser.add_argument("--real-data", action="store_true", help="rehearse with the pictures that are here")
    parser.add_argument("--download", action="store_true", help="fetch CIFAR-10 first (170 MB), once")
    parser.add_argument(
        "--stick", type=Path, metavar="FOLDER", help="instead: prepare FOLDER for a room without internet"
    )
    parser.add_argument(
        "--packages", action="store_true", help="with --stick: the wheels for this platform, too"
    )
    options = parser.parse_args(arguments)
    if options.packages and not options.stick:
        parser.error("--packages needs --stick FOLDER")
    return options


def slides(arguments: list[str]) -> argparse.Namespace:
    """Return the options of the slide decks; ends the program at --help and at what it does not know."""
    parser = _parser("slides", "Build slide decks that open without a network.")
    _add_lessons(parser)
    folder = ROOT / "build" / "slides"
    parser.add_argument("--output", type=Path, default=folder, help="the folder, by default build/slides")
    return parser.parse_args(arguments)


def bench(arguments: list[str]) -> argparse.Namespace:
    """Return the options of the measurements; ends the program at --help and at what it does not know."""
    parser = _parser("bench", BENCH)
    parser.add_argument(
        "--rounds", type=int, default=30, help="rounds of each training-step pair (default 30)"
    )
    parser.add_argument("--pictures", type=int, default=10_000, help="pictures in an epoch (default 10000)")
    return parser.parse_args(arguments)
