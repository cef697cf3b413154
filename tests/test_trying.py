"""`try SCRIPT` and `try_script`: the report, what is refused. What runs: `ranks/test_virtual_ranks.py`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

import course_utils
from course_utils.distributed import report, try_command, trying
from course_utils.distributed.cleanup import MARK
from course_utils.lessons import ROOT, CourseError
from course_utils.virtual.startup.sitecustomize import settings

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

PRINTS = """
import os
import sys
import warnings
import torch

rank = os.environ["RANK"]
print("rank", rank, *sys.argv[1:], torch.ones(2, device=f"cuda:{rank}"), flush=True)
torch.distributed.init_process_group("gloo")  # both have printed when one of them fails
torch.distributed.barrier()
assert rank == "0"
"""

# says who it and its child are, and stays until it is interrupted
STAYS = """
import os, signal, subprocess, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # else a run in the background ignores it
wait = "import threading; threading.Event().wait()"
child = subprocess.Popen([sys.executable, "-c", wait], start_new_session=True, stdout=subprocess.DEVNULL)
try:
    print(os.getpid(), child.pid, flush=True)
    threading.Event().wait()
except KeyboardInterrupt:
    print("its last words")
"""

COPIES = """
import torch
from torch import nn

net = nn.DataParallel(nn.Linear(1024, 1024, bias=False).cuda())
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    net(torch.ones(8, 1024, device="cuda")).sum().backward()
    optimizer.step()
"""

MIB, GIB = 2**20, 2**30


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
def test_of_a_mix_of_devices_the_script_s_own_objects_are_told(tmp_path: Path) -> None:
    mixes = "import torch\nnet = torch.nn.Linear(4, 2).cuda()\nx = torch.rand(3, 4)\nnet(x)\n"
    _, told = attempt(tmp_path, mixes)
    assert told["processes"][0]["error"].endswith('x = x.to("cuda:0")')


@pytest.mark.slow
def test_what_is_too_big_is_told_with_the_line_of_the_script(tmp_path: Path) -> None:
    ran, told = attempt(tmp_path, TOO_BIG, "--card", "T4")
    assert ran.returncode == 1
    assert "CUDA out of memory" in ran.stderr
    (one,) = told["processes"]
    assert "script.py, line 4" in one["error"]
    gpu = one["gpus"]["cuda:0"]
    assert (gpu["allocated"], gpu["refused"]) == (gpu["reserved"], 2**30)
    assert not told["fits"]["T4"]
    assert told["fits"]["L4"]


@pytest.mark.slow
def test_parameters_and_their_copies_on_other_gpus_are_told(tmp_path: Path) -> None:
    ran, told = attempt(tmp_path, COPIES, "--gpus", "2")
    assert ran.returncode == 0, ran.stderr
    first, second = (told["processes"][0]["gpus"][f"cuda:{index}"] for index in range(2))
    assert first["categories"]["parameters"] == second["categories"]["parameters"] == 4 * MIB
    assert first["categories"]["gradients"] == 4 * MIB
    for gpu in (first, second):
        assert sum(gpu["categories"].values()) == gpu["allocated"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gpus", "9"), "gpus=9 is not a number of virtual GPUs"),
        (("--nproc", "0"), "nproc=0 is not a number of processes"),
        (("--report", "/nowhere/report.json"), "No such file or directory: '/nowhere/report.json'"),
        (("--memory", "much"), "memory='much' is not a size"),
        (("--card", "K80"), "card='K80' is not known"),
        (("--card", "T4", "--memory", "1 GiB"), "not allowed with"),
    ],
    ids=["number", "processes", "report", "size", "card", "both"],
)
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit")
    with pytest.raises(SystemExit) as ended:
        try_command.main([*options, str(script)])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_a_child_may_import_the_course_before_torch() -> None:
    code = "from course_utils import virtual_gpus; import torch; print(torch.cuda.device_count())"
    env = os.environ | settings(3, None)
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert said.stdout == "3\n", said.stderr


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


@pytest.mark.slow
def test_from_a_cell_a_script_is_run_and_told_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my script.py").write_text(TOO_BIG)
    done = course_utils.try_script("python 'my script.py' --epochs 1", card="T4", gpus=1)
    said = capsys.readouterr().out
    assert (done.ok, done.exit_code, repr(done)) == (False, 1, "<try_script: failed, exit code 1>")
    assert done.report["processes"][0]["gpus"]["cuda:0"]["allocated"] == 14 * 2**30
    assert not done.report["fits"]["T4"]
    first, *_ = said.partition("--- on virtual GPUs ---")
    assert first.splitlines()[:3] == [
        "$ python 'my script.py' --epochs 1",
        "Traceback (most recent call last):",
        '  File "my script.py", line 4, in <module>',
    ]
    assert "CUDA out of memory" in first
    assert "course_utils" in done.output  # whose frames are not printed
    assert "course_utils" not in first


@pytest.mark.slow
def test_from_a_cell_ranks_print_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DEVICE", "cpu")  # of the notebook
    Path("script.py").write_text(PRINTS)
    done = course_utils.try_script("script.py x", nproc=2, gpus=2)
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "$ torchrun --standalone --nproc-per-node 2 script.py x",
        "[rank 0] rank 0 x tensor([1., 1.], device='cuda:0')",
        "[rank 1] rank 1 x tensor([1., 1.], device='cuda:1')",
    ]
    assert said[3].startswith("torchrun failed: rank 1")
    assert done.exit_code == 1
    assert "AssertionError" in done.output
    assert [one["rank"] for one in done.report["processes"]] == [0, 1]


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("script.py", {"gpus": 9}, r"^try_script: gpus=9 .* Choose 1 to 8\.$"),
        ("script.py", {"nproc": 0}, r"^try_script: nproc=0 .* Choose 1 or more\.$"),
        ("script.py", {"card": "K80"}, "card='K80' is not known"),
        ("missing.py", {}, r"^try_script: there is no file missing\.py"),
        ("", {}, "there is no file"),
        ("script.py 'x", {}, "Close the quotation"),
    ],
)
def test_from_a_cell_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, options: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_text("raise SystemExit")
    with pytest.raises(CourseError, match=said):
        course_utils.try_script(command, **options)


def test_an_interrupted_cell_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    def interrupted(lines: Iterable[str]) -> Iterable[str]:
        pids.extend(map(int, next(iter(lines)).split()))
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trying, "_printed", interrupted)
    Path("script.py").write_text(STAYS)
    with pytest.raises(KeyboardInterrupt):
        course_utils.try_script("script.py")
    assert len(pids) == 2
    assert not any(map(psutil.pid_exists, pids))


@pytest.mark.skipif(os.name != "posix", reason="it sends a signal")
def test_a_script_whose_time_is_up_has_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "_LAST_WORDS", 120)  # the machine may have other work
    command = [sys.executable, "-c", STAYS]
    env = os.environ | {MARK: "this run"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        trying._stop(process, "this run")
        assert process.stdout.read() == "its last words\n"
    assert not any(map(psutil.pid_exists, pids[1:]))


def test_a_script_whose_time_is_up_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trying, "_LAST_WORDS", 0.1)
    deaf = "import signal, threading\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nthreading.Event().wait()"
    Path("script.py").write_text(deaf)
    assert not course_utils.try_script("script.py", timeout=2).ok
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "try_script: its 2 seconds are over (timeout=2), so it was stopped."


def test_the_report_in_words() -> None:
    gpu = {
        "allocated": 3 * MIB,
        "reserved": 20 * MIB,
        "refused": 0,
        "categories": {"parameters": 2 * MIB, "gradients": 0},
        "where": "loss.backward() (train.py, line 7)",
    }
    full = gpu | {"allocated": 4 * MIB, "refused": 2 * MIB}
    gpus = {"cuda:1": gpu, "cuda:2": full, "cuda:4": full}
    process = {"rank": 1, "process": 7, "gpus": gpus, "sent": {"barrier": 0, "all_reduce": MIB}, "error": ""}
    said = report.in_words([process]).splitlines()
    assert said[1:8] == [
        "rank 1, cuda:1: at most 3.00 MiB allocated, 20.00 MiB reserved",
        "    parameters 2.00 MiB",
        "    reached at loss.backward() (train.py, line 7)",
        "rank 1, cuda:2, cuda:4, each: at most 4.00 MiB allocated, 20.00 MiB reserved, 2.00 MiB more refused",
        "    parameters 2.00 MiB",
        "    reached at loss.backward() (train.py, line 7)",
        "    given to all_reduce: 1024.00 KiB",
    ]
    assert said[8].startswith("Its tensors fit on RTX-3060 (11.")
    assert said[8].endswith(") and larger: 15 of the 15 cards known here.")
    assert max(map(len, said)) <= 110
    stopped = report.in_words([process | {"error": "It stopped."}])
    assert "As far as it came, its tensors fit on RTX-3060" in stopped
    full["reserved"] = 100 * GIB
    assert "fit on H200 (" in report.in_words([process])
    full["reserved"] = 1000 * GIB
    assert "fit on none of the 15 cards known here" in report.in_words([process])
    assert "No virtual GPU was used." in report.in_words([])
