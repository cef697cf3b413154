"""Where things lie, and the one setting that the badges and the setup cell are made from.

It is the section `[tool.course]` of `pyproject.toml`: `repository` ("OWNER/REPO" on GitHub) and `ref`
(a branch, a tag or a commit).
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
SANITIZE_FILE = ROOT / "tools" / "nbval_sanitize.cfg"

LESSON_NAME = re.compile(r"(?P<number>\d\d)_[a-z0-9]+(?:_[a-z0-9]+)*")


@dataclass(frozen=True)
class Repository:
    """A place on GitHub: `slug` is "OWNER/REPO", `ref` a branch, a tag or a commit."""

    slug: str
    ref: str

    def __post_init__(self) -> None:
        """Raise ValueError for a slug or ref that cannot be a GitHub address."""
        if not re.fullmatch(r"[\w-]+/[\w.-]+", self.slug):
            raise ValueError(f"repository must read OWNER/REPO, not {self.slug!r}")
        if not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)*", self.ref):
            raise ValueError(f"ref must be a branch, a tag or a commit, not {self.ref!r}")


def read_repository(pyproject: Path = ROOT / "pyproject.toml") -> Repository:
    """Read the repository setting; raises KeyError where the section is missing."""
    course = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["course"]
    return Repository(course["repository"], course["ref"])


def write_repository(repository: Repository, pyproject: Path = ROOT / "pyproject.toml") -> None:
    """Replace OWNER/REPO in the whole file and the ref in its section; every other byte stays."""
    old = read_repository(pyproject)
    text = pyproject.read_text(encoding="utf-8").replace(old.slug, repository.slug)
    head, mark, tail = text.partition("[tool.course]\n")
    tail = tail.replace(f'ref = "{old.ref}"', f'ref = "{repository.ref}"', 1)
    pyproject.write_text(head + mark + tail, encoding="utf-8", newline="\n")


def lesson_paths(folder: Path = NOTEBOOKS) -> list[Path]:
    """All notebooks of the course, in the order of their numbers."""
    return sorted(folder.glob("*.ipynb"))


def find_lessons(names: list[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """Turn names from a command line (`01_device_basics`, or a path) into paths; no name means all lessons.

    Raises FileNotFoundError for a name that is no notebook.
    """
    paths = [Path(name) if name.endswith(".ipynb") else folder / f"{name}.ipynb" for name in names]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"no such notebook: {', '.join(missing)}")
    return paths or lesson_paths(folder)
