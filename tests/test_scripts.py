"""The scripts of lessons 07, 08 and 10: they run, they agree, and the lessons show what is in them."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from authors import canonical

import course_utils
from course_utils.lessons import executed, lesson_paths

SCRIPTS = sorted((Path(course_utils.__file__).parent / "distributed" / "scripts").glob("[!_]*.py"))
LESSONS = [path for path in lesson_paths() if path.name[:2] in ("07", "08", "10")]


def text_of(name: str) -> str:
    return SCRIPTS[0].with_name(name).read_text(encoding="utf-8")


def script(name: str) -> dict[str, Any]:
    """The functions of a script."""
    return runpy.run_path(str(SCRIPTS[0].with_name(name)))


@pytest.fixture
def two(two_trained: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    """The checkpoint of two processes after three epochs."""
    return two_trained[1]


@pytest.fixture
def here(two_trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the pictures."""
    monkeypatch.chdir(two_trained[0])
    return two_trained[0]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train(name: str, checkpoint: str, epochs: int) -> dict[str, Any]:
    """Run one of the two trainings in this process; returns its checkpoint."""
    functions = script(name)
    options = ["--epochs", str(epochs), "--batch-size", "32", "--checkpoint", checkpoint]
    who = (0, 1) if name == "train_ddp.py" else ()
    functions["train"](functions["parser"].parse_args(options), torch.device("cpu"), *who)
    return torch.load(checkpoint)


@pytest.mark.slow
def test_two_processes_train_as_one(two: dict[str, Any], here: Path) -> None:
    one = train("train_dp.py", "one.pt", 3)
    assert len(one["losses"]) == len(two["losses"]) == 9
    torch.testing.assert_close(torch.tensor(two["losses"]), torch.tensor(one["losses"]), rtol=0, atol=1e-5)
    torch.testing.assert_close(two["net"], one["net"], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_on_the_cpu_no_gpu_is_taken(count: int, here: Path) -> None:
    """Where COURSE_DEVICE=cpu asks for it."""
    with course_utils.virtual_gpus(count):
        assert len(train("train_dp.py", f"beside_{count}_gpus.pt", 1)["losses"]) == 3


@pytest.mark.slow
def test_metric_counts_each_picture_once(two: dict[str, Any], here: Path) -> None:
    data, functions = torch.load("pictures.pt"), script("train_dp.py")
    net = functions["make_net"]()
    net.load_state_dict(two["net"])
    counts = functions["count_right"](net, data["test_pictures"], data["test_labels"], "cpu")
    assert [two["right"], two["seen"]] == counts
    assert two["seen"] == len(data["test_labels"]) == 51


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_dp.py", "train_ddp.py"])
@pytest.mark.usefixtures("alone")
def test_resumed_training_is_the_same_to_the_bit(name: str, here: Path) -> None:
    whole = train(name, f"whole_{name}.pt", 3)
    train(name, f"parts_{name}.pt", 1)
    parts = train(name, f"parts_{name}.pt", 3)
    assert parts["losses"] == whole["losses"]
    assert all(torch.equal(parts["net"][key], value) for key, value in whole["net"].items())


@pytest.mark.usefixtures("alone")
def test_death_while_saving_leaves_the_old_checkpoint(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("train_ddp.py", "old.pt", 1)

    def die(state: object, path: Path) -> None:
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        train("train_ddp.py", "old.pt", 2)
    assert torch.load("old.pt")["epochs"] == 1


@pytest.mark.usefixtures("alone")
def test_ranks_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(everyone: list, mine: dict) -> None:
        everyone[:] = [mine, mine | {"torch": "2.10.0"}]

    check_agreement = script("train_ddp.py")["check_agreement"]
    check_agreement(torch="2.15.0", epochs=3)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    with pytest.raises(RuntimeError, match=r"rank 1 has \{'torch': '2.10.0', 'epochs': 3\}"):
        check_agreement(torch="2.15.0", epochs=3)


def test_started_without_torchrun_it_says_how(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train_ddp.py"])
    with pytest.raises(SystemExit):
        script("train_ddp.py")["main"]()
    assert "start it with: torchrun --standalone --nproc-per-node 2 train_ddp.py" in capfd.readouterr().err


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_can_be_taken_home(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imports += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imports if name.split(".")[0] in ("course_utils", "")]


def python_blocks(path: Path) -> list[str]:
    sources = (cell.source for cell in canonical.read(path).cells if cell.cell_type == "markdown")
    return [
        block for source in sources for block in re.findall(r"^```python\n(.*?)\n```", source, re.M | re.S)
    ]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_shows_its_scripts_word_for_word(path: Path) -> None:
    texts = {script.name: script.read_text(encoding="utf-8") for script in SCRIPTS}
    for block in python_blocks(path):
        first = block.splitlines()[0]
        holders = [name for name, text in texts.items() if first in text.splitlines()]
        assert not holders or any(block in texts[name] for name in holders), f"not in {holders}:\n{block}"


def blocks(name: str) -> dict[str, list[str]]:
    """The lines of each function of a script, and of what stands above the first one."""
    *texts, _ = text_of(name).split("\n\n\n")
    names = (re.search(r"^def (\w+)", text, re.M) for text in texts)
    return {found[1] if found else "top": text.splitlines() for found, text in zip(names, texts, strict=True)}


def test_lesson_shows_every_difference_of_the_two_scripts() -> None:
    (path,) = (path for path in LESSONS if path.name.startswith("07"))
    old, new = blocks("train_dp.py"), blocks("train_ddp.py")
    cells = [cell for cell in canonical.read(executed(path)).cells if "show_difference(" in cell.source]
    shown = {name for cell in cells for name in re.findall(r'show_difference\("(\w+)"\)', cell.source)}
    assert shown == {name for name in old if old[name] != new[name]}
    assert set(new) - set(old) == {"check_agreement"}  # new as a whole; the lesson says so
    lines = [line for cell in cells for output in cell.outputs for line in output.text.splitlines()]
    for name in shown:
        assert [f"+ {line}" for line in new[name] if line not in old[name]] == [
            line for line in lines if line[0] == "+" and line[2:] in new[name] and line[2:] not in old[name]
        ]


def functions_of(source: str) -> dict[str, str]:
    """The text of each function that `source` defines."""
    found = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    return {node.name: ast.get_source_segment(source, node) for node in found}


def test_lesson_08_has_met_the_pieces_of_the_speed_run() -> None:
    (path,) = (path for path in LESSONS if path.name.startswith("08"))
    cells = [cell.source for cell in canonical.read(path).cells if cell.cell_type == "code"]
    met = {name: text for source in cells for name, text in functions_of(source).items()}
    shown = "\n".join(python_blocks(path))
    for name, text in functions_of(text_of("speedrun.py")).items():
        assert name == "load" or text == met.get(name) or text in shown, f"not in the lesson: {name}"
