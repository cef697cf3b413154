"""What torchrun() prints and returns: the command, each rank's lines in order, one line about a failure."""

from collections.abc import Callable

import pytest

import course_utils
from course_utils import distributed
from course_utils.distributed import launching
from course_utils.lessons import CourseError
from course_utils.virtual.startup.sitecustomize import SETTINGS

from .conftest import STAY

Script = Callable[..., str]


@pytest.mark.slow
def test_each_rank_speaks_in_turn_and_stderr_is_kept_apart(
    script: Script,
    capsys: pytest.CaptureFixture,
    left_behind: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a process that a rank has started and left is ended with it."""
    monkeypatch.setattr(launching, "get_free_port", lambda: 12345)
    command = script(
        STAY + 'print(f"one, \N{EURO SIGN}\\n\\ntwo", end="" if rank else "\\n")\n'
        'print("a warning of", rank, file=sys.stderr)\nprint(*sys.argv[1:])\n'
    )
    result = course_utils.torchrun(f"{command} --name 'two words' $PORT")
    assert capsys.readouterr().out.splitlines() == [
        f"$ torchrun {command} --name 'two words' $PORT",
        "[rank 0] one, \N{EURO SIGN}",
        "[rank 0] ",
        "[rank 0] two",
        "[rank 0] --name two words 12345",
        "[rank 1] one, \N{EURO SIGN}",
        "[rank 1] ",
        "[rank 1] two--name two words 12345",
    ]
    assert (result.ok, result.restarts, result.error) == (True, 0, "")
    assert result.ranks[1] == "one, \N{EURO SIGN}\n\ntwo--name two words 12345\n"
    assert result.errors == {0: "a warning of 0\n", 1: "a warning of 1\n"}
    assert repr(result) == "<torchrun: 2 ranks, ok>"
    assert not left_behind()


@pytest.mark.slow
def test_two_machines_are_two_commands(script: Script, capsys: pytest.CaptureFixture) -> None:
    script('print(rank, os.environ["LOCAL_RANK"], os.environ["GROUP_RANK"], os.environ["WORLD_SIZE"])')
    command = (
        "--nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:$PORT --rdzv-id job "
        "script.py"
    )
    assert course_utils.torchrun(command, f"torchrun {command}").ok
    ranks = ["0 0 0 4", "1 1 0 4", "2 0 1 4", "3 1 1 4"]
    expected = [*[f"$ torchrun {command}"] * 2, *(f"[rank {i}] {line}" for i, line in enumerate(ranks))]
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.slow
def test_no_process_at_all_is_told_as_that(script: Script) -> None:
    script("pass")
    result = course_utils.torchrun("--standalone --nproc-per-node 0 script.py")
    assert result.error.startswith("torchrun was asked for no process.")


def test_a_flood_is_printed_in_part_and_kept_whole(capsys: pytest.CaptureFixture) -> None:
    flood = "begin\n" + "x" * 10**6 + "\nend\n"
    distributed._report(distributed.Torchrun(True, 0, {0: flood}, {0: ""}, [{0: flood}], ""))
    said = capsys.readouterr().out
    assert len(said) < 110_000
    assert said.startswith("[rank 0] begin\n")
    assert said.endswith("\n[rank 0] end\n")


def test_a_command_is_needed() -> None:
    with pytest.raises(CourseError, match=r"Write what follows torchrun in a terminal"):
        course_utils.torchrun()


def test_an_open_quotation_is_named() -> None:
    with pytest.raises(CourseError, match=r"No closing quotation\. Close the quotation"):
        course_utils.torchrun("script.py 'one")


def test_words_are_split_as_the_system_does(monkeypatch: pytest.MonkeyPatch) -> None:
    line = r"C:\new\t.py 'a b' $PORT ${PORT} $NONE # no comment"
    monkeypatch.setattr(launching, "_WINDOWS", True)
    found = launching.words(line, {"PORT": "1"})
    assert found == [r"C:\new\t.py", "a b", "1", "1", "$NONE", "#", "no", "comment"]
    monkeypatch.setattr(launching, "_WINDOWS", False)
    assert launching.words(r"a\ b.py", {}) == ["a b.py"]


@pytest.mark.parametrize(
    ("windows", "set_before", "expected"), [(True, None, "0"), (True, "1", "1"), (False, None, None)]
)
def test_windows_has_no_libuv(
    windows: bool, set_before: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_WINDOWS", windows)
    monkeypatch.delenv("USE_LIBUV", raising=False)
    if set_before:
        monkeypatch.setenv("USE_LIBUV", set_before)
    assert launching.environment("run", again=False).get("USE_LIBUV") == expected


@pytest.mark.parametrize(("mode", "seen"), [("cpu", ""), ("virtual", ""), ("auto", "1"), ("real", "1")])
def test_ranks_see_gpus_where_the_lesson_does(mode: str, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DEVICE", mode)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert launching.environment("run", again=False)["CUDA_VISIBLE_DEVICES"] == seen
    assert SETTINGS not in launching.environment("run", again=False)
    with course_utils.virtual_gpus(2):  # all of them, whatever names this machine's own
        assert "CUDA_VISIBLE_DEVICES" not in launching.environment("run", again=False)


@pytest.mark.parametrize("option", ["--max-restarts 1", "--max_restarts=3"])
def test_only_restarts_need_a_store_of_their_own(option: str) -> None:
    name = launching.SHARING_OFF.split("=")[0]
    assert launching.restarts_allowed(f"--standalone {option} x.py")
    assert not launching.restarts_allowed("--standalone --max-restarts 0 x.py")
    assert launching.environment("run", again=True)[name] == "1"
    assert name not in launching.environment("run", again=False)
