"""Each way to fail: one line that says what happened and what to do, the same each time."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import course_utils
from course_utils.distributed import launching
from course_utils.distributed.failures import line_about
from course_utils.distributed.launching import Agent, Rank

from .conftest import STAY, until
from .failing_runs import BY_NAME, RECORDED, Failing, port_taken, replay

Script = Callable[..., str]
needs_signals = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal; run it elsewhere")


# ---- what is stored of real runs, one set for each version of PyTorch ------------------------------------
def test_every_version_has_every_case() -> None:
    sets = [{path.stem for path in folder.iterdir()} for folder in RECORDED.iterdir()]
    assert len(sets) >= 2
    assert all(names == set(BY_NAME) for names in sets)
    for path in RECORDED.glob("*/*.json"):
        assert not re.search(r"/(?:tmp|home|root|Users)/", path.read_text(encoding="utf-8")), path


@needs_signals  # what is stored comes from a system that has them
@pytest.mark.parametrize("version", sorted(path.name for path in RECORDED.iterdir()))
@pytest.mark.parametrize("case", BY_NAME.values(), ids=lambda case: case.name)
@pytest.mark.usefixtures("folder")
def test_a_stored_run(
    case: Failing, version: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    stored = json.loads((RECORDED / version / f"{case.name}.json").read_text(encoding="utf-8"))
    assert stored["case"] == case.asks(), "record it again: python tools/authors record-failures"
    monkeypatch.setattr("course_utils.distributed.run_agents", replay(stored))
    result = case.start()
    assert re.match(case.says, result.error)
    assert capsys.readouterr().out.splitlines()[-1] == f"torchrun failed: {result.error}"
    assert not re.search(r"\d{5}", result.error), "a port or the number of a process differs from run to run"
    assert (result.ok, result.restarts) == (False, case.command.count("--max-restarts 1"))


# ---- each kind of failure once for real ------------------------------------------------------------------
ONE_AFTER_ANOTHER = """
life = os.environ["TORCHELASTIC_RESTART_COUNT"]
print("life", life, os.environ[sys.argv[1]], flush=True)
os.execv(sys.executable, [sys.executable, f"life{life}/script.py"])
"""


@pytest.mark.slow
@needs_signals
def test_a_rank_fails_in_each_of_its_lives(script: Script, folder: Path) -> None:
    """Each start of the ranks has a store of its own."""
    BY_NAME["exit_code"].write_script(folder / "life0")
    BY_NAME["killed_again"].write_script(folder / "life1")
    command = script(ONE_AFTER_ANOTHER).replace("script", "--max-restarts 1 script")
    result = course_utils.torchrun(f"{command} {launching.SHARING_OFF.split('=')[0]}")
    assert re.match(BY_NAME["killed_again"].says, result.error)
    assert (result.ok, result.restarts) == (False, 1)
    printed = [dict.fromkeys((0, 1), f"life {life} 1\n") for life in range(2)]
    assert result.attempts == printed
    assert result.ranks == printed[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    "import not_python exit_code no_such_gpu no_such_option not_met_by_its_own_limit port_in_use".split(),
)
@pytest.mark.usefixtures("folder")
def test_a_run_fails(name: str) -> None:
    result = BY_NAME[name].start()
    assert re.match(BY_NAME[name].says, result.error)
    assert not any(result.ranks.values())
    assert not re.search(r"\d{4}", result.error)


@pytest.mark.slow
def test_a_port_that_answers_nothing(script: Script) -> None:
    """torchrun would wait for ever, whatever its own limits are."""
    script("")
    command = BY_NAME["not_met"].command.removeprefix("--nnodes 2 --nproc-per-node 1 ")
    with port_taken() as port:
        result = course_utils.torchrun(command.replace("$PORT", str(port)), timeout=9)
    assert result.error.endswith("Another program on that port has the same effect.")


@pytest.mark.slow
@needs_signals
def test_a_rank_that_never_comes(
    script: Script, folder: Path, left_behind: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank says at which line of the script it stands, be it deep in a library."""
    begun = [folder / "pids0", folder / "pids1"]
    monkeypatch.setattr(launching, "_wait", lambda *_: until(lambda: all(map(Path.exists, begun))))
    command = script(STAY + "threading.Event().wait() if rank else child.wait()\n")
    result = course_utils.torchrun(command, timeout=60)
    line = r"threading\.Event\(\)\.wait\(\) if rank else child\.wait\(\) \(script\.py, line 10\)"
    assert re.match(
        rf"not at an end after 60 s, and stopped\. Then rank 0 was at: {line}; rank 1 at: {line}\. ",
        result.error,
    )
    assert not left_behind()


@pytest.mark.slow
def test_the_time_is_up(script: Script) -> None:
    result = course_utils.torchrun(script("import threading; threading.Event().wait()"), timeout=0.1)
    assert result.error == "no rank had begun after 0.1 s. On a busy machine raise timeout=."


GLOO = (
    "[rank{}]: Traceback (most recent call last):\n"
    '[rank{}]:   File "/home/me/train.py", line 9, in <module>\n[rank{}]:     dist.all_reduce(x)\n'
    "[rank{}]: RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] {}\n"
)
LOST = "Connection closed by peer [127.0.0.1]:41391"
AT = "rank 0 stopped at: g() (train.py, line 5, in f). "
NCCL_LATE = ("Watchdog caught collective operation timeout", "timeout watchdog detected operation timeout")
SLOW = "Timed out waiting 3000ms for recv operation to complete"
OWN = 'Traceback (most recent call last):\n  File "/home/me/train.py", line 5, in f\n    g()\n{}\n'
BY_RUNPY = (
    'Traceback (most recent call last):\n  File "/home/me/start.py", line 3, in <module>\n    begin()\n'
    '  File "<frozen runpy>", line 291, in run_path\n  File "<frozen runpy>", line 98, in _run_module_code\n'
    '  File "<frozen runpy>", line 88, in _run_code\n'
    '  File "/home/me/train.py", line 5, in f\n    g()\nKeyError: 3\n'
)
ABORTED = "terminate called without an active exception\nFatal Python error: Aborted\n\nThread 0x0 (most"
DIFFER = OWN.format(
    "RuntimeError: The processes differ: rank 0 has {'torch': '2.15.0'}, rank 1 has {'torch': '2.11.0'}."
).replace("g()", 'raise RuntimeError(f"The processes differ: rank 0 has {a} (1)")')
DIFFERENT = (
    "rank 0 stopped (train.py, line 5, in f). The processes differ: rank 0 has {'torch': '2.15.0'}, rank 1 "
    "has {'torch': '2.11.0'}. Install the same versions on every machine, and give all processes the same "
    "checkpoint."
)
TWICE = OWN.format(
    "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:"
    "94, invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version 2.21.5\nncclInvalidUsage: This "
    "usually reflects invalid usage of NCCL library.\nLast error:\nDuplicate GPU detected : rank 1 and rank "
    "0 both on CUDA device 1000\n[W1121 18:03:00 ProcessGroupNCCL.cpp:1496] Warning"
)
MEMORY = OWN.format(
    "RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


def gloo(rank: int, text: str) -> str:
    return GLOO.format(rank, rank, rank, rank, text)


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ({0: Rank("", gloo(0, LOST), 1), 1: Rank("", "", -9)}, "rank 1 was ended by SIGKILL. Somebody"),
        ({0: Rank("", gloo(0, LOST), 1), 1: Rank("", OWN.format("KeyError: 3"), -15)}, AT.replace("0", "1")),
        ({0: Rank("", "", -15), 1: Rank("", "", -15)}, "rank 0 was ended by SIGTERM. Somebody stopped it"),
        ({0: Rank("", "", -15), 1: Rank("", "", 5)}, "rank 1 ended with exit code 5."),
        ({0: Rank("", DIFFER + ABORTED, -6), 1: Rank("", "", -15)}, DIFFERENT),
        ({0: Rank("", "", -6), 1: Rank("", gloo(1, LOST), 1)}, "rank 0 was ended by SIGABRT. It crashed"),
        ({0: Rank("", gloo(0, LOST), 1), 1: Rank("", gloo(1, SLOW), 1)}, "rank 1 stopped at: dist"),
        ({0: Rank("", f"x {NCCL_LATE[0]} y\n", -6)}, "rank 0 stopped. A process waited for the others"),
        ({0: Rank("", f"x {NCCL_LATE[1]} y\n", -6)}, "rank 0 stopped. A process waited for the others"),
        ({0: Rank("", gloo(0, LOST), 1)}, "rank 0 stopped at: dist.all_reduce(x) (train.py, line 9). Anoth"),
        ({0: Rank("", TWICE, 1)}, AT + "Two processes took the same GPU. Give each its own: torch.cuda.set"),
        ({0: Rank("", BY_RUNPY, 1)}, AT + "KeyError: 3."),
        ({0: Rank("", MEMORY, 1)}, AT + "The computer has no memory left."),
        ({0: Rank("", OWN.format("OSError: 1.0.0.1:9 pid 7!"), 1)}, AT + "OSError: another process pid ...!"),
    ],
)  # fmt: skip
def test_the_cause_is_told_from_its_effects(ranks: dict[int, Rank], expected: str, tmp_path: Path) -> None:
    agent = Agent("train.py", tmp_path, "", code=1)
    line = line_about([agent], [ranks], timeout=9)
    assert line.startswith(expected)
    other = Agent("train.py", tmp_path, "")  # still there when its time was up
    assert line_about([other, agent], [ranks], timeout=9) == line
    assert "\n" not in line


@pytest.mark.skipif(os.name != "posix", reason="Windows has no exit code of a signal; run it elsewhere")
def test_torchrun_itself_is_killed(tmp_path: Path) -> None:
    agent = Agent("train.py", tmp_path, "", code=-signal.SIGKILL)
    ranks = {0: Rank("", ""), 1: Rank("", "")}
    line = line_about([agent], [ranks], timeout=9)
    assert line.startswith("torchrun itself was ended by SIGKILL, so its ranks were ended, too. Somebody")
