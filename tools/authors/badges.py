"""What leads to the lessons: the Colab badges, `colab_badges.md`, and the table in README.md.

In README.md the table stands between the lines `<!-- lessons:begin -->` and `<!-- lessons:end -->`; elsewhere
in it, and in pyproject.toml, only OWNER/REPO is replaced, and the ref in `[tool.course]`.
"""

import re
from pathlib import Path

from authors import canonical, rules
from authors.common_cells import Repository, files, read_repository
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
        opened = f"{repository.text('badge', path.stem)} [with its results](notebooks/executed/{path.name})"
        rows.append(f"| {name} | {opened} | {head['time']} | {outcome} |")
    return "\n".join(rows)


def wanted(repository: Repository, root: Path = ROOT) -> dict[Path, str]:
    """The text every file should have that leads to a lesson or says where the course comes from.

    Raises ValueError where a lesson's first cell or README.md has no place for it.
    """
    paths = lesson_paths(root)
    texts = {file: text for path in paths for file, text in files(path, repository).items()}
    rows = table(paths, repository)
    texts[root / "colab_badges.md"] = PAGE.read_text(encoding="utf-8").format(table=rows)
    old = read_repository(root).slug
    readme, pyproject = (
        (root / name).read_text(encoding="utf-8").replace(old, repository.slug)
        for name in ("README.md", "pyproject.toml")
    )
    place = re.compile(f"{BEGIN}\n.*?{END}", re.DOTALL)
    if not place.search(readme):
        raise ValueError(f"README.md has no lines {BEGIN} and {END} to put the table between")
    texts[root / "README.md"] = place.sub(lambda _: f"{BEGIN}\n{rows}\n{END}", readme)
    ref = f'ref = "{repository.ref}"'
    texts[root / "pyproject.toml"] = re.sub(r'^ref = ".*"$', ref, pyproject, flags=re.M)
    return texts


def update(slug: str | None = None, ref: str | None = None, root: Path = ROOT) -> None:
    """Write the files, pointing to another repository or ref where one is given.

    Raises ValueError, before anything is written, for a wrong one, and where a file has no place for a link.
    """
    now = read_repository(root)
    repository = Repository(slug or now.slug, ref or now.ref)
    stale = canonical.stale(wanted(repository, root))
    canonical.write(stale)
    print(f"{len(stale)} files changed; everything points to {repository.slug} at {repository.ref}")
