"""The ranks that lesson 07's answers are tried on: what their collectives do, and what goes wrong there."""

import os
import threading
from typing import Any

import pytest
import torch
import torch.distributed as dist

from course_utils.exercises.instruments import ranks
from course_utils.exercises.instruments.ranks import on_ranks
from course_utils.exercises.trying import Mistake


def typed(source: str) -> Any:
    """Return the function `answer` of a cell with this source."""
    made: dict[str, Any] = {"dist": dist, "torch": torch, "os": os}
    exec(compile(source, "a cell", "exec"), made)
    return made["answer"]


def values(world: int, source: str) -> list[Any]:
    """Return what an answer returns on each rank."""
    return on_ranks(world, typed(source))


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
    dist.barrier()
    return dist.group.WORLD.calls"""
    calls = values(WORLD, source)
    names = ["all_reduce", "broadcast", "all_gather", "reduce_scatter", "barrier"]
    assert [name for name, _ in calls[1]] == names
    assert [count for _, count in calls[1]] == [32, 16, 48, 16, 0]


def test_what_answers_print_is_shown_rank_by_rank(capsys: pytest.CaptureFixture[str]) -> None:
    source = "for word in ('here', 'there'):\n        print(word); dist.barrier()"
    on_ranks(2, typed(f"def answer():\n    {source}"))
    said = [f"[rank {rank}] {word}" for rank in (0, 1) for word in ("here", "there")]
    assert capsys.readouterr().out.splitlines() == said


def test_each_rank_has_its_own_random_numbers_and_variables() -> None:
    source = """def answer():
    torch.manual_seed(dist.get_rank())
    dist.barrier()
    return torch.rand(1).item(), os.environ["RANK"], os.environ["WORLD_SIZE"]"""
    wanted = [torch.rand(1, generator=torch.Generator().manual_seed(rank)).item() for rank in (0, 1)]
    assert values(2, source) == [(wanted[0], "0", "2"), (wanted[1], "1", "2")]
    assert "RANK" not in os.environ


def test_turns_go_one_way_or_the_other() -> None:
    order: list[int] = []

    def trial() -> int:
        dist.barrier()
        order.append(dist.get_rank())
        return dist.get_rank()

    assert on_ranks(3, trial, last_first=True) == on_ranks(3, trial) == [0, 1, 2]
    assert order == [2, 1, 0, 0, 1, 2]


# ---- what goes wrong -----------------------------------------------------------------------------------
FAULTS = {
    "never_comes": "if dist.get_rank() == 1: dist.all_reduce(torch.ones(3))",
    "different": "dist.all_reduce(torch.ones(2 + dist.get_rank()))",
    "raises": "dist.barrier() if dist.get_rank() else 1 / 0",
    "endless": "while dist.get_rank(): pass",
}
FACTS = {
    "never_comes": {"there": "rank 1 in all_reduce of (3,) float32", "away": "Rank 0"},
    "different": {"there": "rank 0 in all_reduce of (2,) float32; rank 1 in all_reduce of (3,) float32"},
    "raises": {"rank": 0, "world": 2, "error": "ZeroDivisionError: division by zero"},
    "endless": {"ranks": "Rank 1"},
}


def known(source: str) -> Mistake:
    with pytest.raises(Mistake) as found:
        values(2, f"def answer():\n    {source}")
    return found.value


@pytest.mark.parametrize("key", FAULTS)
def test_a_fault_is_named_and_leaves_nothing(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "PATIENCE", 0.5 if key == "endless" else ranks.PATIENCE)
    before = set(threading.enumerate())
    found = known(FAULTS[key])
    assert found.key == key
    assert found.facts.items() >= FACTS[key].items()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before
    assert not dist.is_initialized()
    assert values(2, "def answer(): return dist.get_rank()") == [0, 1]


def test_a_bare_except_does_not_swallow_a_meeting_that_fails() -> None:
    found = known("""try:
        dist.barrier() if dist.get_rank() else None
    except Exception:
        pass""")
    assert found.key == "never_comes"


def test_an_interrupt_ends_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ranks, "_attend", interrupted)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        values(2, "def answer():\n    while True: pass")
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before
