"""A small fuzzer: damaged files, slips in arguments, foreign archives, odd answers; longer by `--everything`.

What it looks for is the same everywhere: one clear line or a verdict in place of a traceback, nothing written
where it does not belong, and everything as it was before.
"""

import contextlib
import io
import itertools
import json
import random
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from start import bootstrap, cli, runner, workspace

import course_utils
from course_utils.data import cifar10
from course_utils.data.files import RECORD, Given
from course_utils.data.folder import BATCHES, contents
from course_utils.exercises import progress
from course_utils.exercises.lesson import Lesson
from course_utils.lessons import CourseError
from course_utils.machine import environment

Dice = random.Random


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> range:
    """The seeds: a second or two of them, or minutes for the night."""
    return range(2000 if request.config.getoption("everything") else 200)


# --- files ---

PIECES = [b"", b"\0", b"\xff\xfe", b"<<<<<<< HEAD\n", b"[" * 5000, b'{"a":', b"null"]
PIECES += [b"1e999", b"\r\n", b"\xc3"]
PIECES += [b'"cells"', b"{}", b"[]", b"[1]", b'{"01": 5}', b'{"cells": [5]}']
PIECES += [b'{"parts": 1}', b"\xef\xbb\xbf"]


def damaged(dice: Dice, whole: bytes) -> bytes:
    """A file after a merge, a cut cable, another program: cut, filled, or replaced."""
    start, end = sorted(dice.randrange(len(whole) + 1) for _ in range(2))
    piece = b"".join(dice.choices(PIECES, k=dice.randrange(1, 4)))
    return dice.choice([piece, whole[:start], whole[:start] + piece + whole[end:], whole[:start] + piece])


def test_damaged_files(rounds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_session", {})
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    folder, lesson = tmp_path / "work", tmp_path / "notebooks" / "01_first.ipynb"
    folder.mkdir()
    lesson.parent.mkdir()
    cell = {
        "cell_type": "code",
        "source": ["1"],
        "metadata": {},
        "outputs": [],
        "execution_count": 1,
        "id": "a",
    }
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for seed in rounds:
        dice = Dice(seed)
        lesson.write_bytes(damaged(dice, json.dumps(notebook).encode()))
        with contextlib.suppress(CourseError):
            runner.read(lesson)
        (folder / RECORD).write_bytes(damaged(dice, b'{"01_first.ipynb": "abc"}'))
        mine = damaged(dice, lesson.read_bytes())
        (folder / lesson.name).write_bytes(mine)
        workspace.refresh(tmp_path)
        copies = [path.read_bytes() for path in folder.glob("*.ipynb")]
        assert mine in copies, seed  # a reader's own file is never lost
        for copy in folder.glob("*.ipynb"):
            copy.unlink()
        (tmp_path / "progress.json").write_bytes(damaged(dice, b'{"01": ["a", "b"]}'))
        progress.done("01", "c")
        assert progress.line("01", ["c"]).startswith("Lesson 01: 1 of 1 done"), seed


@pytest.mark.filterwarnings("ignore:the record")
def test_damaged_records(rounds: range, tmp_path: Path) -> None:
    part = {"status": "done", "date": "2026-11-21T10:00:00+00:00", "commit": None, "seconds": 1.0}
    part["figures"] = {"units": "s", "sizes": [16], "cpu": [[2e-6]], "gpu": [[1e-6]], "cpu_threads": 2}
    machine = {"torch": "2.15.0", "cuda": "13.2", "driver": "580.1", "compute_capability": "7.5"}
    card = {"schema": 1, "rehearsal": False, "card": "T4", "machine": machine, "parts": {"matmul": part}}
    for seed in rounds:
        (tmp_path / "t4.json").write_bytes(damaged(Dice(seed), json.dumps(card).encode()))
        course_utils.records("matmul", tmp_path)


# --- arguments and what pip says ---

WORDS = [*"lab test run demo slides bench doctor help 0 4 05 99 -1".split(), "", "--help"]
WORDS += ["-h", "--version", "--"]
WORDS += ["--rounds", "--rounds=0", "--pictures=x", "--stick", "--output", "--packages"]
WORDS += ["\0", "é", "-x=", "../..", "*"]


def test_slips_in_arguments(rounds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find", lambda: environment.Environment("own", tmp_path))
    monkeypatch.setattr(bootstrap, "prepare", lambda: tmp_path / "python")
    monkeypatch.setattr(workspace, "refresh", list)
    monkeypatch.setattr(cli, "hand_over", lambda command: 7)
    monkeypatch.setattr(
        cli, "resolve_name", lambda name: lambda *given, **options: 0 if "doctor" in name else None
    )
    monkeypatch.setitem(cli.options.COMMANDS, "lab", {"does": "lab"})
    for seed in rounds:
        dice, said = Dice(seed), io.StringIO()
        typed = dice.choices(WORDS, k=dice.randrange(5))
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = cli.main(typed)
            except SystemExit as end:
                code = end.code
        assert code in (0, 1, 2, 7), typed
        assert code != 1 or said.getvalue().count("\n") == 1, typed


def test_anything_that_pip_says_is_one_line(rounds: range) -> None:
    lines = [
        "ERROR: a",
        "error: subprocess-exited-with-error",
        "  ╰─> [2 lines]",
        "",
        "\r",
        "{again}",
        "│",
        "{0}",
    ]
    for seed in rounds:
        dice = Dice(seed)
        reason = bootstrap.pip_error("\n".join(dice.choices(lines, k=dice.randrange(6))))
        assert len(reason.splitlines()) == 1, seed


# --- archives ---

PATHS = [f"{BATCHES}/data_batch_1", f"{BATCHES}/test_batch", "../evil", "/tmp/evil", f"{BATCHES}/../../evil"]
PATHS += [BATCHES, f"{BATCHES}/evil", "C:\\evil", f"{BATCHES}/data_batch_2/x", f"{BATCHES}/batches.meta"]
KINDS = [tarfile.REGTYPE] * 4 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]


def an_archive(dice: Dice) -> bytes:
    """An archive of a few members that no official one has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number in range(1, 6):
            tar.addfile(tarfile.TarInfo(f"{BATCHES}/data_batch_{number}"))
        for _ in range(dice.randrange(8)):
            member = tarfile.TarInfo(dice.choice(PATHS))
            member.type, member.linkname = dice.choice(KINDS), dice.choice(PATHS)
            member.size = 3 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"abc"))
    whole = buffer.getvalue()
    return whole if dice.random() < 0.7 else damaged(dice, whole)


def test_foreign_archives_write_nothing_but_the_official_names(rounds: range, tmp_path: Path) -> None:
    refused = (tarfile.TarError, LookupError, AttributeError, EOFError, OSError, zlib.error)
    for seed in rounds:
        (tmp_path / "inside").mkdir(exist_ok=True)
        (tmp_path / "archive").write_bytes(an_archive(Dice(seed)))
        with contextlib.suppress(*refused):
            cifar10.unpack(tmp_path / "archive", tmp_path / "inside")
        assert {path.name for path in tmp_path.iterdir()} == {"inside", "archive"}, seed
        found = {
            path.relative_to(tmp_path / "inside").as_posix() for path in (tmp_path / "inside").rglob("*")
        }
        assert found <= {BATCHES, *(f"{BATCHES}/{name}" for name in cifar10.BATCH_FILES)}, seed
        assert not any(path.is_symlink() for path in (tmp_path / "inside").rglob("*")), seed
        contents(tmp_path / "inside")


def test_the_course_gives_and_removes_only_what_it_wrote(rounds: range, tmp_path: Path) -> None:
    names = ["a.txt", "b/c.txt", "d.ipynb"]
    given: dict[str, bytes] = {}
    for seed in rounds:
        dice, name = Dice(seed), Dice(seed).choice(names)
        if dice.random() < 0.3:  # somebody writes
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"mine %d" % seed)
        before = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
        with Given(tmp_path) as record:
            removed = dice.random() < 0.3 and name in record.known
            record.remove(name) if removed else record.put(name, b"course %d" % seed)
        mine = before is not None and before != given.get(name)
        after = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
        assert after == (before if mine else None if removed else b"course %d" % seed), seed
        if not mine:
            given[name] = after


# --- answers ---

TOML = """
[double]
title = "twice as much"
kind = "write"
minutes = 3
text = "Double it."
stub = "double = None"
worked = "double = lambda x: 2 * x"
reasoning = "Because."
hints = ["One."]
why = "Good."
mistakes.square = { say = "{seen} is the square of {x}.", change = [["2 * x", "x * x"]] }
mistakes.other = "It gives {seen}, not {best}."

[sizes]
title = "how many?"
kind = "predict"
text = "Guess."
question = "How many rows?"
right = [4, 2]
choices = [[3, 3], [4, 2], "none"]
reasoning = "Because."
hints = ["One."]
why = "Good."
mistakes.even = { guesses = [[3, 3]], say = "That would be even." }
"""


class Odd:
    """An object on which everything fails."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)

    def __repr__(self) -> str:
        raise RuntimeError("no name")

    def __eq__(self, other: object) -> bool:
        raise KeyError(0)

    __hash__ = None


def fail(kind: type[BaseException]) -> Callable[[Any], Any]:
    """Return an answer that raises."""

    def answer(x: Any) -> Any:
        raise kind("\n{x}" * 3)

    return answer


LOOP: list[Any] = []
LOOP.append(LOOP)
VALUES = [None, ..., 0, -1, 10**400, float("nan"), 1e999, "", "{x}", "none", b"\xff"]
VALUES += [[3, 3], (4, 2), {}, {1: ...}, LOOP]
VALUES += [Odd(), Odd, object(), int, lambda: 0, lambda *x: x]
VALUES += [torch.tensor([1.0, float("nan")]), np.arange(3), "\0" * 9999]
CALLS: list[Callable[[Any], Any]] = [
    *map(fail, (SystemExit, KeyboardInterrupt, GeneratorExit, ValueError, RecursionError, StopIteration)),
    lambda x: sys.exit(0),
    lambda x: print("x" * 10**6) or 2 * x,
    lambda x: [print(x, file=sys.stderr) for _ in range(9999)],
    lambda x: torch.set_default_dtype(torch.float64),
    lambda x: torch.set_num_threads(3 - torch.get_num_threads()) or 2 * x,
    lambda x: torch.set_grad_enabled(False) and None,
    lambda x: torch.set_default_device("meta"),
    lambda x: (torch.manual_seed(x), random.seed(x), np.random.seed(x), torch.rand(3), 2 * x)[-1],
    lambda x: answer_without_end(x),
    lambda x: 2 * x,
]


def answer_without_end(x: Any) -> Any:
    """Call itself for ever."""
    return answer_without_end(x)


def state() -> list[Any]:
    """What an answer must leave as it was."""
    numbers = [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]
    settings = [torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()]
    return [*numbers, *settings, torch.is_grad_enabled(), sys.stdout, sys.stderr]


def test_odd_answers(
    rounds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "lesson_99.toml").write_text(TOML, encoding="utf-8")
    lesson = Lesson("99", tmp_path)

    @lesson.trial([(3,), (5,)])
    def double(answer: Any, x: int) -> Any:
        return answer(x)

    monkeypatch.setenv("COURSE_PROGRESS", "off")
    before = state()
    calls = itertools.chain(((double.check, value) for value in [*CALLS, *VALUES]), odd(rounds, lesson))
    for call, *given in calls:
        call(*given)
        said = "".join(capsys.readouterr())
        assert len(said) < 30_000, given
        assert state() == before, (call, CALLS.index(given[0]) if given[0] in CALLS else given)


def odd(rounds: range, lesson: Lesson) -> Any:
    """Yield calls of what a reader may call, each with odd values."""
    for seed in rounds:
        dice = Dice(seed)
        value = dice.choice(VALUES)
        result = [value] * dice.randrange(3)
        yield lesson.exercises["double"].check, lambda x, value=value, result=result: result or value
        yield lesson.exercises["sizes"].guess, ... if type(value) is Odd else value
        yield lesson.exercises["sizes"].compare, dice.choice([[4, 2], None, LOOP, "none", 10**400])
