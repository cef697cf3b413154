"""Scripts written for NVIDIA GPUs run unchanged on virtual ones, by `try` or started from a lesson."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import device, distributed

import course_utils
from course_utils.lessons import ROOT
from course_utils.virtual import collectives

from .conftest import STAY, WAIT, until

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).with_name("scripts")
TRY = [sys.executable, "-m", "course_utils", "try", "--gpus", "8"]
LIMIT = 200  # seconds for one run on a busy machine


def attempt(*arguments: object) -> subprocess.CompletedProcess:
    """Run `try` in the current folder, where no course is."""
    command = [*TRY, *map(str, arguments)]
    return subprocess.run(command, env=env(), capture_output=True, text=True, timeout=LIMIT)


def env() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(os.name != "posix", reason="it forks")
def test_a_script_and_its_children_have_virtual_gpus(folder: Path) -> None:
    shutil.copy(SCRIPTS / "children.py", "script.py")
    done = attempt("--memory", "100 MiB", "script.py", "--gpus", "x")
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == [
        "['--gpus', 'x'] True 8",
        "('cuda:0', 1, 8) [1.0, 1.0]",
        "worker 8",
        "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
        "'spawn' start method",
        "child 8",
        "Cowardly refusing to serialize non-leaf tensor which requ",
    ]
    assert [path.name for path in folder.iterdir()] == ["script.py"]


def test_processes_compute_what_one_computes(folder: Path, request: pytest.FixtureRequest) -> None:
    names = "data_parallel synchronized_norm fully_sharded tensor_parallel loss_of_parts moved".split()
    most = [*names, "attention", "pipelines", "checkpoints"]
    runs = {4: [*most, "two_dimensions"], 2: most}  # four processes save what two load
    if request.config.option.everything:
        runs[8] = [*names, "two_dimensions"]  # its heads and micro-batches are too few for eight
    for ranks, checks in runs.items():
        done = attempt("--nproc", ranks, SCRIPTS / "shown_equal.py", folder / "saved", *checks)
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stdout.splitlines() if line in checks] == checks


def test_collectives_work_and_fail_as_nccl_s_do(folder: Path) -> None:
    done = attempt("--nproc", 2, SCRIPTS / "collectives.py")
    assert done.returncode == 0, done.stderr
    names = ["reductions", "moving", "point_to_point", "works", "groups", "refusals"]
    assert [line for line in done.stdout.splitlines() if line in names] == names
    assert "Tensor found on device cuda:0 but backend constrained to cuda:1" in done.stderr


WHERE = """
import torch
from torch import cuda, distributed
cuda.set_device(rank)
distributed.init_process_group("nccl")
ones = torch.ones(2**18, device="cuda")
distributed.all_reduce(ones)
print(distributed.get_backend(), ones.device, int(ones[0]), cuda.max_memory_allocated() / 2**20)
print(cuda.device_count(), cuda.get_device_properties(rank).total_memory / 2**20)
"""


def test_ranks_have_the_virtual_gpus_of_the_process_that_starts_them(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("COURSE_DEVICE", "virtual")
    with course_utils.virtual_gpus(3, "40 MiB"):
        run = course_utils.torchrun(script(WHERE))
    assert run.ranks == {rank: f"nccl cuda:{rank} 2 1.0\n3 40.0\n" for rank in (0, 1)}, run.error


def test_two_ranks_on_one_gpu_are_refused() -> None:
    store = distributed.HashStore()
    store.set("virtual GPU 0 of 1", "None:2")
    group, carrier = distributed.ProcessGroup(store, 0, 2), collectives.Carrier.__new__(collectives.Carrier)
    carrier.devices = set()
    with pytest.raises(distributed.DistBackendError, match="Duplicate GPU detected : rank 0 and rank 1"):
        collectives._meet(group, carrier, device("cuda", 2))


@pytest.mark.skipif(os.name != "posix", reason="it sends signals")
def test_nothing_is_left_of_a_run_that_fails_or_is_interrupted(
    script: Callable[[str], str], left_behind: Callable[..., list[int]]
) -> None:
    met = (
        "from torch import distributed\ndistributed.init_process_group()\nif rank: os.kill(os.getpid(), 9)\n"
    )
    script(STAY + met + WAIT)
    done = attempt("--nproc", 2, "script.py")
    assert done.returncode == 1
    assert "rank 1, stopped:\nIt was ended by SIGKILL. Somebody killed it" in done.stderr
    assert not left_behind()
    script(STAY + WAIT)
    for number in (0, 1):
        Path(f"pids{number}").unlink()
    command = [*TRY, "--nproc", "2", "script.py"]
    with subprocess.Popen(command, env=env(), stderr=subprocess.DEVNULL, start_new_session=True) as running:
        until(lambda: all(Path(f"pids{number}").exists() for number in (0, 1)))
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(LIMIT) != 0
    assert not left_behind()
