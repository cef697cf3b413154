"""Each way to fail: one line that says what happened and what to do, the same each time."""

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import course_utils
from course_utils.ranks import launching
from course_utils.ranks.failures import cause_of, line_about
from course_utils.ranks.launching import Agent
from course_utils.ranks.logs import Rank

from .conftest import STAY, until

Script = Callable[..., str]
TWO = "--nnodes 2 --nproc-per-node 1 "
C10D = "--rdzv-backend c10d --rdzv-id job --rdzv-endpoint 127.0.0.1:$PORT "
needs_signals = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal; run it elsewhere")

# what the script does, options before it, the line
SCRIPTS = [
    (
        "if rank == 1:\n    import no_such_module",
        "",
        r"rank 1 stopped at: import no_such_module \(script\.py, line 4\)\. "
        r"ModuleNotFoundError: No module named 'no_such_module'\. The whole text: \.errors\[1\]\.",
    ),
    ("x = = 1", "", r"script\.py is not Python at line 3: SyntaxError: .*\. Put that line right\."),
    ("sys.exit(3 * rank)", "", r"rank 1 ended with exit code 3\."),
    (
        "if rank: raise RuntimeError('CUDA error: invalid device ordinal')",
        "",
        r"rank 1 stopped at: .* The code names a GPU that this machine does not have\..*--nproc-per-node",
    ),
    pytest.param(
        "import signal; rank and os.kill(os.getpid(), signal.SIGKILL)",
        "--max-restarts 1 ",
        r"rank 1, after 1 restart, was ended by SIGKILL\. Somebody killed it, or the machine ran out of mem",
        marks=needs_signals,
    ),
]


@pytest.mark.parametrize(("body", "options", "expected"), SCRIPTS)
def test_a_rank_fails(
    body: str, options: str, expected: str, script: Script, capsys: pytest.CaptureFixture
) -> None:
    result = course_utils.torchrun(script(body).replace("script", options + "script"))
    assert not result.ok
    assert re.match(expected, result.error)
    assert capsys.readouterr().out.splitlines()[-1] == f"torchrun failed: {result.error}"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("--standalone none.py", r"there is no script none\.py in this folder\. Put it there, or correct"),
        ("--no-such-option script.py", r"unrecognized arguments|.*required"),
        (
            f"{TWO}--master-port $PORT script.py",
            r"Only 1 of 2 came .* Start the same command on every machine",
        ),
        (f"{TWO}{C10D}script.py", r"The machines that --nnodes counts did not meet in time\. Start the same"),
        (
            f"{TWO}{C10D}--rdzv-conf join_timeout=1 script.py",
            r"The machines that --nnodes counts did not meet",
        ),
    ],
)
def test_torchrun_itself_fails(command: str, expected: str, script: Script) -> None:
    script("")
    result = course_utils.torchrun(command, join_timeout=2, quiet=True)
    assert re.match(expected, result.error)
    assert not any(result.ranks.values())


def test_a_port_in_use(script: Script) -> None:
    script("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = course_utils.torchrun("--master-port $PORT script.py", port=port, quiet=True)
        assert re.match(r"The port .* is taken \(EADDRINUSE\).* Take another port", result.error)
        assert str(port) not in result.error


def test_a_port_that_answers_nothing(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun would wait for ever, whatever its own limits are."""
    monkeypatch.setattr("course_utils.ranks.launching._START", 3.0)
    script("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = course_utils.torchrun(f"{C10D}script.py", port=port, join_timeout=1, quiet=True)
    assert result.error.endswith("Another program on that port has the same effect.")


@needs_signals
def test_a_rank_that_never_comes(
    script: Script, folder: Path, left_behind: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank says at which line of the script it stands, be it deep in a library."""
    begun = [folder / "pids0", folder / "pids1"]
    monkeypatch.setattr(launching, "_all_end", lambda *_: until(lambda: all(map(Path.exists, begun))))
    command = script(STAY + "threading.Event().wait() if rank else child.wait()\n")
    result = course_utils.torchrun(command, timeout=60, quiet=True)
    line = r"threading\.Event\(\)\.wait\(\) if rank else child\.wait\(\) \(script\.py, line 10\)"
    assert re.match(
        rf"not at an end after 60 s, and stopped\. Then rank 0 was at: {line}; rank 1 at: {line}\. ",
        result.error,
    )
    assert not left_behind()


def test_the_time_is_up(script: Script) -> None:
    result = course_utils.torchrun(
        script("import threading; threading.Event().wait()"), timeout=0.1, quiet=True
    )
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
        ({0: Rank("", MEMORY, 1)}, AT + "The computer has no memory left."),
        ({0: Rank("", OWN.format("OSError: 10.0.0.1:99, pid 7"), 1)}, AT + "OSError: another process, p"),
    ],
)  # fmt: skip
def test_the_cause_is_told_from_its_effects(ranks: dict[int, Rank], expected: str, tmp_path: Path) -> None:
    agent = Agent("train.py", tmp_path, tmp_path / "log", code=1)
    line = line_about([agent], [ranks], late=False, timeout=9)
    assert line.startswith(expected)
    other = Agent("train.py", tmp_path, tmp_path / "log")  # still there when its time was up
    assert line_about([other, agent], [ranks], late=True, timeout=9) == line
    assert "\n" not in line


def test_torchrun_names_one_of_two_that_failed_at_once() -> None:
    lost = Rank("", gloo(1, LOST), 1)
    assert cause_of({0: Rank("", ""), 1: lost}).startswith("rank 0 was gone without a word")
    assert cause_of({0: Rank("", "", -9), 1: lost}).startswith("rank 0 was ended by SIGKILL")
    assert cause_of({0: Rank("", "")}) == ""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no exit code of a signal; run it elsewhere")
def test_torchrun_itself_is_killed(tmp_path: Path) -> None:
    agent = Agent("train.py", tmp_path, tmp_path / "log", code=-signal.SIGKILL)
    ranks = {0: Rank("", ""), 1: Rank("", "")}
    line = line_about([agent], [ranks], late=False, timeout=9)
    assert line.startswith("torchrun itself was ended by SIGKILL, so its ranks were ended, too. Somebody")
