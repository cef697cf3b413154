"""Where badges and setup cells point: `[tool.course]` of pyproject.toml, and what is made of it."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from string import Template

from course_utils.lessons import ROOT

TEXTS = tomllib.loads(Path(__file__).with_name("lesson_texts.toml").read_text(encoding="utf-8"))


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

    def text(self, kind: str, lesson: str) -> str:
        """What lesson_texts.toml has of this kind, "badge", "results" or "setup", for one lesson."""
        text = Template(TEXTS[kind].strip("\n"))
        return text.substitute(repository=self.slug, ref=self.ref, lesson=lesson)


def read_repository(root: Path = ROOT) -> Repository:
    """Read the setting; raises KeyError where the section is missing."""
    course = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]
    return Repository(course["repository"], course["ref"])
