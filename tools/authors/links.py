"""Links, anchors and pictures of the course's pages and lessons, checked without a network.

Addresses on the web are not visited. An anchor is a heading's name: as GitHub makes it in a page, as
JupyterLab makes it in a lesson (spaces become dashes, nothing else changes).
"""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import mistune
from bs4 import BeautifulSoup

from authors import canonical
from course_utils.lessons import ROOT, executed, lesson_paths

NOT_VISITED = {"http", "https", "mailto", "data", "attachment"}
_AS_WRITTEN = mistune.HTMLRenderer(escape=False, allow_harmful_protocols=True)
TO_HTML = mistune.create_markdown(renderer=_AS_WRITTEN, plugins=["table"])


class Page(NamedTuple):
    """What one page links to, its pictures (address and alternative text), and what can be linked in it."""

    links: list[str]
    pictures: list[tuple[str, str]]
    anchors: set[str]


def pages(root: Path = ROOT) -> list[Path]:
    """The files whose links are checked: markdown at the top and under docs/, both files of each lesson."""
    lessons = lesson_paths(root)
    texts = [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]
    return [*texts, *lessons, *filter(Path.is_file, map(executed, lessons))]


def problems(root: Path = ROOT) -> list[str]:
    """Every link and picture that fails its reader, one line each."""
    found = []
    for path in pages(root):
        page = read_page(path)
        texts = [f"picture {url} has no alt text" for url, alt in page.pictures if not alt.strip()]
        texts += [_problem(url, path, root) for url in (*page.links, *(url for url, _ in page.pictures))]
        found += [f"{path.relative_to(root)}: {text}" for text in texts if text]
    return found


def _problem(url: str, path: Path, root: Path) -> str:
    """What is wrong with a link on the page `path`; empty where it leads somewhere."""
    parts = urlsplit(url)
    if parts.scheme in NOT_VISITED:
        return ""
    if parts.scheme or parts.netloc or url.startswith(("/", "~", "\\")):
        return f"link {url} leads to one machine only"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    # under exactly this name, on file systems that ignore case too
    there = target.is_dir() or (target.exists() and target in target.parent.iterdir())
    if not there or not target.is_relative_to(root):
        return f"link {url} leads to no file"
    if parts.fragment and unquote(parts.fragment) not in read_page(target).anchors:
        return f"link {url} leads to no heading"
    return ""


@cache
def read_page(path: Path) -> Page:
    """Links, pictures and anchors of a markdown file or of a notebook's markdown cells; of others nothing.

    Read from the HTML that the markdown becomes, so that what was written as HTML counts as well.
    """
    lesson = path.suffix == ".ipynb"
    if lesson:
        texts = [cell.source for cell in canonical.read(path).cells if cell.cell_type == "markdown"]
    else:
        texts = [path.read_text(encoding="utf-8")] if path.suffix == ".md" else []
    html = BeautifulSoup(TO_HTML("\n\n".join(texts)), "html.parser")
    anchors = {tag.get(name) for name in ("id", "name") for tag in html.select(f"[{name}]")}
    seen: Counter[str] = Counter()
    for heading in html.select("h1, h2, h3, h4, h5, h6"):
        name = heading.get_text().strip().replace(" ", "-")
        if not lesson:
            name = re.sub(r"[^\w\-]", "", name.lower())
            seen[name] += 1
            name += f"-{seen[name] - 1}" if seen[name] > 1 else ""
        anchors.add(name)
    pictures = [(picture.get("src", ""), picture.get("alt", "")) for picture in html.find_all("img")]
    return Page([link["href"] for link in html.select("a[href]")], pictures, anchors)
