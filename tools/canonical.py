"""The one byte form of a notebook: the same content is the same file, and nothing machine-made is kept.

- nbformat 4.5, written by `nbformat.writes` plus a newline.
- Notebook metadata: exactly `NOTEBOOK_METADATA` (Colab with a T4, kernel python3, no Python version, slides).
- Cell metadata: only `CELL_KEYS`. Colab's, JupyterLab's and nbclient's own keys and timestamps go. The code
  of a cell tagged remove-input is folded away in JupyterLab; a click on its dots shows it.
- Cell ids: readable and stable. A kebab-case id an author chose stays. A random one is replaced by
  the slug of the section's heading, with a number for the cells after the heading.
- Slides: text cells are cut to what fits on one (tools/slideshow.py), and each cell has the slide type of
  tools/classroom/slide_types.py. An author writes neither.
- A lesson is two files: notebooks/NAME.ipynb has no outputs and no execution counts, for its reader guesses
  first; notebooks/executed/NAME.ipynb has the same cells, and their outputs.
- Execution counts 1..n once every code cell has been run, else none is touched.
- Outputs: neighbouring pieces of a stream joined; without metadata (but for a picture's alternative
  text), what a progress bar has wiped away, widget state, memory addresses and
  paths of the machine (patterns in tools/nbval_sanitize.cfg, which pytest uses too).
"""

import re
from copy import deepcopy
from itertools import groupby
from pathlib import Path

import nbformat
from classroom.slide_types import write_types
from nbformat import NotebookNode
from nbval.plugin import coalesce_streams
from scrubbing import scrub
from slideshow import cut

from course_utils.lessons import executed

NOTEBOOK_METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
    # as slides inside JupyterLab; sizes and colours are in notebooks/rise.css
    "rise": {"center": False, "scroll": True, "start_slideshow_at": "beginning", "theme": "white"},
}
CELL_KEYS = ("tags", "reason", "slideshow")
WIDGET_TYPES = ("application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json")

READABLE_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
RANDOM_ID = re.compile(r"[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?")
WIPED_BAR = re.compile(r"^ +\r", re.M)  # the blanks that a progress bar prints over itself in the end
HEADING = re.compile(r"^#+ +(.+)$", re.M)
ID_LENGTH = 40


def read(path: Path) -> NotebookNode:
    """Read a notebook as nbformat 4, whatever its version; raises ValueError where the file is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own and json's errors; the reader needs only one
        raise ValueError(f"{path.name} is not a readable notebook: {error}") from error


def to_text(notebook: NotebookNode) -> str:
    """The text of a notebook file, valid by nbformat's schema."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def canonical(notebook: NotebookNode) -> NotebookNode:
    """A canonical copy of `notebook`; applying it twice changes nothing."""
    result = deepcopy(notebook)
    result.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    result.nbformat, result.nbformat_minor = 4, 5
    for cell in result.cells:
        _clean_cell(cell)
    result.cells = cut(result.cells)
    _name_cells(result.cells)
    write_types(result.cells)
    _count_executions(result.cells)
    return result


def both_files(path: Path, notebook: NotebookNode, run: NotebookNode | None = None) -> dict[Path, str]:
    """The texts of a lesson's two files, by their paths.

    Args:
        path: of the file that a reader opens.
        notebook: the cells.
        run: where the outputs come from; by default the executed file that is there.
    """
    stored = executed(path)
    if run is None and stored.is_file():
        run = read(stored)
    # once for the cells' ids, by which outputs are found; again for the slides, which need room for outputs
    complete = canonical(with_outputs(canonical(notebook), run))
    return {path: to_text(without_outputs(complete)), stored: to_text(complete)}


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy that tells no answers."""
    result = deepcopy(notebook)
    for cell in result.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return result


def with_outputs(notebook: NotebookNode, run: NotebookNode | None) -> NotebookNode:
    """A copy with the outputs of those cells of `run` that have the same id and the same code."""
    result = deepcopy(notebook)
    known = {(cell.id, cell.source): cell for cell in run.cells if cell.cell_type == "code"} if run else {}
    for cell in result.cells:
        if cell.cell_type == "code" and (ran := known.get((cell.id, cell.source))):
            cell.outputs, cell.execution_count = deepcopy(ran.outputs), ran.execution_count
    return result


def _clean_cell(cell: NotebookNode) -> None:
    cell.source = cell.source.strip("\n")
    kept = {key: cell.metadata[key] for key in CELL_KEYS if cell.metadata.get(key)}
    if "remove-input" in cell.metadata.get("tags", []):
        kept["jupyter"] = {"source_hidden": True}
    cell.metadata = nbformat.from_dict(kept)
    if cell.cell_type == "code":
        cell.outputs = clean_outputs(cell.outputs)


def clean_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without what belongs to the machine or the run; a stream may come in pieces of any size."""
    groups = groupby(deepcopy(outputs), key=lambda output: (output.output_type, output.get("name")))
    cleaned = [_clean_output(output) for _, group in groups for output in coalesce_streams(list(group))]
    return [output for output in cleaned if output.output_type != "stream" or output.text]


def _clean_output(output: NotebookNode) -> NotebookNode:
    if "metadata" in output:
        output.metadata = _alternative_texts(output.metadata)
    if output.output_type == "stream":
        output.text = scrub(WIPED_BAR.sub("", output.text))
    elif output.output_type == "error":
        output.evalue = scrub(output.evalue)
        output.traceback = [scrub(line) for line in output.traceback]
    else:
        for mime in WIDGET_TYPES:
            output.data.pop(mime, None)
        for mime in [mime for mime in output.data if mime.startswith("text/")]:
            output.data[mime] = scrub(output.data[mime])
    return output


def _alternative_texts(metadata: NotebookNode) -> NotebookNode:
    pictures = {mime: about for mime, about in metadata.items() if mime.startswith("image/")}
    kept = {mime: {"alt": about["alt"]} for mime, about in pictures.items() if about.get("alt")}
    return nbformat.from_dict(kept)


def slug(text: str) -> str:
    """A readable cell id from a heading: lower case, words joined by dashes, at most 40 characters."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    name = ""
    for word in words:
        if len(name) + len(word) + 1 > ID_LENGTH:
            break
        name = f"{name}-{word}" if name else word
    return name if READABLE_ID.fullmatch(name) else f"part-{name}".rstrip("-")


def is_readable_id(cell_id: str) -> bool:
    """Whether a person chose this id: kebab-case, and not what Jupyter or Colab draw at random."""
    return bool(READABLE_ID.fullmatch(cell_id)) and not RANDOM_ID.fullmatch(cell_id)


def _name_cells(cells: list[NotebookNode]) -> None:
    taken: set[str] = set()
    kept = []
    for cell in cells:
        keep = is_readable_id(cell.get("id", "")) and cell.id not in taken
        kept.append(keep)
        if keep:
            taken.add(cell.id)
    section = "start"
    for cell, keep in zip(cells, kept, strict=True):
        heading = HEADING.search(cell.source) if cell.cell_type == "markdown" else None
        if heading:
            section = slug(heading[1])
        if not keep:
            cell.id = _free_id(section, taken)
            taken.add(cell.id)


def _free_id(name: str, taken: set[str]) -> str:
    number = 2
    candidate = name
    while candidate in taken:
        candidate = f"{name}-{number}"
        number += 1
    return candidate


def _count_executions(cells: list[NotebookNode]) -> None:
    code = [cell for cell in cells if cell.cell_type == "code"]
    if any(cell.execution_count is None for cell in code):
        return
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
