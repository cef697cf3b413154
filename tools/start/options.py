"""The options of the longer commands, known before anything is installed. Standard library only."""

import argparse
from pathlib import Path

from course_utils.lessons import ROOT

ABOUT = {
    "run": "Run lessons without a browser.",
    "demo": """\
Rehearse the lessons on the machine of the class: what the doctor finds, which pictures are here, each lesson
once in a fresh kernel, how long it takes, and where it prints something else than its stored page.
Fast: stand-in pictures, one pass, no download. No notebook and no progress is changed. Exit code 1 where a
lesson did not run to its end, the pictures are faulty, or the doctor says that the course cannot run here.
""",
    "slides": "Build slide decks that open without a network.",
    "bench": """\
Measure what virtual GPUs and the memory ledger cost on this machine, and what lesson 04's faster loop gains.
Every figure is a ratio of two things measured in turn in the same run, so that a busy machine slows both.
""",
}


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
