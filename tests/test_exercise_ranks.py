"""The processes that lesson 07's answers are tried on: what they are sent and say, and how they end."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import torch

from course_utils.exercises.engine import NotYet
from course_utils.exercises.judging import rank_pool, rank_processes
from course_utils.exercises.judging.carrying import pack, unpack
from course_utils.exercises.judging.rank_pool import judged_ranks
from course_utils.lessons import ROOT

pytestmark = pytest.mark.slow


def typed(source: str, name: str = "answer") -> Any:
    """Return what a notebook has under a name after a cell with this source has run."""
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(f"import torch\nimport torch.distributed as dist\n{source}", "a cell", "exec"), made)
    return made[name]


def call(answer: Any, *given: Any) -> Any:
    """The trial: what the answer returns."""
    return answer(*given)


def values(world: int, source: str, *given: Any) -> list[Any]:
    """Return what an answer returns on each rank."""
    with judged_ranks() as ranks:
        return [report.value for report in ranks.run(world, call, typed(source), *given)]


def mistake(world: int, source: str, *given: Any) -> NotYet:
    """Return the hint that an answer gets."""
    with pytest.raises(NotYet) as found:
        values(world, source, *given)
    return found.value


# ---- what is sent --------------------------------------------------------------------------------------
CARRIED = {
    "globals and other functions": ("factor = 3\ndef double(x): return 2 * x\n"
                                    "def answer(x): return factor * double(x)", 30),
    "recursion": ("def answer(x): return 1 if x < 2 else x * answer(x - 1)", 120),
    "each other": ("def answer(x): return x and other(x - 1) + 1\n"
                   "def other(x): return x and answer(x - 1) + 1", 5),
    "closure": ("def make(step):\n    def add(x): return x + step\n    return add\nanswer = make(4)", 9),
    "lambda inside": ("base = 7\ndef answer(x): return (lambda y: y + base)(x)", 12),
    "defaults": ("def answer(x, *, more=[1, 2]): return x + sum(more)", 8),
    "modules": ("import math\nfrom functools import partial\nanswer = partial(math.pow, 2)", 32),
    "class": ("class Base:\n    def __init__(self, x): self.x = x\n"
              "class Sum(Base):\n    def __init__(self, x): super().__init__(x + 1)\n"
              "    @property\n    def twice(self): return self.scale(self.x)\n"
              "    @staticmethod\n    def scale(x): return 2 * x\n"
              "def answer(x): return Sum(x).twice", 12),
    "dataclass": ("from dataclasses import dataclass\n@dataclass\nclass Pair:\n    x: int\n    y: int = 2\n"
                  "answer = lambda x: Pair(x).x + Pair(x).y", 7),
    "tensor": ("weight = torch.ones(3)\ndef answer(x): return (weight * x).sum().item()", 15),
}  # fmt: skip


@pytest.mark.parametrize("name", CARRIED)
def test_what_a_notebook_has_is_carried(name: str) -> None:
    source, expected = CARRIED[name]
    answer = typed(source)
    assert answer(5) == expected
    assert unpack(pack(answer))(5) == expected


def test_what_cannot_be_carried_is_told() -> None:
    found = mistake(1, "lines = (n for n in range(3))\ndef answer(): return list(lines)")
    assert found.key == "carry"
    assert "generator" in found.hint


# ---- what collectives do -------------------------------------------------------------------------------
RANK, WORLD = "r, n = dist.get_rank(), dist.get_world_size()", 3
COLLECTIVES = {
    "all_reduce": ("t = torch.tensor([r + 1.0]); dist.all_reduce(t)", [[6.0]] * 3),
    "mean": ("t = torch.tensor([r + 1.0]); dist.all_reduce(t, dist.ReduceOp.AVG)", [[2.0]] * 3),
    "largest": ("t = torch.tensor([r, -r]); dist.all_reduce(t, dist.ReduceOp.MAX)", [[2, 0]] * 3),
    "broadcast": ("t = torch.tensor([r]); dist.broadcast(t, 1)", [[1]] * 3),
    "reduce": ("t = torch.tensor([r + 1]); dist.reduce(t, 2)", [[1], [2], [6]]),
    "all_gather": ("o = [torch.zeros(1) for _ in range(n)]; dist.all_gather(o, torch.ones(1) * r); "
                   "t = torch.cat(o)",
                   [[0.0, 1.0, 2.0]] * 3),
    "all_gather_into_tensor": ("t = torch.zeros(6); dist.all_gather_into_tensor(t, torch.ones(2) * r)",
                               [[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]] * 3),
    "reduce_scatter_tensor": ("t = torch.zeros(1); dist.reduce_scatter_tensor(t, torch.arange(3.0) + r)",
                              [[3.0], [6.0], [9.0]]),
    "all_to_all_single": ("t = torch.zeros(3); dist.all_to_all_single(t, torch.arange(3.0) + 10 * r)",
                          [[0.0, 10.0, 20.0], [1.0, 11.0, 21.0], [2.0, 12.0, 22.0]]),
    "scatter": ("t = torch.zeros(1); "
                "dist.scatter(t, [torch.ones(1) * i for i in range(n)] if r == 0 else None)",
                [[0.0], [1.0], [2.0]]),
    "gather": ("o = [torch.zeros(1) for _ in range(n)]; "
               "dist.gather(torch.ones(1) * r, o if r == 0 else None); t = torch.cat(o)",
               [[0.0, 1.0, 2.0], [0.0] * 3, [0.0] * 3]),
    "all_gather_object": ("t = [None] * n; dist.all_gather_object(t, f'rank {r}')",
                          [["rank 0", "rank 1", "rank 2"]] * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_do_what_gloo_does(name: str) -> None:
    source, expected = COLLECTIVES[name]
    body = f"def answer():\n    {RANK}\n    {source}\n    return t if isinstance(t, list) else t.tolist()"
    assert values(WORLD, body) == expected


def test_the_bytes_of_a_ring_are_counted() -> None:
    source = """def answer():
    dist.all_reduce(torch.zeros(6))
    dist.broadcast(torch.zeros(6), 1)
    dist.all_gather_into_tensor(torch.zeros(18), torch.zeros(6))
    dist.reduce_scatter_tensor(torch.zeros(2), torch.zeros(6))
    dist.barrier()"""
    with judged_ranks() as ranks:
        calls = [report.calls for report in ranks.run(WORLD, call, typed(source))]
    names = ["all_reduce", "broadcast", "all_gather", "reduce_scatter", "barrier"]
    assert [name for name, _ in calls[1]] == names
    assert [count for _, count in calls[1]] == [32, 24, 48, 16, 0]
    assert [count for _, count in calls[0]] == [32, 0, 48, 16, 0]


def test_what_answers_print_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    answer = typed("def answer(): print('here is', dist.get_rank())")
    with judged_ranks() as ranks:
        for _ in range(2):
            ranks.run(2, call, answer)
    lines = [line for line in capsys.readouterr().out.splitlines() if "here" in line]
    assert lines == ["[rank 0] here is 0", "[rank 1] here is 1"]


# ---- what goes wrong -----------------------------------------------------------------------------------
FAULTS = {
    "never_comes": "if dist.get_rank() == 1: dist.all_reduce(torch.ones(3))",
    "different": "dist.all_reduce(torch.ones(2 + dist.get_rank()))",
    "raises": "dist.barrier() if dist.get_rank() else 1 / 0",
}
SAYS = {
    "never_comes": "rank 1 in all_reduce of (3,) float32 would wait for ever: Rank 0 came to the end",
    "different": "rank 0 in all_reduce of (2,) float32; rank 1 in all_reduce of (3,) float32",
    "raises": "On rank 0 of 2 your code raised ZeroDivisionError",
}


@pytest.mark.parametrize("key", FAULTS)
def test_a_fault_has_its_hint_and_ends_nothing(key: str) -> None:
    before = rank_processes.running()
    found = mistake(2, f"def answer():\n    {FAULTS[key]}")
    assert found.key == key
    assert SAYS[key] in found.hint
    assert values(2, "def answer(): return dist.get_rank()") == [0, 1]
    assert rank_processes.running() is before


def test_a_bare_except_does_not_swallow_a_meeting_that_fails() -> None:
    found = mistake(2, """def answer():
    try:
        dist.barrier() if dist.get_rank() else None
    except Exception:
        pass""")  # fmt: skip
    assert found.key == "never_comes"


ENDS = {
    "crash": "import os\ndef answer(): dist.get_rank() and os._exit(3)\n",
    "endless": "def answer():\n    while dist.get_rank(): pass",
}


@pytest.mark.parametrize("key", ENDS)
def test_a_crash_or_a_loop_ends_the_processes_and_new_ones_start(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(rank_processes.running().ids)
    monkeypatch.setattr(rank_pool, "PATIENCE", 1.0 if key == "endless" else rank_pool.PATIENCE)
    found = mistake(2, ENDS[key])
    assert found.key == key
    assert "ank 1" in found.hint
    assert not [number for number in ids if psutil.pid_exists(number)]
    monkeypatch.undo()
    assert values(2, "def answer(): return dist.get_world_size()") == [2, 2]


def test_an_interrupt_ends_the_processes() -> None:
    ids = list(rank_processes.running().ids)
    with pytest.raises(KeyboardInterrupt), judged_ranks():
        raise KeyboardInterrupt
    assert not [number for number in ids if psutil.pid_exists(number)]


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ranks that are processes of their own, as where there is no fork; one is enough to see it."""
    rank_processes.end_ranks()
    monkeypatch.setattr(rank_processes, "_FORK", False)
    monkeypatch.setattr(rank_processes, "WORLD", 1)
    yield
    rank_processes.end_ranks()


def test_without_fork(one_process: None) -> None:
    assert values(1, "def answer(x):\n    dist.all_reduce(x)\n    return x.tolist()", torch.ones(2)) == [
        [1, 1]
    ]
    (number,) = rank_processes.running().ids
    rank_processes.end_ranks()
    assert not psutil.pid_exists(number)


def test_processes_that_do_not_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rank_processes.end_ranks()
    monkeypatch.setattr(rank_processes.sys, "executable", shutil.which("false") or "whoami")
    assert mistake(1, "def answer(): pass").key == "start"
    monkeypatch.undo()
    assert rank_processes._running is None


KERNEL = """
from course_utils.exercises.judging.rank_processes import running
print(*running().ids, flush=True)
input()
"""


def test_nothing_outlives_a_kernel_that_is_killed() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", KERNEL], cwd=ROOT, **pipes) as kernel:
        line = next(line for line in kernel.stdout if not line.startswith("Starting"))
        ranks = [psutil.Process(int(number)) for number in line.split()]
        kernel.kill()
    assert len(ranks) == rank_processes.WORLD
    _, alive = psutil.wait_procs(ranks, timeout=30)
    assert not alive
