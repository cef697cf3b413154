"""`python3 -m course_utils slides`: one deck of slides per lesson, to be opened without a network.

A deck is one HTML page; what it loads (reveal.js, the course's style) lies beside it in `assets`. It shows
the outputs that are stored in notebooks/executed. The slide types are the notebook's own (tools/slideshow.py
writes them). The key S opens the speaker's view with the notes of docs/instructors_guide.md.
"""

import importlib.util
import shutil
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader
from nbconvert import SlidesExporter
from nbconvert.filters import markdown2html
from nbformat import NotebookNode
from start.options import slides as options_of
from traitlets.config import Config

from classroom.notes import GUIDE, Notes, read_notes, section_of
from classroom.slide_cells import HIDDEN, deck_cells
from course_utils.figures.text import in_words
from course_utils.lessons import CourseError, choose, lesson_paths, with_results

DECK = Path(__file__).with_name("deck")


def main(arguments: list[str]) -> int:
    """Build decks for the named lessons, all by default; returns 0.

    Raises CourseError for an unknown lesson or a folder that cannot be written.
    """
    options = options_of(arguments)
    index = build(choose(options.lessons), options.output)
    print(f"Open {index} in a browser. Arrow keys move, S shows the speaker's notes, F fills the screen.")
    return 0


def build(lessons: list[Path], output: Path, guide: Path = GUIDE) -> Path:
    """Write a deck for each lesson, what the decks load, and a page that lists them; returns that page.

    Raises CourseError where `output` cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        copy_assets(output / "assets")
        for path in lessons:
            target = output / f"{path.stem}.html"
            target.write_text(deck(path, guide), encoding="utf-8")
            print(f"{path.stem}: {target}", flush=True)
        index = output / "index.html"
        index.write_text(index_page(output), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise CourseError(f"cannot write {output}: {reason}. Choose another folder with --output") from None
    return index.resolve()


def copy_assets(folder: Path) -> None:
    """Copy reveal.js with its speaker's view, its licence and the course's own style into `folder`."""
    found = importlib.util.find_spec("sphinx_revealjs")  # only its files are wanted, not Sphinx
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("no reveal.js", name="sphinx-revealjs")
    reveal = Path(found.submodule_search_locations[0]) / "_static" / "revealjs"
    shutil.copytree(reveal / "plugin" / "notes", folder / "notes", dirs_exist_ok=True)
    files = [reveal / "dist" / "reveal.js", reveal / "dist" / "reveal.css", reveal / "LICENSE"]
    for file in [*files, DECK / "deck.css", DECK / "deck.js"]:
        shutil.copyfile(file, folder / file.name)


def deck(path: Path, guide: Path = GUIDE) -> str:
    """The HTML page of one lesson's deck."""
    notebook = nbformat.read(with_results(path), as_version=4)
    notebook.cells = deck_cells(notebook.cells)
    place_notes(notebook.cells, read_notes(path.stem[:2], guide))
    settings = Config()
    settings.SlidesExporter.preprocessors = ["nbconvert.preprocessors.TagRemovePreprocessor"]
    settings.TagRemovePreprocessor.remove_input_tags = {HIDDEN}
    exporter = SlidesExporter(
        config=settings, template_name="deck", extra_template_basedirs=[str(DECK.parent)]
    )
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title(notebook)}})
    return in_words(page, notebook)


def title(notebook: NotebookNode) -> str:
    """The lesson's title, as its first heading has it."""
    return notebook.cells[0].source.splitlines()[0].lstrip("# ")


def place_notes(cells: list[NotebookNode], notes: Notes) -> set[str]:
    """Put each note on the first slide of its section, the others on the title slide.

    Returns the sections that the notes name and the lesson does not have.
    """
    unplaced = dict(notes)
    own = unplaced.pop("", [])
    for cell in cells:
        for name in section_of(cell.source) & set(unplaced):
            cell.metadata["speaker_notes"] = _html(unplaced.pop(name))
    rest = [f"**{name}:** {text}" for name, texts in unplaced.items() for text in texts]
    cells[0].metadata["speaker_notes"] = _html([*own, *rest])
    return set(unplaced)


def _html(paragraphs: list[str]) -> str:
    return markdown2html("\n\n".join(paragraphs))


def index_page(folder: Path) -> str:
    """The page that lists the decks which lie in `folder`."""
    decks = [path for path in lesson_paths() if (folder / f"{path.stem}.html").is_file()]
    titles = [(f"{path.stem}.html", title(nbformat.read(path, as_version=4))) for path in decks]
    environment = Environment(loader=FileSystemLoader(DECK), autoescape=True)
    return environment.get_template("list.html.j2").render(decks=titles)
