"""A worker dies in the middle of training: restarted by torchrun, it ends with the very same loss."""

import os
import re
import signal
from contextlib import chdir
from pathlib import Path

import pytest
import torch

import course_utils
from course_utils.ranks import Torchrun

pytestmark = pytest.mark.skipif(os.name != "posix", reason="it sends SIGKILL; run it on Linux or a Mac")
OPTIONS = "--standalone --nproc-per-node 2 --max-restarts 1"
# a script around train_ddp.py, which stays as it is: in its first life one rank kills itself
FAULTY = """\
import os, runpy, signal, sys, torch
from torch.optim.optimizer import register_optimizer_step_post_hook
where, rank, sys.argv = sys.argv[1], sys.argv[2], ["train_ddp.py", *sys.argv[3:]]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == rank:
    steps = []
    def count(*_):
        steps.append(1)
        if len(steps) == 6:
            die()
    if where == "step":
        register_optimizer_step_post_hook(count)
    if where == "save":
        def half(state, file, save=torch.save, saved=[]):
            saved.append(file)
            save(state, file)
            if len(saved) == 2:
                whole = file.read_bytes()
                file.write_bytes(whole[: len(whole) // 2])
                die()
        torch.save = half
runpy.run_path("train_ddp.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder, and the checkpoint of 3 epochs of 4 steps each."""
    folder = tmp_path_factory.mktemp("training")
    generator = torch.Generator().manual_seed(0)
    numbers = {"size": (64, 32, 32, 3), "dtype": torch.uint8, "generator": generator}
    sets = {"pictures": torch.randint(256, **numbers), "test_pictures": torch.randint(256, **numbers)}
    labels = {name.replace("pictures", "labels"): torch.arange(64) % 10 for name in sets}
    with chdir(folder):
        torch.save(sets | labels, "pictures.pt")
        Path("faulty.py").write_text(FAULTY, encoding="utf-8")
        assert train("none", 0, "plain.pt").restarts == 0
        return folder, torch.load("plain.pt")


def train(where: str, rank: int, checkpoint: str) -> Torchrun:
    course_utils.take_home("train_ddp.py")
    arguments = f"--epochs 3 --batch-size 16 --checkpoint {checkpoint}"
    return course_utils.torchrun(f"{OPTIONS} faulty.py {where} {rank} {arguments}")


@pytest.mark.parametrize(("where", "rank", "done"), [("step", 1, 1), ("step", 0, 1), ("save", 0, 1)])
def test_the_loss_is_the_same(
    where: str, rank: int, done: int, undisturbed: tuple[Path, dict], capsys: pytest.CaptureFixture
) -> None:
    folder, plain = undisturbed
    with chdir(folder):
        result = train(where, rank, f"{where}{rank}.pt")
        trained = torch.load(f"{where}{rank}.pt")
    assert result.ok, result.errors
    (cause,) = result.causes
    assert re.match(rf"rank {rank} was (ended by SIGKILL|gone without a word)", cause)
    assert f"{done} epochs done" in result.ranks[0]
    assert "--- restart 1: torchrun starts all ranks again ---" in capsys.readouterr().out
    assert len(trained["losses"]) == 12
    assert trained["losses"] == plain["losses"]
    for mine, its in zip(trained["net"].values(), plain["net"].values(), strict=True):
        assert torch.equal(mine, its)


def test_the_restarts_are_used_up(undisturbed: tuple[Path, dict]) -> None:
    folder, _ = undisturbed
    with chdir(folder):
        course_utils.take_home("train_ddp.py")
        once = OPTIONS.replace("restarts 1", "restarts 0")
        result = course_utils.torchrun(
            f"{once} faulty.py step 1 --epochs 2 --batch-size 16 --checkpoint x.pt", quiet=True
        )
    assert result.error.startswith(f"rank 1 was ended by {signal.SIGKILL.name}.")
