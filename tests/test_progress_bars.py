"""Progress bars: a reader sees them, and no output that is stored or compared knows whether there was one."""

from pathlib import Path

import canonical
import execute
import nbformat
import pytest
from nbformat import NotebookNode

pytestmark = pytest.mark.slow

LOOP = "from tqdm import tqdm\nimport sys\nfor n in tqdm(range(3), leave=False, file=sys.stdout):\n"
CELLS = {
    "text-after": LOOP + "    pass\nprint('done')",
    "text-inside": LOOP + "    tqdm.write(f'step {n}')",
    "text-around": "print('before')\n" + LOOP + "    pass\nprint()\nprint('after')",
    "nothing-else": LOOP + "    pass",
}


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *, bars: bool) -> list[NotebookNode]:
    """Run the cells; return them as nbclient leaves them."""
    if bars:
        environment = execute.kernel_environment
        settings = {name: value for name, value in environment().items() if name != "TQDM_DISABLE"}
        monkeypatch.setattr(execute, "kernel_environment", lambda: settings)
    cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
    result = execute.run_lesson(nbformat.v4.new_notebook(cells=cells), folder)
    monkeypatch.undo()
    return result.notebook.cells


def test_outputs_are_the_same_with_and_without_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, quiet = (run(tmp_path, monkeypatch, bars=bars) for bars in (True, False))
    for one, two in zip(seen, quiet, strict=True):
        assert any("/3 [" in output.text for output in one.outputs), one.id
        assert not any("\r" in output.text for output in two.outputs), two.id
        assert canonical.clean_outputs(one.outputs) == canonical.clean_outputs(two.outputs), one.id


def test_a_line_that_ends_in_windows_fashion_stays() -> None:
    outputs = [nbformat.v4.new_output("stream", text="one\r\n\r\ntwo\r\n")]
    assert canonical.clean_outputs(outputs)[0].text == "one\r\n\r\ntwo\r\n"
