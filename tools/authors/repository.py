"""Where badges and setup cells point: `[tool.course]` of pyproject.toml, and what is made of it."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from string import Template

from course_utils.lessons import ROOT

COLAB = "https://colab.research.google.com"
SETUP = Path(__file__).with_name("setup_cell.txt")


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

    def badge(self, name: str) -> str:
        """The badge that opens lesson `name` in Colab, as markdown."""
        address = f"{COLAB}/github/{self.slug}/blob/{self.ref}/notebooks/{name}.ipynb"
        return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({address})"

    def opening_links(self, name: str) -> str:
        """The badge of lesson `name`, and a link to the page that shows what it prints.

        In full: both files of a lesson have the same text, and in Colab there is no folder around it.
        """
        page = f"https://github.com/{self.slug}/blob/{self.ref}/notebooks/executed/{name}.ipynb"
        return f"{self.badge(name)} [With its results]({page})"

    def setup_cell(self, name: str) -> str:
        """The code of the setup cell of lesson `name`."""
        template = Template(SETUP.read_text(encoding="utf-8").strip("\n"))
        return template.substitute(repository=self.slug, ref=self.ref, lesson=name)


def read_repository(root: Path = ROOT) -> Repository:
    """Read the setting; raises KeyError where the section is missing."""
    course = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]
    return Repository(course["repository"], course["ref"])
