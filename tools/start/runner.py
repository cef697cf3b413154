"""Running notebooks without a browser: the readers', the rehearsal's, the authors', and Colab's imitation."""

import asyncio
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import indent
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat import NotebookNode
from tqdm import tqdm

from course_utils.figures.text import in_words
from course_utils.lessons import ROOT

OUTPUT = ROOT / "build" / "lessons"
SETTINGS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def execute(
    notebook: NotebookNode, folder: Path, env: Mapping[str, str], python: str = sys.executable, **options: Any
) -> None:
    """Run a notebook in place, in `folder`, in a fresh kernel; what it held of an earlier run goes first.

    Args:
        notebook: its cells get their outputs.
        folder: where its relative paths begin.
        env: all variables of the kernel.
        python: the interpreter whose kernel it is.
        options: nbclient's, such as `timeout` (seconds for a cell) or `on_cell_executed`.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed that is not tagged `raises-exception`.
        RuntimeError: the kernel died (DeadKernelError), or did not start.
    """
    ClearOutputPreprocessor().preprocess(notebook, {})
    # no registered kernel: the one named python3 may belong to another environment
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    kernel.kernel_spec.argv[0] = python
    where = {"metadata": {"path": str(folder)}}
    options |= {"resources": where, "on_notebook_start": _let_ctrl_c_through}
    client = NotebookClient(notebook, km=kernel, **options)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # the kernel's own; not its cells'
    asyncio.run(client.async_execute(env=env, cleanup_kc=True, **quiet))  # it ends the kernel at Ctrl-C, too


def _let_ctrl_c_through(notebook: NotebookNode) -> None:
    """Undo nbclient's own handler, which ends the kernel and would make Ctrl-C look like a failed lesson."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # nbclient takes the end of its tasks for a dead kernel
    with suppress(NotImplementedError):  # Windows, where nbclient installs none
        loop.remove_signal_handler(signal.SIGINT)


def kernel_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """A reader's variables, COURSE_DEVICE and COURSE_DATA among them, with this checkout to import."""
    path = os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH")]))
    return {**environ, "PYTHONPATH": path, "TQDM_DISABLE": "1"}  # nobody watches the bars


def repeatable_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables with which a lesson prints the same on every x86 machine: what is stored and tested.

    That is: the stand-in data, virtual GPUs (unless COURSE_DEVICE is set), no progress of exercises that the
    author solved once, no buttons (they have random names), and arithmetic with the same digits.
    """
    settings = SETTINGS["usual"] | kernel_environment(environ) | SETTINGS["fixed"]
    if platform.machine() in {"x86_64", "AMD64"}:  # elsewhere torch warns about the names
        # torch.compile's cache does not ask for these: code made for AVX-512 would compute nonsense here
        compiled = Path(tempfile.gettempdir()) / f"torchinductor-avx2-{Path.home().name}"  # one a user
        settings |= SETTINGS["x86"] | {"TORCHINDUCTOR_CACHE_DIR": str(compiled)}
    return settings


def run_lessons(lessons: list[Path], output: Path = OUTPUT) -> int:
    """Run every lesson, also after one has failed; return 0 where all ran to their end, else 1.

    The notebooks stay as they are; `output` gets an executed copy and an HTML page of each, failed or not.
    """
    failures = 0
    for path in lessons:
        notebook, failure, seconds = attempt(path, kernel_environment())
        save(notebook, output / path.name)
        print(f"{path.stem:<28}{seconds:8.1f} s  {'FAILED' if failure else 'ok'}{failure}", flush=True)
        failures += bool(failure)
    print(f"{len(lessons) - failures} of {len(lessons)} lessons ran to their end. Copies and pages: {output}")
    return 1 if failures else 0


def attempt(path: Path, env: Mapping[str, str]) -> tuple[NotebookNode, str, float]:
    """Run a lesson, with a bar; return the executed notebook, the cell that failed if any, and seconds."""
    started, begun, reason = time.perf_counter(), [], ""
    notebook = nbformat.read(path, as_version=4)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=cells, desc=path.stem, unit="cell", leave=False, disable=None) as bar:
        hooks = {
            "on_cell_execute": lambda cell, cell_index: begun.append(cell),
            "on_cell_executed": lambda **_: bar.update(),
        }
        try:
            execute(notebook, path.parent, env, record_timing=False, **hooks)
        except CellExecutionError as error:
            reason = f"{error.ename}: {error.evalue}"
        except RuntimeError as error:
            reason = f"{error}. The usual reason is that the machine ran out of memory."
    if reason:
        source = begun[-1].source if begun else "no cell was reached"
        reason = f"\n  cell [{len(begun)}]\n{indent(source, ' ' * 6)}\n{indent(reason, ' ' * 4)}"
    return notebook, reason, time.perf_counter() - started


def save(notebook: NotebookNode, target: Path) -> None:
    """Write an executed notebook to `target` and an HTML page beside it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": target.stem}})
    target.with_suffix(".html").write_text(in_words(page, notebook), encoding="utf-8")
