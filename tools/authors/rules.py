"""What every lesson has in common, and the checks that hold it.

The first cell (markdown, id `head`) reads, with one blank line between its four lines:

    # Lesson 01: Device basics

    [![Open in Colab](...)](...) [With its results](...)   written by `fix` and by `badges`

    **After this lesson you can** one sentence, which is also the lesson's row in the tables.

    **Time:** about 20 minutes. **Needs:** what the reader has to have or know.

Anything may follow. The second cell (code, id `setup`) is the one of tools/authors/lesson_texts.toml with the
lesson's name, written by `fix`. For a table of contents there is one `#` (the lesson's title), then sections
`## 1. Title`, `## 2. Title` and so on, `###` below them; no title comes twice. The sections of CLOSING come
last and have no number. A text fits on a slide; a picture in an output has an alternative text.

The tags that a cell may carry are in tags.toml.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from classroom import slide_types
from nbformat import NotebookNode

TABLE = tomllib.loads(Path(__file__).with_name("tags.toml").read_text(encoding="utf-8"))
REASONED_TAGS = set(TABLE["with_reason"])
TAGS = REASONED_TAGS | set(TABLE["without"]) | slide_types.TAGS
CODE_LINES = 15
TEXT_LINES = 26  # of a slide; an estimate, so a little more than one has
IMAGE_BYTES = 150_000
CLOSING = ["Your turn", "What you can do now"]

HEAD = re.compile(
    r"# Lesson (?P<number>\d\d): (?P<title>\S.*)\n\n"
    r"(?P<badge>\[!\[.*)\n\n"
    r"\*\*After this lesson you can\*\* (?P<outcome>\S.*\.)\n\n"
    r"\*\*Time:\*\* (?P<time>about \d+ minutes)\. \*\*Needs:\*\* (?P<needs>\S.*)(?:\n|$)"
)
FENCED = re.compile(r"^```.*?^```", re.M | re.S)
HEADING = re.compile(r"^(#{1,6}) +(.+?) *$", re.M)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MACHINE_PATH = re.compile(
    r"(?<![\w.~/-])/(?:home|root|Users|tmp|work|opt|usr|mnt|var|private)/|\b[A-Za-z]:\\\w"
)


def problems(notebook: NotebookNode, path: Path) -> list[str]:
    """Everything in a canonical notebook that breaks a rule, one line each."""
    found = [*_headings(notebook)]
    head = HEAD.match(notebook.cells[0].source)
    if not head:
        found.append("the first cell does not follow the skeleton in tools/authors/rules.py")
    elif head["number"] != path.stem[:2]:
        found.append(f"the title says lesson {head['number']}")
    found += [f"cell {cell.source[:40]!r}: {text}" for cell in notebook.cells for text in _cell(cell)]
    return [f"{path.name}: {text}" for text in found]


def _headings(notebook: NotebookNode) -> Iterator[str]:
    texts = (FENCED.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    found = [(len(marks), title) for text in texts for marks, title in HEADING.findall(text)]
    titles = [title for _, title in found]
    if sum(level == 1 for level, _ in found) != 1:
        yield "needs exactly one heading with a single #, the title"
    for title in dict.fromkeys(titles):
        if titles.count(title) > 1:
            yield f"heading {title!r} comes twice"
    sections = [title for level, title in found if level == 2]
    numbered = [title for title in sections if title not in CLOSING]
    for number, title in enumerate(numbered, start=1):
        if not title.startswith(f"{number}. "):
            yield f"section {title!r} must begin with its number, {number}."
    if sections != numbered + [title for title in CLOSING if title in sections]:
        yield f"the sections {' and '.join(map(repr, CLOSING))} come last, in this order"


def _cell(cell: NotebookNode) -> Iterator[str]:
    tags = set(cell.metadata.get("tags", []))
    yield from (f"tag {tag!r} is not one of {sorted(TAGS)}" for tag in sorted(tags - TAGS))
    needs_reason = sorted(tags & REASONED_TAGS)
    if needs_reason and len(str(cell.metadata.get("reason", "")).split()) < 3:
        yield f"tag {needs_reason[0]!r} needs a reason of a few words in the cell's metadata"
    if not cell.source.strip():
        yield "is empty"
    elif cell.cell_type == "markdown":
        if (lines := slide_types.lines_of(cell)) > TEXT_LINES:
            yield f"about {lines:.0f} lines on a slide, at most {TEXT_LINES}; split it"
    else:
        yield from _code(cell)
        yield from _outputs(cell)


def _code(cell: NotebookNode) -> Iterator[str]:
    lines = len(cell.source.splitlines())
    if (lines > CODE_LINES) != ("long-cell" in cell.metadata.get("tags", [])):
        yield f"{lines} lines: more than {CODE_LINES} need the tag 'long-cell', fewer must not"
    if cell.execution_count is None:
        yield "has not been run; run: python tools/authors run"


def _outputs(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        pictures = {mime: data for mime, data in output.get("data", {}).items() if mime.startswith("image/")}
        for mime, data in pictures.items():
            if len(data) * 3 // 4 > IMAGE_BYTES:
                yield f"a picture of {len(data) * 3 // 4000} kB, at most {IMAGE_BYTES // 1000} kB"
            if not output.metadata.get(mime, {}).get("alt"):
                yield "a picture has no alternative text; run: python tools/authors run"
        texts = [str(data) for mime, data in output.get("data", {}).items() if mime not in pictures]
        texts += [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
        text = COLOUR.sub(" ", "\n".join(texts))
        if leak := MACHINE_PATH.search(text):
            yield f"the output shows a path of this machine: {text[leak.start() :][:60]!r}"
    failed = any(output.output_type == "error" for output in cell.outputs)
    if failed != ("raises-exception" in cell.metadata.get("tags", [])):
        yield "must show an error if, and only if, it is tagged 'raises-exception'"
