"""`try SCRIPT`: it runs as with python or torchrun, and the report says what it used."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from course_utils.lessons import ROOT

AS_WITHOUT = """
import multiprocessing, os, sys
from pathlib import Path
import helper  # beside the script
import torch

def child(queue):
    queue.put((torch.cuda.device_count(), torch.ones(2, device="cuda:1").sum().item()))

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=child, args=(queue,))
    process.start()
    print(sys.argv, Path.cwd().name, Path(sys.path[0]).name, queue.get(), torch.cuda.get_device_name(0))
    process.join()
    print("to stderr", file=sys.stderr)
    sys.exit(7)
"""

TRAINS = """
import os
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

torch.distributed.init_process_group("nccl")
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
net = DistributedDataParallel(nn.Linear(1024, 1024, bias=False).cuda())
optimizer = torch.optim.AdamW(net.parameters())
for _ in range(2):
    loss = net(torch.ones(8, 1024, device="cuda")).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
torch.distributed.destroy_process_group()
"""

TOO_BIG = """
import torch

kept = [torch.empty(2**28, device="cuda") for _ in range(20)]
"""

MIB = 2**20


def attempt(folder: Path, text: str, *options: str, arguments: tuple[str, ...] = ()) -> Any:
    """Run a script in `folder` from its parent; return the process that ran it, and the report."""
    folder.mkdir(exist_ok=True)
    script, report = folder / "script.py", folder.parent / "report.json"
    script.write_text(text)
    command = [sys.executable, "-m", "course_utils", "try", "--report", str(report), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [*command, str(script), *arguments],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    return ran, json.loads(report.read_text()) if report.exists() else None


def test_a_script_runs_as_without_and_so_do_its_children(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper.py").write_text("")
    ran, report = attempt(folder, AS_WITHOUT, "--gpus", "2", "--card", "T4", arguments=("--lr", "0.1"))
    told = [
        [str(folder / "script.py"), "--lr", "0.1"],
        tmp_path.name,
        "project",
        (2, 2.0),
        "Virtual T4 (CPU)",
    ]
    assert ran.stdout.splitlines() == [" ".join(map(str, told))], ran.stderr
    assert "to stderr" in ran.stderr
    assert ran.returncode == report["exit_code"] == 7
    assert {file.name for file in folder.iterdir()} == {"helper.py", "script.py"}
    (child,) = report["processes"]
    assert child["gpus"]["cuda:1"]["allocated"] == 1024
    assert "torch.ones(2, device" in child["gpus"]["cuda:1"]["where"]


def test_ranks_train_and_the_report_says_what_each_used(tmp_path: Path) -> None:
    ran, report = attempt(tmp_path / "project", TRAINS, "--nproc", "2")
    assert ran.returncode == 0, ran.stderr
    assert [one["rank"] for one in report["processes"]] == [0, 1]
    for rank, one in enumerate(report["processes"]):
        (gpu,) = [gpu for name, gpu in one["gpus"].items() if gpu["allocated"] > MIB]
        assert gpu is one["gpus"][f"cuda:{rank}"]
        assert gpu["categories"]["parameters"] == 4 * MIB
        assert gpu["categories"]["optimizer state"] >= 8 * MIB
        assert gpu["allocated"] >= 16 * MIB
        assert one["sent"]["all_reduce"] >= 2 * 4 * MIB
    assert report["fits"]["T4"]


def test_what_is_too_big_is_told_with_the_line_of_the_script(tmp_path: Path) -> None:
    ran, report = attempt(tmp_path / "project", TOO_BIG, "--card", "T4")
    assert ran.returncode == 1
    assert "CUDA out of memory" in ran.stderr
    (one,) = report["processes"]
    assert "script.py, line 4" in one["error"]
    assert not report["fits"]["T4"]
    assert report["fits"]["L4"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gpus", "9"), "--gpus: invalid choice: 9"),
        (("--memory", "much"), "memory='much' is not a size"),
        (("--card", "K80"), "card='K80' is not known"),
        (("--card", "T4", "--memory", "1 GiB"), "not allowed with"),
    ],
    ids=["number", "size", "card", "both"],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    ran, report = attempt(tmp_path / "project", "raise SystemExit", *options)
    assert ran.returncode == 2
    assert said in ran.stderr.splitlines()[-1]
    assert report is None
