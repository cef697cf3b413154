"""`try SCRIPT`: the report at its end, and what is refused. What runs: `ranks/test_virtual_ranks.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from course_utils.distributed import report, trying
from course_utils.lessons import ROOT

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


def attempt(folder: Path, text: str, *options: str) -> Any:
    """Run a script in `folder`; return the process that ran it, and the report."""
    script, written = folder / "script.py", folder / "report.json"
    script.write_text(text)
    command = [sys.executable, "-m", "course_utils", "try", "--report", str(written), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*command, str(script)], env=environment, capture_output=True, text=True)
    return ran, json.loads(written.read_text())


@pytest.mark.slow
def test_ranks_train_and_the_report_says_what_each_used(tmp_path: Path) -> None:
    ran, told = attempt(tmp_path, TRAINS, "--nproc", "2")
    assert ran.returncode == 0, ran.stderr
    assert [one["rank"] for one in told["processes"]] == [0, 1]
    for rank, one in enumerate(told["processes"]):
        (gpu,) = [gpu for name, gpu in one["gpus"].items() if gpu["allocated"] > MIB]
        assert gpu is one["gpus"][f"cuda:{rank}"]
        assert gpu["categories"]["parameters"] == 4 * MIB
        assert gpu["categories"]["optimizer state"] >= 8 * MIB
        assert gpu["allocated"] >= 16 * MIB
        assert one["sent"]["all_reduce"] >= 2 * 4 * MIB
    assert told["fits"]["T4"]


@pytest.mark.slow
def test_what_is_too_big_is_told_with_the_line_of_the_script(tmp_path: Path) -> None:
    ran, told = attempt(tmp_path, TOO_BIG, "--card", "T4")
    assert ran.returncode == 1
    assert "CUDA out of memory" in ran.stderr
    (one,) = told["processes"]
    assert "script.py, line 4" in one["error"]
    assert not told["fits"]["T4"]
    assert told["fits"]["L4"]


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
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit")
    with pytest.raises(SystemExit) as ended:
        trying.main([*options, str(script)])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_rank_that_could_say_nothing_is_told_of(tmp_path: Path) -> None:
    nothing = {"gpus": {}, "sent": {}, "error": "", "ended": {}}
    noted = [
        nothing | {"rank": -1, "process": 1, "ended": {0: 1, 1: -9, 2: -15, 3: 4}},
        nothing | {"rank": 0, "process": 2, "error": "It waited."},
        nothing | {"rank": 3, "process": 3, "gpus": {"cuda:3": {}}},
    ]
    for one in noted:
        (tmp_path / f"{one['process']}.json").write_text(json.dumps(one))
    told = report.collect(tmp_path)
    assert [one["rank"] for one in told] == [0, 1, 2, 3]
    assert [one["error"].partition(".")[0] for one in told] == [
        "It waited",
        "It was ended by SIGKILL",
        "It had not ended when torchrun ended it, since another rank failed",
        "It ended with exit code 4",
    ]
    assert told[3]["gpus"]


def test_the_report_in_words() -> None:
    gpu = {
        "allocated": 3 * MIB,
        "reserved": 20 * MIB,
        "categories": {"parameters": 2 * MIB, "gradients": 0},
        "where": "loss.backward() (train.py, line 7)",
    }
    process = {"rank": 1, "process": 7, "gpus": {"cuda:1": gpu}, "sent": {"all_reduce": MIB}, "error": ""}
    said = report.in_words([process]).splitlines()
    assert said[1:4] == [
        "rank 1, cuda:1: at most 3.00 MiB in use, 20.00 MiB asked for (parameters 2.00 MiB)",
        "    reached at loss.backward() (train.py, line 7)",
        "    sent by all_reduce: 1024.00 KiB",
    ]
    assert said[4].startswith("Fits on, by its tensors: V100, V100-32GB, T4")
    assert "No virtual GPU was used." in report.in_words([])
