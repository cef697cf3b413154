"""Author's tool for the lessons: `python tools/notebooks.py COMMAND [LESSONS]`; without a name, all lessons.

    new NAME TITLE     make an empty lesson, for example: new 01_device_basics "Device basics"
    check              say what breaks the form (tools/canonical.py) or a rule (tools/lesson_rules.py)
    fix                write the canonical form of both files of a lesson (notebooks/NAME.ipynb, and
                       notebooks/executed/NAME.ipynb with the outputs), the slide types, the badge and the
                       setup cell; then check
    run [--twice]      run in a fresh kernel, write the executed file, print the seconds each cell took;
                       --twice runs all cells a second time in the same kernel and compares.
                       Marked is a cell over two seconds that tells its reader nothing meanwhile: give its
                       loop a bar, tqdm(..., leave=False, file=sys.stdout), whose text goes through
                       tqdm.write, or print before one long call how many seconds it takes. Runs by this
                       tool and by pytest switch bars off, so the stored output has none
    from-py FILE       make or update a lesson from a py:percent file; outputs of unchanged cells stay
    to-py LESSON       write a lesson as a py:percent file, by default to build/NAME.py (ignored by git)

In a py:percent file a cell begins with `# %%` or `# %% [markdown]`; tags and reason stand on that line:
`# %% tags=["nbval-ignore-output"] reason="times differ from run to run"`. The setup cell may be left out.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import canonical
import lesson_rules
import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from project import NOTEBOOKS, ROOT, find_lessons

from course_utils.lessons import executed

LONG = 2.0  # seconds without a sign of life, after which a reader wonders
SAYS_SO = re.compile(r"\btqdm\b|\bprint\(.*\bseconds?\b")


def write(path: Path, notebook: NotebookNode, run: NotebookNode | None = None) -> None:
    """Write both files of a lesson in canonical form, the outputs from `run` or as they are stored."""
    write_files(canonical.both_files(path, notebook, run))


def write_files(texts: Mapping[Path, str]) -> None:
    """Write files with the same bytes on every system; their folders are made where they are missing."""
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")


def check(path: Path) -> list[str]:
    """What is wrong with the two files of one lesson, one line each."""
    texts = canonical.both_files(path, canonical.read(path))
    wrong = {
        path: f"{path.name}: not in canonical form, or with outputs",
        executed(path): f"executed/{path.name}: not the cells of the lesson, in canonical form",
    }
    found = [
        f"{wrong[file]}; run: python tools/notebooks.py fix"
        for file, text in texts.items()
        if not file.is_file() or text.encode() != file.read_bytes()
    ]
    return found + lesson_rules.problems(nbformat.reads(texts[executed(path)], as_version=4), path)


def fix(path: Path) -> list[str]:
    """Bring one lesson into form; returns what only its author can mend."""
    write_files(lesson_rules.files(path))
    return check(path)


def run(path: Path, *, twice: bool) -> list[str]:
    """Run one lesson and store its outputs; a lesson that fails is left as it was."""
    from execute import run_lesson  # only this command needs a kernel

    notebook = canonical.read(path)
    lesson_rules.write_common_cells(notebook, path.stem)
    try:
        result = run_lesson(canonical.canonical(notebook), path.parent, twice=twice)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return [f"{path.name}: left as it was, a cell failed\n{error}"]
    write(path, result.notebook, result.notebook)
    sources = {cell.id: cell.source for cell in result.notebook.cells}
    for cell_id, seconds in result.seconds.items():
        silent = seconds > LONG and not SAYS_SO.search(sources[cell_id])
        print(f"{seconds:8.2f} s  {cell_id}{'  <- over two seconds without a bar' if silent else ''}")
    print(f"{sum(result.seconds.values()):8.2f} s  {path.name}")
    again = [f"{path.name}: cell {cell_id!r}: the second run differs" for cell_id in result.unsteady]
    return again + check(path)


def from_py(source: Path, folder: Path = NOTEBOOKS) -> Path:
    """Make or update the lesson named like the py:percent file `source`; returns the notebook's path."""
    jupytext = _jupytext()
    path = folder / f"{source.stem}.ipynb"
    notebook = jupytext.read(source, fmt="py:percent")
    lesson_rules.write_common_cells(notebook, path.stem)
    if path.exists():
        from jupytext.combine import combine_inputs_with_outputs

        # cells keep their ids
        notebook = combine_inputs_with_outputs(notebook, canonical.read(path), fmt="py:percent")
    write(path, notebook)
    return path


def to_py(path: Path, folder: Path) -> Path:
    """Write a lesson as a py:percent file into `folder`; returns that file's path."""
    notebook = canonical.read(path)
    notebook.metadata = {"jupytext": {"notebook_metadata_filter": "-all", "cell_markers": '"""'}}
    for cell in notebook.cells:
        for key in ("slideshow", "jupyter"):
            cell.metadata.pop(key, None)  # the way back writes it again
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{path.stem}.py"
    _jupytext().write(notebook, target, fmt="py:percent")
    return target


def _jupytext() -> ModuleType:
    try:
        import jupytext
    except ModuleNotFoundError:
        sys.exit("py:percent files need jupytext, which only authors use: pip install jupytext")
    return jupytext


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("check", "fix", "run"):
        command = commands.add_parser(name)
        command.add_argument("lessons", nargs="*", metavar="LESSON")
        if name == "run":
            command.add_argument("--twice", action="store_true", help="run a second time and compare")
    command = commands.add_parser("new")
    command.add_argument("name")
    command.add_argument("title")
    command = commands.add_parser("from-py")
    command.add_argument("files", nargs="+", type=Path, metavar="FILE")
    command = commands.add_parser("to-py")
    command.add_argument("lessons", nargs="+", metavar="LESSON")
    command.add_argument("--folder", type=Path, default=ROOT / "build")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 1 where a problem was printed."""
    args = _arguments(arguments)
    try:
        found = _do(args)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        found = [str(error)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


def _do(args: argparse.Namespace) -> list[str]:
    if args.command == "new":
        path = NOTEBOOKS / f"{args.name}.ipynb"
        if path.exists():
            raise FileExistsError(f"{path.name} is already there")
        write(path, lesson_rules.new_lesson(args.name, args.title))
        print(f"made {path.relative_to(ROOT)}")
    elif args.command == "from-py":
        for file in args.files:
            print(f"wrote {from_py(file).relative_to(ROOT)}")
    elif args.command == "to-py":
        for path in find_lessons(args.lessons):
            print(f"wrote {to_py(path, args.folder)}")
    else:
        paths = find_lessons(args.lessons)
        actions = {"check": check, "fix": fix, "run": lambda path: run(path, twice=args.twice)}
        return [problem for path in paths for problem in actions[args.command](path)]
    return []


if __name__ == "__main__":
    sys.exit(main())
