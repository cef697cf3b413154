"""Running lessons in a fresh kernel, the way the tests do.

That is: this checkout's course_utils, the stand-in data, the virtual GPUs, and arithmetic that gives the same
digits on every x86 machine. What a child process prints is not shown: a lesson captures it and prints it.
"""

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from canonical import clean_outputs
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager
from project import ROOT

CELL_TIMEOUT = 120

# The order of a sum, and so its last digits, depends on the number of threads and the vector instructions.
SAME_DIGITS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
if platform.machine() in {"x86_64", "AMD64"}:  # elsewhere torch warns about the names
    SAME_DIGITS |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
    # torch.compile's cache does not ask for these: code made for AVX-512 would compute nonsense here
    compiled = Path(tempfile.gettempdir()) / f"torchinductor-avx2-{Path.home().name}"  # one a user
    SAME_DIGITS["TORCHINDUCTOR_CACHE_DIR"] = str(compiled)


def kernel_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a lesson's kernel; COURSE_DEVICE is kept where it is set, to `real` for example."""
    env = dict(environ)
    # With this set ipykernel leaves out what child processes print, which may else come under a later cell.
    env["PYTEST_CURRENT_TEST"] = "lesson"
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    env["COURSE_DATA"] = "standin"
    env.setdefault("COURSE_DEVICE", "virtual")
    env.setdefault("COURSE_PROGRESS", "off")  # an exercise that the author solved once is unsolved in here
    env["COURSE_WIDGETS"] = "off"  # buttons have random names
    env["TQDM_DISABLE"] = "1"  # a bar prints times, and how often it is redrawn differs from run to run
    return env | SAME_DIGITS


@dataclass
class Run:
    """A lesson that has been run, with its outputs; both other fields go by the ids of code cells.

    `seconds` is the time of the first pass, `unsteady` names the cells whose second pass printed otherwise.
    """

    notebook: NotebookNode
    seconds: dict[str, float] = field(default_factory=dict)
    unsteady: list[str] = field(default_factory=list)


def run_lesson(notebook: NotebookNode, folder: Path, *, twice: bool = False) -> Run:
    """Run a copy of `notebook` in `folder` in a fresh kernel of this interpreter, on request `twice` in it.

    Raises nbclient.exceptions.CellExecutionError at a cell that fails without the tag `raises-exception`.
    """
    run = Run(deepcopy(notebook))
    manager = AsyncKernelManager(
        kernel_name=CURRENT_ENV_KERNEL_NAME, kernel_spec_manager=NbvalKernelspecManager()
    )
    client = NotebookClient(
        run.notebook,
        km=manager,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with client.setup_kernel(env=kernel_environment(), cleanup_kc=True, **quiet):
        for index, cell in enumerate(run.notebook.cells):
            started = time.perf_counter()
            client.execute_cell(cell, index)
            if cell.cell_type == "code":
                run.seconds[cell.id] = time.perf_counter() - started
        if twice:
            again = deepcopy(run.notebook)
            client.nb = again
            for index, cell in enumerate(again.cells):
                client.execute_cell(cell, index)
            run.unsteady = _differences(run.notebook, again)
    return run


def _differences(first: NotebookNode, second: NotebookNode) -> list[str]:
    exempt = {"nbval-ignore-output", "nbval-skip"}
    return [
        one.id
        for one, two in zip(first.cells, second.cells, strict=True)
        if one.cell_type == "code"
        and not exempt & set(one.metadata.get("tags", []))
        and _comparable(one) != _comparable(two)
    ]


def _comparable(cell: NotebookNode) -> list[dict]:
    """A cell's outputs as nbval sees them: no counts, no traceback (it quotes the cell's number)."""
    skip = {"execution_count", "traceback"}
    return [{k: v for k, v in output.items() if k not in skip} for output in clean_outputs(cell.outputs)]
