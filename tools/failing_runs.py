"""Runs of torchrun that fail, each in its own way: what is started, and what the reader is told then.

tools/record_failures.py stores what becomes of them with one version of PyTorch. tests/ranks/test_failures.py
reads what is stored for each version, and meets each kind of failure once for real.
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import course_utils
from course_utils.distributed import Torchrun

HEAD = """\
import os, sys
rank = int(os.environ["RANK"])
"""
ONE_MACHINE = "--standalone --nproc-per-node 2 script.py"
TWO_MACHINES = "--nnodes 2 --nproc-per-node 1 "
C10D = "--rdzv-backend c10d --rdzv-id job --rdzv-endpoint 127.0.0.1:$PORT "
_GLOO = 'import torch, torch.distributed as dist\ndist.init_process_group("gloo")\n'
_NOT_MET = r"The machines that --nnodes counts did not meet in time\. Start the same"
_KILL = "import signal; rank and os.kill(os.getpid(), signal.SIGKILL)\n"


@dataclass(frozen=True)
class Failing:
    """One run that fails.

    Attributes:
        name: of the case, and of the file that holds a recording of it.
        says: the line about it, as a regular expression for its beginning.
        script: the script's lines after HEAD, which take up two.
        command: what is started.
        agents: how many machines start it.
        timeout: seconds for the run; none of those that fail by themselves comes near the usual ones.
        port_taken: $PORT is a port that somebody else holds.
        takes: a script of the course that lies beside it; "" for none.
    """

    name: str
    says: str
    script: str = ""
    command: str = ONE_MACHINE
    agents: int = 1
    timeout: float = 120
    port_taken: bool = False
    takes: str = ""


CASES = [
    Failing(
        "import",
        r"rank 1 stopped at: import no_such_module \(script\.py, line 4\)\. "
        r"ModuleNotFoundError: No module named 'no_such_module'\. The whole text: \.errors\[1\]\.",
        "if rank == 1:\n    import no_such_module\n",
    ),
    Failing(
        "not_python",
        r"script\.py is not Python at line 3: SyntaxError: .*\. Put that line right\.",
        "x = = 1\n",
    ),
    Failing("exit_code", r"rank 1 ended with exit code 3\.$", "sys.exit(3 * rank)\n"),
    Failing(
        "no_such_gpu",
        r"rank 1 stopped at: .* The code names a GPU that this machine does not have\..*--nproc-per-node",
        "if rank: raise RuntimeError('CUDA error: invalid device ordinal')\n",
    ),
    Failing(
        "killed_again",
        r"rank 1, after 1 restart, was ended by SIGKILL\. Somebody killed it, or the machine ran out of mem",
        _KILL,
        "--max-restarts 1 " + ONE_MACHINE,
    ),
    Failing(
        "killed_in_a_collective",
        r"rank 1 was ended by SIGKILL\. Somebody killed it, or the machine ran out of mem",
        _GLOO + "dist.barrier()\n" + _KILL + "dist.all_reduce(torch.ones(1))\n",
    ),
    Failing(
        "raises_while_another_waits",
        r"rank 1 stopped at: if rank: {}\[3\] \(script\.py, line 5\)\. KeyError: 3\. The whole text:",
        _GLOO + "if rank: {}[3]\ndist.all_reduce(torch.ones(1))\n",
    ),
    Failing(
        "versions_differ",
        r"rank 0 stopped \(train_ddp\.py, line \d+, in check_agreement\)\. The processes differ: rank 0 has "
        r"\{'torch': '9\.9\.0'\}, rank 1 has \{'torch': '9\.9\.1'\}\. Install the same versions on every ",
        _GLOO + "import train_ddp\ntrain_ddp.check_agreement(torch=f'9.9.{rank}')\n",
        TWO_MACHINES + C10D + "script.py",
        agents=2,
        takes="train_ddp.py",
    ),
    Failing(
        "no_script",
        r"there is no script none\.py in this folder\. Put it there, or correct",
        command="--standalone none.py",
    ),
    Failing("no_such_option", r"unrecognized arguments|.*required", command="--no-such-option script.py"),
    Failing(
        "one_of_two_came",
        r"Only 1 of 2 came .* Start the same command on every machine",
        command=TWO_MACHINES + "--master-port $PORT script.py",
    ),
    Failing("not_met", _NOT_MET, command=TWO_MACHINES + C10D + "script.py"),
    Failing(
        "not_met_by_its_own_limit",
        _NOT_MET,
        command=TWO_MACHINES + C10D + "--rdzv-conf join_timeout=1 script.py",
    ),
    Failing(
        "port_in_use",
        r"The port .* is taken \(EADDRINUSE\).* Take another port",
        command="--master-port $PORT script.py",
        port_taken=True,
    ),
    Failing(
        "never_comes",
        r"not at an end after 20 s, and stopped\. Then rank 0 was at: threading\.Event\(\)\.wait\(\) "
        r"\(script\.py, line 6\); rank 1 at: time\.sleep\(999\) \(script\.py, line 5\)\. ",
        "import threading, time\nif rank:\n    time.sleep(999)\nthreading.Event().wait()\n",
        timeout=20,
    ),
]
BY_NAME = {case.name: case for case in CASES}


@contextmanager
def port_taken() -> Iterator[int]:
    """Hold a port, and answer nobody."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def write_script(case: Failing, folder: Path) -> None:
    """Put what a case starts into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(HEAD + case.script, encoding="utf-8")


def start(case: Failing, python: str = sys.executable) -> Torchrun:
    """Run a case in the current folder."""
    write_script(case, Path.cwd())
    if case.takes:
        course_utils.take_home(case.takes)
    with port_taken() as taken:
        return course_utils.torchrun(
            *[case.command] * case.agents,
            timeout=case.timeout,
            join_timeout=20 if case.agents > 1 else 2,
            port=taken if case.port_taken else None,
            python=python,
        )
