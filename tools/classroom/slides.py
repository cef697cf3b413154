"""`python3 -m course_utils slides`: one deck of slides per lesson, to be opened without a network.

A deck is one HTML page; what it loads (reveal.js, the course's style) lies beside it in `assets`. It shows
the outputs that are stored in notebooks/executed. Python says which cells share a slide; deck/deck.js cuts
the slides by their real height when the page is opened. The key S opens the speaker's view with the notes of
docs/instructors_guide.md.
"""

import math
import re
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from nbconvert import SlidesExporter
from nbconvert.filters import markdown2html
from nbconvert.preprocessors import TagRemovePreprocessor
from nbformat import NotebookNode
from start.runner import read

from classroom.slide_types import type_of, write_types
from course_utils.data.files import Given
from course_utils.figures.text import in_words
from course_utils.lessons import ROOT, CourseError, lesson_paths, with_results

GUIDE = ROOT / "docs" / "instructors_guide.md"
DECK = Path(__file__).with_name("deck")
REVEAL = Path(__file__).with_name("reveal.js")
HIDDEN = "remove-input"  # nbconvert leaves out the code of a cell with this tag

HEAD_ROWS, TAIL_ROWS = 7, 8  # of a traceback too long for a slide
FOR_LINTERS = re.compile(r" *# noqa\b.*")
BADGE = re.compile(r"^\[!\[.*\n+", re.M)
IMAGE = re.compile(r"!\[([^\]]*)\]\(https?:[^)]*\)")
LESSON_LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb(?:#[^)]*)?\)")
OTHER_LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?!https?:|\d\d_\w+\.html\))[^\s()]*\)")

LESSON = re.compile(r"^### Lesson (\d\d):.*\n((?:(?!#{1,3} ).*\n?)*)", re.M)  # of the guide
ITEM = re.compile(r"^- (\*\*.*(?:\n(?!- |#|\n).*)*)", re.M)
ABOUT = re.compile(r'\*\*Section (?:(\d+)|"([^"]+)"):\*\* *')
SECTION = re.compile(r"## +(?:(\d+)\. +)?(.+)")  # of a lesson
Notes = dict[str, list[str]]  # section -> paragraphs of markdown; "" is the whole lesson


def main(lessons: list[Path], output: Path = ROOT / "build" / "slides") -> int:
    """Build decks for the named lessons; returns 0. Raises CourseError where `output` cannot be written."""
    index = build(lessons, output)
    print(f"Open {index} in a browser. Arrow keys move, S shows the speaker's notes, F fills the screen.")
    return 0


def build(lessons: list[Path], output: Path, guide: Path = GUIDE) -> Path:
    """Write a deck for each lesson, what the decks load, and a page that lists them; returns that page.

    Raises CourseError where `output` cannot be written, or a lesson not be read.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with Given(output) as given:
            for file in [*REVEAL.iterdir(), DECK / "deck.css", DECK / "deck.js"]:
                given.put(f"assets/{file.name}", file.read_bytes())
            for path in lessons:
                given.put(f"{path.stem}.html", deck(path, guide))
                print(f"{path.stem}: {output / path.stem}.html", flush=True)
            decks = [path for path in lesson_paths() if (output / f"{path.stem}.html").is_file()]
            titles = [(f"{path.stem}.html", title(read(path))) for path in decks]
            page = Environment(loader=FileSystemLoader(DECK), autoescape=True).get_template("list.html.j2")
            given.put("index.html", page.render(decks=titles))
    except OSError as error:
        reason = f"cannot write {error.filename or output}: {error.strerror or error}"
        raise CourseError(f"{reason}. Choose another folder with --output") from None
    return (output / "index.html").resolve()


def deck(path: Path, guide: Path = GUIDE) -> str:
    """The HTML page of one lesson's deck."""
    notebook = read(with_results(path))
    prepare(notebook.cells)
    place_notes(notebook.cells, read_notes(path.stem[:2], guide))
    exporter = SlidesExporter(template_name="deck", extra_template_basedirs=[str(DECK.parent)])
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    exporter.register_preprocessor(TagRemovePreprocessor(remove_input_tags={HIDDEN}), enabled=True)
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title(notebook)}})
    return in_words(page, notebook)


def prepare(cells: list[NotebookNode]) -> None:
    """Make a deck of a lesson's cells, in place: clean them, and write slide types of slides without end.

    Code is seen with the text above it: a guess needs it. Its output comes after a click, by the template.
    """
    for cell in cells:
        if cell.cell_type == "markdown":
            source = IMAGE.sub(r"\1", BADGE.sub("", cell.source))
            # links to lessons lead to their decks, others stay a name
            cell.source = OTHER_LINK.sub(r"\1", LESSON_LINK.sub(r"](\1.html)", source))
        elif cell.cell_type == "code":
            _clean(cell)
    write_types(cells, room=math.inf)
    for before, cell in pairwise(cells):
        seen = before.cell_type == "markdown" or HIDDEN in cell.metadata.get("tags", [])
        if cell.cell_type == "code" and seen and type_of(cell) == "fragment":
            del cell.metadata["slideshow"]


def _clean(cell: NotebookNode) -> None:
    """Take away what no audience needs: the setup's code, and feedback on an open exercise."""
    cell.source = FOR_LINTERS.sub("", cell.source)
    if cell.id == "setup":
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), HIDDEN]
    if "exercise." in cell.source:
        cell.outputs = [output for output in cell.outputs if "text/html" not in output.get("data", {})]
    for output in cell.outputs:
        if output.output_type == "error":
            output.traceback = _shorten("\n".join(output.traceback).splitlines())


def _shorten(rows: list[str]) -> list[str]:
    """The beginning and the end of a traceback, where it is too long for a slide."""
    left_out = len(rows) - HEAD_ROWS - TAIL_ROWS
    if left_out < 5:
        return rows
    return [*rows[:HEAD_ROWS], f"  ... {left_out} lines that this slide leaves out ...", *rows[-TAIL_ROWS:]]


def title(notebook: NotebookNode) -> str:
    """The lesson's title, as its first heading has it."""
    return notebook.cells[0].source.partition("\n")[0].lstrip("# ")


def read_notes(number: str, guide: Path = GUIDE) -> Notes:
    """The notes of lesson `number` ("03"); empty where there is no guide or the lesson is not in it.

    Below a heading `### Lesson 03: ...` of the guide stand list items that begin with a bold label.
    `- **Section 2:** ...` or `- **Section "Two GPUs":** ...` belongs to that section (`## 2. ...`,
    `## Two GPUs`); every other label (Point, Ask, Goes wrong, Exercise) belongs to the whole lesson.
    """
    text = guide.read_text(encoding="utf-8", errors="replace") if guide.is_file() else ""
    notes: Notes = {}
    for lesson, body in LESSON.findall(text):
        for item in ITEM.findall(body) if lesson == number else ():
            section = ABOUT.match(item)
            key = (section[1] or section[2]) if section else ""
            notes.setdefault(key, []).append(item[section.end() :] if section else item)
    return notes


def place_notes(cells: list[NotebookNode], notes: Notes) -> set[str]:
    """Put each note on the first slide of its section, the others on the title slide.

    Returns the sections that the notes name and the lesson does not have.
    """
    unplaced = dict(notes)
    own = unplaced.pop("", [])
    for cell in cells:
        opened = SECTION.match(cell.source)  # the guide may speak of its number or of its title
        for name in set(opened.groups() if opened else ()) & set(unplaced):
            cell.metadata["speaker_notes"] = markdown2html("\n\n".join(unplaced.pop(name)))
    rest = [f"**{name}:** {text}" for name, texts in unplaced.items() for text in texts]
    cells[0].metadata["speaker_notes"] = markdown2html("\n\n".join([*own, *rest]))
    return set(unplaced)
