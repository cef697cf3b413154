"""Links, anchors and pictures of the course's pages and lessons, checked without a network.

    python tools/links.py     say which relative link or anchor leads nowhere, which picture has no alt text

Addresses on the web are not visited. An anchor is a heading's name: as GitHub makes it in a page, as
JupyterLab makes it in a lesson (spaces become dashes, nothing else changes).
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import canonical
import mistune
from project import ROOT, lesson_paths

from course_utils.lessons import executed

WEB = {"http", "https", "mailto"}
HTML_LINK = re.compile(r"""<a\b[^>]*?\bhref\s*=\s*["']([^"']*)["']""", re.I)
HTML_ANCHOR = re.compile(r"""<\w+\b[^>]*?\b(?:id|name)\s*=\s*["']([^"']*)["']""", re.I)
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.I)
HTML_ATTRIBUTE = re.compile(r"""\b(src|alt)\s*=\s*["']([^"']*)["']""", re.I)


@dataclass
class Page:
    """What one file links to, its pictures (address and alt text), and the names it can be linked by."""

    links: list[str] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)


def pages(root: Path = ROOT) -> list[Path]:
    """The files whose links are checked: markdown at the top and under docs/, both files of each lesson."""
    lessons = lesson_paths(root / "notebooks")
    texts = [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]
    return [*texts, *lessons, *filter(Path.is_file, map(executed, lessons))]


def problems(root: Path = ROOT) -> list[str]:
    """Every link and picture that fails its reader, one line each."""
    return [
        f"{path.relative_to(root)}: {text}" for path in pages(root) for text in _page_problems(path, root)
    ]


def _page_problems(path: Path, root: Path) -> Iterator[str]:
    page = read_page(path)
    for url, alt in page.images:
        if not alt.strip():
            yield f"picture {url} has no alt text"
    for url in [*page.links, *(url for url, _ in page.images)]:
        yield from _link_problems(url, path, root)


def _link_problems(url: str, path: Path, root: Path) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme in WEB or parts.scheme in {"data", "attachment"}:
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
    return target.exists() and (
        target.is_dir() or target.name in {other.name for other in target.parent.iterdir()}
    )


@cache
def read_page(path: Path) -> Page:
    """Links, pictures and anchors of a markdown file or of a notebook's markdown cells."""
    page = Page()
    if path.suffix == ".ipynb":
        cells = canonical.read(path).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    elif path.suffix == ".md":
        text = path.read_text(encoding="utf-8")
    else:
        return page
    headings: list[str] = []
    for token in _walk(mistune.create_markdown(renderer="ast")(text)):
        _note(token, page, headings)
    page.anchors |= _jupyter_anchors(headings) if path.suffix == ".ipynb" else _github_anchors(headings)
    return page


def _walk(tokens: list[dict]) -> Iterator[dict]:
    for token in tokens:
        yield token
        yield from _walk(token.get("children", []))


def _note(token: dict, page: Page, headings: list[str]) -> None:
    if token["type"] == "heading":
        headings.append(_plain(token))
    elif token["type"] == "link":
        page.links.append(token["attrs"]["url"])
    elif token["type"] == "image":
        page.images.append((token["attrs"]["url"], _plain(token)))
    elif token["type"] in {"block_html", "inline_html"}:
        page.links += HTML_LINK.findall(token["raw"])
        page.anchors |= set(HTML_ANCHOR.findall(token["raw"]))
        for image in HTML_IMAGE.findall(token["raw"]):
            attributes = dict(HTML_ATTRIBUTE.findall(image))
            page.images.append((attributes.get("src", ""), attributes.get("alt", "")))


def _plain(token: dict) -> str:
    return "".join(child["raw"] for child in _walk(token.get("children", [])) if "raw" in child)


def _github_anchors(headings: list[str]) -> set[str]:
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in headings:
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        anchors.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return anchors


def _jupyter_anchors(headings: list[str]) -> set[str]:
    return {heading.strip().replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    found = problems()
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(1 if found else 0)
