"""What authors use: `python tools/authors COMMAND [ARGUMENTS]`; help.txt says what each command does."""

import argparse
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
ROOT = TOOLS.parent
sys.path[:1] = map(str, (ROOT, TOOLS, ROOT / "tests"))  # this checkout's, in place of this folder

from course_utils.lessons import CourseError, choose  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    layout = argparse.RawDescriptionHelpFormatter
    about = Path(__file__).with_name("help.txt").read_text(encoding="utf-8")
    whole = argparse.ArgumentParser("python tools/authors", None, about, formatter_class=layout)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("check", "fix", "run"):
        commands.add_parser(name).add_argument("lessons", nargs="*", metavar="LESSON")
    badges = commands.add_parser("badges")
    badges.add_argument("--repository", metavar="OWNER/REPO", help="where the course lies on GitHub")
    badges.add_argument("--ref", help="branch, tag or commit")
    commands.add_parser("links")
    commands.add_parser("wrappers")
    commands.add_parser("faults").add_argument("names", nargs="*", metavar="NAME")
    record = commands.add_parser("record")
    record.add_argument("--out", type=Path, metavar="FOLDER", help="where the record goes")
    record.add_argument("--parts", nargs="+", metavar="PART", help="by default all")
    record.add_argument("--rehearse", action="store_true", help="tiny sizes on virtual GPUs; never a record")
    failures = commands.add_parser("record-failures")
    failures.add_argument("names", nargs="*", metavar="NAME", help="of cases; all by default")
    failures.add_argument("--python", default=sys.executable, help="the interpreter whose PyTorch is asked")
    commands.add_parser("colab-environment").add_argument("folder", type=Path)
    return whole


def do(options: argparse.Namespace) -> list[str]:
    """Run one command; return what is wrong, one line each.

    Imports are made here: Colab's environment is built by a Python that has no packages.
    """
    match options.command:
        case "check" | "fix" | "run":
            from authors import notebooks

            action = getattr(notebooks, options.command)
            return [problem for path in choose(options.lessons) for problem in action(path)]
        case "badges":
            from authors import badges

            badges.update(options.repository, options.ref)
        case "links":
            from authors import links

            return links.problems()
        case "wrappers":
            from authors import wrappers

            return wrappers.record()
        case "faults":
            from authors import faults

            return faults.try_all(options.names)
        case "record":
            from authors import recording

            return recording.record(options.parts, options.out, rehearse=options.rehearse)
        case "record-failures":
            from ranks import failing_runs

            failing_runs.record_all(options.names, options.python)
        case "colab-environment":
            from authors import colab_environment

            return colab_environment.make(options.folder.absolute())
    return []


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 1 where something is wrong, which is printed."""
    options = parser().parse_args(arguments)
    try:
        found = do(options)
    except (CourseError, ValueError, OSError) as error:
        found = [str(error)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
