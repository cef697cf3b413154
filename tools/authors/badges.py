"""What leads to the lessons: the Colab badges, `colab_badges.md`, and the table in README.md.

In README.md the table stands between the lines `<!-- lessons:begin -->` and `<!-- lessons:end -->`; elsewhere
in it only OWNER/REPO is replaced.
"""

import re
from pathlib import Path

from authors import canonical, rules
from authors.repository import Repository, read_repository, write_repository
from course_utils.lessons import ROOT, lesson_paths

BEGIN, END = "<!-- lessons:begin -->", "<!-- lessons:end -->"
PAGE = Path(__file__).with_name("colab_badges.txt")


def table(paths: list[Path], repository: Repository) -> str:
    """The lessons as a markdown table; raises ValueError where a first cell does not follow the skeleton."""
    rows = ["| Lesson | Open | Time | After it you can |", "|---|---|---|---|"]
    for path in paths:
        head = rules.HEAD.match(canonical.read(path).cells[0].source)
        if not head:
            raise ValueError(f"{path.name}: the first cell is not the skeleton in tools/authors/rules.py")
        name = f"[{head['number']} {head['title']}](notebooks/{path.name})"
        outcome = head["outcome"].replace("|", "\\|")
        opened = f"{repository.badge(path.stem)} [with its results](notebooks/executed/{path.name})"
        rows.append(f"| {name} | {opened} | {head['time']} | {outcome} |")
    return "\n".join(rows)


def wanted(repository: Repository, root: Path = ROOT) -> dict[Path, str]:
    """The text every file should have that leads to a lesson or says where the course comes from.

    Raises ValueError where a lesson's first cell or README.md has no place for it.
    """
    paths = lesson_paths(root)
    texts = {file: text for path in paths for file, text in rules.files(path, repository).items()}
    rows = table(paths, repository)
    texts[root / "colab_badges.md"] = PAGE.read_text(encoding="utf-8").format(table=rows)
    readme = root / "README.md"
    place = re.compile(f"{BEGIN}\n.*?{END}", re.DOTALL)
    text = readme.read_text(encoding="utf-8").replace(read_repository(root).slug, repository.slug)
    if not place.search(text):
        raise ValueError(f"README.md has no lines {BEGIN} and {END} to put the table between")
    texts[readme] = place.sub(lambda _: f"{BEGIN}\n{rows}\n{END}", text)
    return texts


def out_of_date(repository: Repository, root: Path = ROOT) -> dict[Path, str]:
    """The wanted texts of the files that have another one."""
    texts = wanted(repository, root)
    return {
        path: text for path, text in texts.items() if not path.exists() or path.read_bytes() != text.encode()
    }


def check(root: Path = ROOT) -> list[str]:
    """The files that are out of date, one line each."""
    stale = out_of_date(read_repository(root), root)
    return [f"{path.relative_to(root)}: out of date; run: python tools/authors badges" for path in stale]


def update(slug: str | None = None, ref: str | None = None, root: Path = ROOT) -> None:
    """Write the files, pointing to another repository or ref where one is given.

    Raises ValueError, before anything is written, for a wrong one, and where a file has no place for a link.
    """
    now = read_repository(root)
    repository = Repository(slug or now.slug, ref or now.ref)
    stale = out_of_date(repository, root)
    canonical.write(stale)
    write_repository(repository, root)
    print(f"{len(stale)} files changed; everything points to {repository.slug} at {repository.ref}")
