"""Running lessons without a browser, each in a fresh kernel; copies and HTML pages go to build/lessons."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import indent

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from tqdm import tqdm

from course_utils.figures.text import in_words
from course_utils.lessons import ROOT

OUTPUT = ROOT / "build" / "lessons"


class OwnKernel(AsyncKernelManager):
    """A kernel of the running interpreter; one registered as python3 may belong to another environment."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """How to start it, whatever name the notebook asks for."""
        start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=start, display_name="Python 3", language="python")


def run_lessons(lessons: list[Path], output: Path = OUTPUT) -> int:
    """Run every lesson, also after one has failed; return 0 where all ran to their end, else 1.

    The notebooks stay as they are; `output` gets an executed copy and an HTML page of each, failed or not.
    """
    failures = 0
    for path in lessons:
        started = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        failure = execute(notebook, path)
        seconds = time.perf_counter() - started
        save(notebook, output / path.name)
        print(f"{path.stem:<28}{seconds:8.1f} s  {'FAILED' if failure else 'ok'}{failure}", flush=True)
        failures += bool(failure)
    print(f"{len(lessons) - failures} of {len(lessons)} lessons ran to their end. Copies and pages: {output}")
    return 1 if failures else 0


def execute(notebook: NotebookNode, path: Path, settings: Mapping[str, str] | None = None) -> str:
    """Run `notebook` in place, in the folder of `path`; report the cell that failed, or return nothing.

    `settings` are variables for its kernel, besides those of this process.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    begun: list[NotebookNode] = []
    with tqdm(total=len(code), desc=path.stem, unit="cell", leave=False, disable=None) as bar:
        client = NotebookClient(
            notebook,
            kernel_manager_class=OwnKernel,
            resources={"metadata": {"path": str(path.parent)}},
            timeout=None,
            record_timing=False,
            on_notebook_start=_let_ctrl_c_through,
            on_cell_execute=lambda cell, cell_index: begun.append(cell),
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            # the kernel's own log would tear the progress bar; what cells print comes another way
            client.execute(
                env=_kernel_environment(settings or {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except CellExecutionError as error:
            return _report(begun, f"{error.ename}: {error.evalue}")
        except RuntimeError as error:  # DeadKernelError, or one that did not start
            return _report(begun, f"{error}. The usual reason is that the machine ran out of memory.")
        except KeyboardInterrupt:
            _end_kernel()
            raise
    return ""


def save(notebook: NotebookNode, target: Path) -> None:
    """Write an executed notebook to `target` and an HTML page beside it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": target.stem}})
    target.with_suffix(".html").write_text(in_words(page, notebook), encoding="utf-8")


def _report(begun: list[NotebookNode], error: str) -> str:
    """The cell that failed (the last one begun), under the number Jupyter shows, and the error."""
    source = begun[-1].source if begun else "no cell was reached"
    return f"\n  cell [{len(begun)}]\n{indent(source, ' ' * 6)}\n{indent(error, ' ' * 4)}"


def _kernel_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's variables, COURSE_DEVICE and COURSE_DATA among them, with this checkout to import."""
    path = [str(ROOT), os.environ.get("PYTHONPATH")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "TQDM_DISABLE": "1"}  # nobody watches the bars
    return os.environ | own | dict(settings)


def _end_kernel() -> None:
    """Let a run that Ctrl-C has stopped end its kernel now; at exit nbclient does it with a traceback."""
    loop = ensure_event_loop()  # the one that nbclient runs in
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def _let_ctrl_c_through(notebook: NotebookNode) -> None:
    """Undo nbclient's own handler, which ends the kernel and would make Ctrl-C look like a failed lesson."""
    with suppress(NotImplementedError):  # Windows, where nbclient installs none
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
