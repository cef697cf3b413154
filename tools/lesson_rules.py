"""What every lesson has in common, and the checks that hold it.

The first cell (markdown, id `head`) reads, with one blank line between its four lines:

    # Lesson 01: Device basics

    [![Open in Colab](...)](...) [With its results](...)   written by `fix` and by tools/badges.py

    **After this lesson you can** one sentence, which is also the lesson's row in the tables.

    **Time:** about 20 minutes. **Needs:** what the reader has to have or know.

Anything may follow. The second cell (code, id `setup`) is tools/setup_cell.txt with the lesson's name,
written by `fix`. Headings, heights and pictures of all cells: tools/comfort.py.

Tags a cell may carry; those with a star need a `"reason": "..."` beside the tags in the cell's metadata,
one sentence saying why, and no other cell has a reason:

    nbval-ignore-output *   it runs, but its output is not compared: times, names of hardware
    nbval-skip *            the tests do not run it
    close-numbers *         its numbers may be off by a tenth: training makes much of how a CPU rounds
    uses-answer *           it prints what the reader's own function does: not compared once that is solved
    long-cell *             more than 15 lines of code
    nbval-check-output      its output is compared even when all others are not (pytest --nbval-lax)
    raises-exception        a deliberate error: the type and the message are compared, the traceback is not
    remove-input            its code teaches nothing: folded in JupyterLab, left out of slides and pages
    slideshow-...           another slide type than the rule's (tools/classroom/slide_types.py)
"""

import ast
import re
from functools import cache
from pathlib import Path

import canonical
import comfort
import exercise_cells
import nbformat
from canonical import is_readable_id
from classroom import slide_types
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbval.plugin import comment_markers
from project import LESSON_NAME, ROOT, Repository, read_repository

from course_utils.lessons import executed

REASONED_TAGS = {
    "nbval-ignore-output",
    "nbval-skip",
    "close-numbers",
    "uses-answer",
    "long-cell",
}
TAGS = REASONED_TAGS | {"nbval-check-output", "raises-exception", "remove-input"} | slide_types.TAGS
CODE_LINES = 15
IMAGE_BYTES = 150_000
NOTEBOOK_BYTES = 1_500_000

HEAD = re.compile(
    r"# Lesson (?P<number>\d\d): (?P<title>\S.*)\n\n"
    r"(?P<badge>\[!\[.*)\n\n"
    r"\*\*After this lesson you can\*\* (?P<outcome>\S.*\.)\n\n"
    r"\*\*Time:\*\* (?P<time>about \d+ minutes)\. \*\*Needs:\*\* (?P<needs>\S.*)(?:\n|$)"
)
BADGE_LINE = re.compile(r"\A(# Lesson .*)\n\n(?:\[!\[.*\n\n)?")
PATH_EDIT = re.compile(r"\bsys\.path\b\s*(?:\[|\+?=|\.(?:append|insert|extend))|\bsite\.addsitedir\b")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MACHINE_PATH = re.compile(
    r"(?<![\w.~/-])/(?:home|root|Users|tmp|work|opt|usr|mnt|var|private)/|\b[A-Za-z]:\\\w"
)


def badge(name: str, repository: Repository) -> str:
    """The badge that opens lesson `name` in Colab, as markdown."""
    url = f"https://colab.research.google.com/github/{repository.slug}/blob/{repository.ref}/notebooks/{name}.ipynb"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({url})"


def opening_links(name: str, repository: Repository) -> str:
    """The badge of lesson `name`, and a link to the page that shows what it prints.

    In full: both files of a lesson have the same text, and in Colab there is no folder around it.
    """
    page = f"https://github.com/{repository.slug}/blob/{repository.ref}/notebooks/executed/{name}.ipynb"
    return f"{badge(name, repository)} [With its results]({page})"


@cache
def _setup_template() -> str:
    return (ROOT / "tools" / "setup_cell.txt").read_text(encoding="utf-8").strip("\n")


def setup_source(name: str, repository: Repository) -> str:
    """The code of the setup cell of lesson `name`."""
    text = _setup_template().replace("{repository}", repository.slug).replace("{ref}", repository.ref)
    return text.replace("{lesson}", name)


def write_common_cells(notebook: NotebookNode, name: str, repository: Repository | None = None) -> None:
    """Put the badge into the head cell, the setup cell behind it, and write the exercises' cells, in place.

    Outputs stay: pytest compares them. Raises ValueError where the first cell is no lesson head, or an
    exercise has no cells.
    """
    repository = repository or read_repository()
    cells = notebook.cells
    if not cells or cells[0].cell_type != "markdown" or not BADGE_LINE.match(cells[0].source):
        raise ValueError(f"{name}: the first cell must be markdown and begin with '# Lesson NN: title'")
    head, links = cells[0], opening_links(name, repository)
    head.id = "head"
    head.source = BADGE_LINE.sub(lambda found: f"{found[1]}\n\n{links}\n\n", head.source)
    if len(cells) < 2 or cells[1].cell_type != "code" or "course_utils.start(" not in cells[1].source:
        cells.insert(1, nbformat.v4.new_code_cell())
    cells[1].id = "setup"
    cells[1].source = setup_source(name, repository)
    exercise_cells.write_exercises(notebook)


def files(path: Path, repository: Repository | None = None) -> dict[Path, str]:
    """The texts that the two files of a lesson should have, by their paths."""
    notebook = canonical.read(path)
    stored = canonical.read(executed(path)) if executed(path).is_file() else None
    for each in filter(None, (notebook, stored)):  # in both, or the setup cell's output would be lost
        write_common_cells(each, path.stem, repository)
    return canonical.both_files(path, notebook, stored)


def new_lesson(name: str, title: str) -> NotebookNode:
    """An empty lesson: the head to fill in and the setup cell."""
    found = LESSON_NAME.fullmatch(name)
    if not found:
        raise ValueError(f"a lesson's name reads like 01_device_basics, not {name!r}")
    head = (
        f"# Lesson {found['number']}: {title}\n\n"
        "**After this lesson you can** say in one sentence what the reader can do.\n\n"
        "**Time:** about 20 minutes. **Needs:** nothing but this notebook."
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(head)])
    write_common_cells(notebook, name)
    return notebook


def problems(notebook: NotebookNode, path: Path) -> list[str]:
    """Everything in a canonical notebook that breaks a rule, one line each."""
    name = path.stem
    found = [f"cell {cell.id!r}: {text}" for cell in notebook.cells for text in _cell_problems(cell)]
    size = len(nbformat.writes(notebook).encode())
    if size > NOTEBOOK_BYTES:
        found.append(f"{size / 1e6:.1f} MB on disk, at most {NOTEBOOK_BYTES / 1e6} MB")
    found += comfort.problems(notebook) + exercise_cells.problems(notebook)
    return [f"{path.name}: {text}" for text in [*_first_cell_problems(notebook, name), *found]]


def _first_cell_problems(notebook: NotebookNode, name: str) -> list[str]:
    named = LESSON_NAME.fullmatch(name)
    if not named:
        return ["the file's name must read like 01_device_basics.ipynb"]
    found = []
    sources = [cell.source for cell in notebook.cells] + ["", ""]
    repository = read_repository()
    head = HEAD.match(sources[0])
    if not head:
        found.append("the first cell does not follow the skeleton in tools/lesson_rules.py")
    elif head["number"] != named["number"]:
        found.append(f"the title says lesson {head['number']}, the file's name {named['number']}")
    elif head["badge"] != opening_links(name, repository):
        found.append("the badge is not this lesson's; run: python tools/notebooks.py fix")
    if sources[1] != setup_source(name, repository):
        found.append("the second cell is not the setup cell; run: python tools/notebooks.py fix")
    return found


def _cell_problems(cell: NotebookNode) -> list[str]:
    found = _tag_problems(cell)
    if not is_readable_id(cell.id):
        found.append("the id is not readable (words joined by dashes)")
    if not cell.source.strip():
        found.append("is empty")
    elif cell.cell_type == "code":
        found += _code_problems(cell) + _output_problems(cell)
    return found


def _tag_problems(cell: NotebookNode) -> list[str]:
    tags = set(cell.metadata.get("tags", []))
    found = [f"tag {tag!r} is not one of {sorted(TAGS)}" for tag in sorted(tags - TAGS)]
    needs_reason = sorted(tags & REASONED_TAGS)
    reason = cell.metadata.get("reason", "")
    if needs_reason and len(str(reason).split()) < 3:
        found.append(f"tag {needs_reason[0]!r} needs a reason of a few words in the cell's metadata")
    if reason and not needs_reason:
        found.append("has a reason but no tag that needs one")
    markers = [line for line in cell.source.splitlines() if line.strip().lstrip("# ") in comment_markers]
    if cell.cell_type == "code" and markers:
        found.append(f"marks itself by the comment {markers[0].strip()!r}; use a tag and a reason")
    return found


def _code_problems(cell: NotebookNode) -> list[str]:
    found = []
    lines = cell.source.splitlines()
    tags = cell.metadata.get("tags", [])
    if (len(lines) > CODE_LINES) != ("long-cell" in tags):
        found.append(f"{len(lines)} lines: more than {CODE_LINES} need the tag 'long-cell', fewer must not")
    if any(line.rstrip().endswith(";") for line in lines):
        found.append("a line ends with a semicolon, which a test run ignores; write `_ = ...` or plt.show()")
    if PATH_EDIT.search(cell.source):
        found.append("edits sys.path; the setup cell makes the package importable")
    if _does_nothing(cell.source):
        found.append("does nothing")
    if cell.execution_count is None:
        found.append("has not been run; run: python tools/notebooks.py run")
    return found


def _does_nothing(source: str) -> bool:
    try:
        body = ast.parse(TransformerManager().transform_cell(source)).body
    except SyntaxError:  # a deliberate one; an accidental one fails when the lesson runs
        return False
    return all(isinstance(node, ast.Pass) for node in body)


def _shown_text(output: NotebookNode) -> str:
    texts = [str(data) for mime, data in output.get("data", {}).items() if not mime.startswith("image/")]
    texts += [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    return "\n".join(COLOUR.sub(" ", text) for text in texts)


def _output_problems(cell: NotebookNode) -> list[str]:
    found = []
    for output in cell.outputs:
        for mime, data in output.get("data", {}).items():
            if mime.startswith("image/") and len(data) * 3 // 4 > IMAGE_BYTES:
                found.append(f"a picture of {len(data) * 3 // 4000} kB, at most {IMAGE_BYTES // 1000} kB")
        text = _shown_text(output)
        leak = MACHINE_PATH.search(text)
        if leak:
            found.append(f"the output shows a path of this machine: {text[leak.start() :][:60]!r}")
    failed = any(output.output_type == "error" for output in cell.outputs)
    if failed != ("raises-exception" in cell.metadata.get("tags", [])):
        found.append("must show an error if, and only if, it is tagged 'raises-exception'")
    return found
