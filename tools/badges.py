"""Write what leads to the lessons: the Colab badges, `colab_badges.md`, and the table in README.md.

    python tools/badges.py                                     write all of them from the lessons' first cells
    python tools/badges.py --check                             only say what is out of date
    python tools/badges.py --repository OWNER/REPO --ref REF   first point everything to a fork or a branch

Where they point is set once, in `[tool.course]` of pyproject.toml. In README.md the table stands between the
lines `<!-- lessons:begin -->` and `<!-- lessons:end -->`; elsewhere in it only OWNER/REPO is replaced.
"""

import argparse
import re
import sys
from pathlib import Path

import canonical
import lesson_rules
from project import ROOT, Repository, lesson_paths, read_repository, write_repository

BEGIN, END = "<!-- lessons:begin -->", "<!-- lessons:end -->"

PAGE = """# Open a lesson in Colab

A badge opens its lesson in Google Colab: nothing to install, and often a GPU
(menu Runtime, Change runtime type, T4 GPU). Without one the lesson runs on virtual GPUs.

*With its results* opens the same lesson on GitHub as a run on a machine without GPUs left it: with every
output, and so with the answer to every question.

{table}

Badges need a public repository, and so does the setup cell. From a private one: download it from GitHub as a
ZIP, open the lesson in Colab by *File, Upload notebook*, drop the ZIP into the *Files* panel on the left, and
run `%pip install -q --no-deps /content/NAME.zip` in a new cell before the setup cell. Never write a token
into a cell.

There is no badge for Kaggle: its PyTorch was 2.10 in August 2026, and the course needs 2.11 or newer.

This page is written by `python tools/badges.py` from the first cells of the lessons.
In a fork, `python tools/badges.py --repository OWNER/REPO --ref BRANCH` points every badge to it.
"""


def table(paths: list[Path], repository: Repository) -> str:
    """The lessons as a markdown table; raises ValueError where a first cell does not follow the skeleton."""
    rows = ["| Lesson | Open | Time | After it you can |", "|---|---|---|---|"]
    for path in paths:
        head = lesson_rules.HEAD.match(canonical.read(path).cells[0].source)
        if not head:
            raise ValueError(f"{path.name}: the first cell is not the skeleton in tools/lesson_rules.py")
        name = f"[{head['number']} {head['title']}](notebooks/{path.name})"
        outcome = head["outcome"].replace("|", "\\|")
        badge = lesson_rules.badge(path.stem, repository)
        opened = f"{badge} [with its results](notebooks/executed/{path.name})"
        rows.append(f"| {name} | {opened} | {head['time']} | {outcome} |")
    return "\n".join(rows)


def wanted(repository: Repository, root: Path = ROOT) -> dict[Path, str]:
    """The text every file should have that leads to a lesson or says where the course comes from.

    Raises ValueError where a lesson's first cell or README.md has no place for it.
    """
    paths = lesson_paths(root / "notebooks")
    texts = {file: text for path in paths for file, text in lesson_rules.files(path, repository).items()}
    rows = table(paths, repository)
    texts[root / "colab_badges.md"] = PAGE.format(table=rows)
    readme = root / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        place = re.compile(f"{BEGIN}\n.*?{END}", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"README.md has no lines {BEGIN} and {END} to put the table between")
        text = text.replace(read_repository(root / "pyproject.toml").slug, repository.slug)
        texts[readme] = place.sub(lambda _: f"{BEGIN}\n{rows}\n{END}", text)
    return texts


def out_of_date(repository: Repository, root: Path = ROOT) -> list[Path]:
    """The files whose text is not the wanted one."""
    texts = wanted(repository, root)
    return [path for path, text in texts.items() if not path.exists() or path.read_bytes() != text.encode()]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write the files, or with --check only name them; returns 1 where something is out of date or wrong."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--repository", metavar="OWNER/REPO", help="where the course lies on GitHub")
    parser.add_argument("--ref", help="branch, tag or commit")
    args = parser.parse_args(arguments)
    pyproject = root / "pyproject.toml"
    try:
        now = read_repository(pyproject)
        repository = Repository(args.repository or now.slug, args.ref or now.ref)
        stale = out_of_date(repository, root)
        if args.check:
            for path in stale:
                print(f"{path.relative_to(root)}: out of date; run: python tools/badges.py")
            return 1 if stale else 0
        for path, text in wanted(repository, root).items():
            path.write_text(text, encoding="utf-8", newline="\n")
        write_repository(repository, pyproject)
    except ValueError as error:
        print(error)
        return 1
    print(f"{len(stale)} files changed; everything points to {repository.slug} at {repository.ref}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
