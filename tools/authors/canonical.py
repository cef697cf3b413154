"""The one byte form of a lesson's two files: the same content is the same bytes, without what a machine adds.

- notebooks/NAME.ipynb has no outputs and no execution counts, for its reader guesses first;
  notebooks/executed/NAME.ipynb has the same cells, and their outputs.
- nbformat 4.5; of the metadata only notebook_metadata.toml and CELL_KEYS. The code of a cell tagged
  remove-input is folded away in JupyterLab; a click on its dots shows it.
- A cell keeps the id that it has; a cell without one, as Colab writes them, gets one.
- Each cell has the slide type of tools/classroom/slide_types.py.
- The execution count of a code cell that has been run is its place, as after Run All.
- Outputs: neighbouring pieces of a stream joined; without metadata (but for a picture's alternative text),
  what a progress bar has wiped away, widget state, memory addresses and paths of the machine.
"""

import re
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from itertools import groupby
from pathlib import Path

import nbformat
from classroom.slide_types import write_types
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat import NotebookNode
from nbval.plugin import coalesce_streams
from start.runner import read

from course_utils.data import files
from course_utils.lessons import executed

METADATA_FILE = Path(__file__).with_name("notebook_metadata.toml")
SANITIZE_FILE = Path(__file__).with_name("nbval_sanitize.cfg")  # nbval's format: pytest reads it as well
SANITIZE = re.findall(r"^regex: (.*)\nreplace: (.*)$", SANITIZE_FILE.read_text(encoding="utf-8"), re.M)
NOTEBOOK_METADATA = tomllib.loads(METADATA_FILE.read_text(encoding="utf-8"))
__all__ = ["read"]
CELL_KEYS = ("tags", "reason", "slideshow")
WIDGET_TYPES = {"application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"}

WIPED_BAR = re.compile(r"^ +\r", re.M)  # the blanks that a progress bar prints over itself in the end


def to_text(notebook: NotebookNode) -> str:
    """The text of a notebook file, valid by nbformat's schema."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def stale(texts: Mapping[Path, str]) -> dict[Path, str]:
    """Those texts that their files do not have."""
    return {
        file: text for file, text in texts.items() if not file.is_file() or file.read_bytes() != text.encode()
    }


def write(texts: Mapping[Path, str]) -> None:
    """Write files with the same bytes on every system; their folders are made where they are missing."""
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write(file, text)


def canonical(notebook: NotebookNode) -> NotebookNode:
    """A canonical copy of `notebook`; applying it twice changes nothing."""
    result = nbformat.v4.upgrade(deepcopy(notebook))
    result.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    for cell in result.cells:
        _clean_cell(cell)
    write_types(result.cells)
    code = [cell for cell in result.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        for counted in (cell, *cell.outputs):
            if counted.get("execution_count") is not None:
                counted.execution_count = number
    return result


def both_files(path: Path, notebook: NotebookNode, run: NotebookNode | None = None) -> dict[Path, str]:
    """The texts of a lesson's two files, by their paths; the outputs are those of `run`, if there was one."""
    # once for ids and code, by which outputs are found; again for the slides, which need room for outputs
    complete = canonical(with_outputs(canonical(notebook), run))
    return {path: to_text(without_outputs(complete)), executed(path): to_text(complete)}


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy that tells no answers."""
    return ClearOutputPreprocessor().preprocess(deepcopy(notebook), {})[0]


def with_outputs(notebook: NotebookNode, run: NotebookNode | None) -> NotebookNode:
    """A copy with the outputs of those cells of `run` that have the same id and the same code."""
    result = deepcopy(notebook)
    known = {(cell.id, cell.source, cell.cell_type): cell for cell in run.cells} if run else {}
    for cell in result.cells:
        if cell.cell_type == "code" and (ran := known.get((cell.id, cell.source, "code"))):
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
    if output.output_type == "stream":
        output.text = scrub(WIPED_BAR.sub("", output.text))
    elif output.output_type == "error":
        output.evalue = scrub(output.evalue)
        output.traceback = [scrub(line) for line in output.traceback]
    else:
        alts = {mime: alt for mime in output.data if (alt := output.metadata.get(mime, {}).get("alt"))}
        output.metadata = nbformat.from_dict({mime: {"alt": alt} for mime, alt in alts.items()})
        kept = {mime: data for mime, data in output.data.items() if mime not in WIDGET_TYPES}
        scrubbed = {mime: scrub(text) for mime, text in kept.items() if mime.startswith("text/")}
        output.data = nbformat.from_dict(kept | scrubbed)
    return output


def scrub(text: str) -> str:
    """Replace memory addresses and machine paths in an output's text."""
    for pattern, replacement in SANITIZE:
        text = re.sub(pattern, replacement, text)
    return text
