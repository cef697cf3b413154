"""Links, anchors and pictures of the course's pages and lessons, checked without a network.

Addresses on the web are not visited. An anchor is a heading's name: as GitHub makes it in a page, as
JupyterLab makes it in a lesson (spaces become dashes, nothing else changes).
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mistune

from authors import canonical
from course_utils.lessons import ROOT, executed, lesson_paths

NOT_VISITED = {"http", "https", "mailto", "data", "attachment"}
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


class Page(HTMLParser):
    """What one page links to, its pictures (address and alternative text), its headings and anchors.

    Read from the HTML that its markdown becomes, so that what was written as HTML counts as well.
    """

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.headings: list[str] = []
        self._in_heading = False
        as_written = mistune.HTMLRenderer(escape=False, allow_harmful_protocols=True)
        self.feed(mistune.create_markdown(renderer=as_written, plugins=["table"])(markdown))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what a tag links to, shows, or can be linked by."""
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "img":
            self.pictures.append((values.get("src", ""), values.get("alt", "")))
        elif tag in HEADINGS:
            self.headings.append("")
            self._in_heading = True

    def handle_endtag(self, tag: str) -> None:
        """Note where a heading ends."""
        self._in_heading = self._in_heading and tag not in HEADINGS

    def handle_data(self, text: str) -> None:
        """Add to a heading's text."""
        if self._in_heading:
            self.headings[-1] += text


def pages(root: Path = ROOT) -> list[Path]:
    """The files whose links are checked: markdown at the top and under docs/, both files of each lesson."""
    lessons = lesson_paths(root)
    texts = [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]
    return [*texts, *lessons, *filter(Path.is_file, map(executed, lessons))]


def problems(root: Path = ROOT) -> list[str]:
    """Every link and picture that fails its reader, one line each."""
    return [f"{path.relative_to(root)}: {text}" for path in pages(root) for text in _problems(path, root)]


def _problems(path: Path, root: Path) -> Iterator[str]:
    page = read_page(path)
    for url, alt in page.pictures:
        if not alt.strip():
            yield f"picture {url} has no alt text"
    for url in [*page.links, *(url for url, _ in page.pictures)]:
        yield from _link_problems(url, path, root)


def _link_problems(url: str, path: Path, root: Path) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme in NOT_VISITED:
        return
    if parts.scheme or parts.netloc or url.startswith(("/", "~", "\\")):
        yield f"link {url} leads to one machine only"
        return
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(root) or not _exists(target):
        yield f"link {url} leads to no file"
    elif parts.fragment and unquote(parts.fragment) not in read_page(target).anchors:
        yield f"link {url} leads to no heading"


def _exists(target: Path) -> bool:
    """Whether the file is there under exactly this name, on file systems that ignore case too."""
    return target.is_dir() or (target.exists() and target in target.parent.iterdir())


@cache
def read_page(path: Path) -> Page:
    """Links, pictures and anchors of a markdown file or of a notebook's markdown cells; of others nothing."""
    if path.suffix == ".ipynb":
        cells = canonical.read(path).cells
        page = Page("\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))
        page.anchors |= {heading.strip().replace(" ", "-") for heading in page.headings}
        return page
    page = Page(path.read_text(encoding="utf-8") if path.suffix == ".md" else "")
    seen: Counter[str] = Counter()
    for heading in page.headings:
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        page.anchors.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return page
