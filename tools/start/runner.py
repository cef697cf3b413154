"""Running notebooks without a browser: the readers', the rehearsal's, the authors', and Colab's imitation."""

import asyncio
import os
import platform
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from textwrap import indent
from typing import Any
from unittest.mock import Mock

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.client import CellExecutionComplete
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat import NotebookNode
from tqdm import tqdm

from course_utils.data.files import write
from course_utils.figures.text import in_words
from course_utils.lessons import ROOT, CourseError

OUTPUT = ROOT / "build" / "lessons"
SETTINGS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
X86 = platform.machine() in {"x86_64", "AMD64"}  # the stored outputs' machine; others round otherwise
SILENCE = 30.0  # seconds without a message, after which the kernel is asked whether it still works


class NoAnswer(DeadKernelError):
    """The kernel is idle, but what a cell came to has not arrived; rare, and gone when tried again."""


class _Client(NotebookClient):
    """nbclient's, which would wait for ever for a message that was lost; see nbclient's issue 312."""

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: NotebookNode, cell_index: int) -> None:
        """Take a cell's outputs until the kernel says that it is idle, unasked or asked."""
        asked = None
        while True:
            try:
                message = await self.kc.iopub_channel.get_msg(timeout=SILENCE)
            except Empty:
                asked = self.kc.kernel_info()  # answered when the cell is done
                continue
            if message["parent_header"].get("msg_id") == parent_msg_id:
                try:
                    self.process_message(message, cell, cell_index)
                except CellExecutionComplete:
                    return
            elif message["parent_header"].get("msg_id") == asked:
                return

    async def _async_poll_for_reply(self, msg_id: str, cell: NotebookNode, *rest: Any) -> dict[str, Any]:
        """Wait for a cell's reply, but not long after the kernel is idle."""
        reply = asyncio.ensure_future(super()._async_poll_for_reply(msg_id, cell, *rest))
        _, outputs, _ = rest
        try:
            await asyncio.wait({reply, outputs}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({reply}, timeout=SILENCE)
            if not reply.done():
                raise NoAnswer(f"The kernel is idle, and for {SILENCE:.0f} s nothing has come from this cell")
            return reply.result()
        finally:
            reply.cancel()


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
    client = _Client(notebook, km=kernel, resources=where, **options)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # the kernel's own; not its cells'

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # nbclient takes the end of its tasks for a dead kernel
        # nbclient's own handlers would make Ctrl-C look like a failed lesson; it goes on without them
        loop.add_signal_handler = Mock(side_effect=NotImplementedError)
        try:
            await client.async_execute(env=env, cleanup_kc=True, **quiet)
        finally:
            if kernel.has_kernel:  # it was stopped before nbclient saw to it
                await kernel.shutdown_kernel(now=True)

    with _stoppable():
        asyncio.run(run())


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM stop a run as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    if X86:  # elsewhere torch warns about the names
        # torch.compile's cache does not ask for these: code made for AVX-512 would compute nonsense here
        settings |= SETTINGS["x86"] | {"TORCHINDUCTOR_CACHE_DIR": str(ROOT / "build" / "torchinductor-avx2")}
    return settings


def run_lessons(lessons: list[Path], output: Path = OUTPUT) -> int:
    """Run every lesson, also after one has failed; return 0 where all ran to their end, else 1.

    The notebooks stay as they are; `output` gets an executed copy and an HTML page of each, failed or not.
    Raises OSError, before anything is run, where `output` cannot be made.
    """
    output.mkdir(parents=True, exist_ok=True)
    failures = 0
    for path in lessons:
        notebook, failure, seconds = attempt(path, kernel_environment())
        try:
            save(notebook, output / path.name)
        except OSError as error:
            failure += f"\n  its copy and page cannot be written to {output}: {error.strerror}"
        print(f"{path.stem:<28}{seconds:8.1f} s  {'FAILED' if failure else 'ok'}{failure}", flush=True)
        failures += bool(failure)
    print(f"{len(lessons) - failures} of {len(lessons)} lessons ran to their end. Copies and pages: {output}")
    return 1 if failures else 0


def read(path: Path) -> NotebookNode:
    """Read a notebook as nbformat 4, whatever its version; raises CourseError where the file is none."""
    try:
        notebook = nbformat.read(path, as_version=4)
        reason = "" if notebook.cells else "it has no cells"
    except Exception as error:  # nbformat raises its own and json's errors; the reader needs only one
        reason = str(error).splitlines()[0][:200]
    if reason:
        raise CourseError(f"{path.name} is not a readable notebook: {reason}")
    return notebook


def attempt(path: Path, env: Mapping[str, str], *, again: bool = True) -> tuple[NotebookNode, str, float]:
    """Run a lesson, with a bar; return the executed notebook, the cell that failed if any, and seconds.

    One whose kernel does not answer is tried once more.
    """
    started, begun, reason = time.perf_counter(), [], ""
    try:
        notebook = read(path)
    except CourseError as error:
        return nbformat.v4.new_notebook(), f"\n    {error}", 0.0
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
        except NoAnswer as error:
            reason = str(error)
            if again:
                print(f"{path.stem}, cell [{len(begun)}]: {reason}. The lesson is tried again.", flush=True)
                return attempt(path, env, again=False)
        except RuntimeError as error:
            reason = f"{error}. The usual reason is that the machine ran out of memory."
    if reason:
        source = begun[-1].source if begun else "no cell was reached"
        reason = f"\n  cell [{len(begun)}]\n{indent(source, ' ' * 6)}\n{indent(reason, ' ' * 4)}"
    return notebook, reason, time.perf_counter() - started


def save(notebook: NotebookNode, target: Path) -> None:
    """Write an executed notebook to `target` and an HTML page beside it."""
    write(target, nbformat.writes(notebook) + "\n")
    page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": target.stem}})
    write(target.with_suffix(".html"), in_words(page, notebook))
