"""Progress bars: a reader sees them, and no output that is stored or compared knows whether there was one."""

from pathlib import Path

import nbformat
import pytest
from authors import canonical
from nbformat import NotebookNode
from start.runner import execute, repeatable_environment

pytestmark = pytest.mark.slow

LOOP = "from tqdm import tqdm\nimport sys\nfor n in tqdm(range(3), leave=False, file=sys.stdout):\n"
CELLS = {
    "text-after": LOOP + "    pass\nprint('done')",
    "text-inside": LOOP + "    tqdm.write(f'step {n}')",
    "text-around": "print('before')\n" + LOOP + "    pass\nprint()\nprint('after')",
    "nothing-else": LOOP + "    pass",
}


def run(folder: Path, *, bars: bool) -> list[NotebookNode]:
    """Run the cells; return them as nbclient leaves them."""
    env = repeatable_environment() | ({"TQDM_DISABLE": ""} if bars else {})
    cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    execute(notebook, folder, env)
    return notebook.cells


def test_outputs_are_the_same_with_and_without_bars(tmp_path: Path) -> None:
    seen, quiet = (run(tmp_path, bars=bars) for bars in (True, False))
    for one, two in zip(seen, quiet, strict=True):
        assert any("/3 [" in output.text for output in one.outputs), one.id
        assert not any("\r" in output.text for output in two.outputs), two.id
        assert canonical.clean_outputs(one.outputs) == canonical.clean_outputs(two.outputs), one.id


def test_a_line_that_ends_in_windows_fashion_stays() -> None:
    outputs = [nbformat.v4.new_output("stream", text="one\r\n\r\ntwo\r\n")]
    assert canonical.clean_outputs(outputs)[0].text == "one\r\n\r\ntwo\r\n"
