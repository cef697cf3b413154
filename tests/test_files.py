"""Writing files: in one step, alone, and never over what a user has changed."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from course_utils.data import files
from course_utils.data.files import Given, alone, write
from course_utils.lessons import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_whole_or_the_old_one_and_nothing_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "file", "one\n")
    monkeypatch.setattr(files, "replace", lambda *_: os.mkdir(tmp_path))
    with pytest.raises(FileExistsError):
        write(tmp_path / "file", "two\n")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"one\n"


def test_writers_at_the_same_time_have_a_file_each(tmp_path: Path) -> None:
    texts = [str(number) * 100_000 for number in range(4)]
    threads = [threading.Thread(target=write, args=(tmp_path / "file", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_text() in texts
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(("system", "tries"), [("nt", 3), ("posix", 1)])
def test_a_file_that_a_scanner_holds_is_tried_again_on_windows(
    monkeypatch: pytest.MonkeyPatch, system: str, tries: int
) -> None:
    tried: list[int] = []

    def held(target: object) -> None:
        tried.append(1)
        if len(tried) < 3:
            raise PermissionError

    monkeypatch.setattr(files, "os", SimpleNamespace(name=system))
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    try:
        files.replace(SimpleNamespace(replace=held), Path("target"))
    except PermissionError:
        assert system == "posix"
    assert len(tried) == tries


def test_only_one_is_in_a_block_alone(tmp_path: Path) -> None:
    lock, impossible = tmp_path / "lock", tmp_path / "no folder" / "lock"
    with alone(lock) as first, alone(lock) as second, alone(impossible) as unlocked:
        assert (first, second, unlocked) == (True, False, True)
    with alone(tmp_path / "lock") as again:
        assert again


@pytest.mark.skipif(os.name == "nt", reason="there a lock is not inherited; run it on Linux or a Mac")
def test_a_child_keeps_the_lock_of_a_caller_that_was_killed(tmp_path: Path) -> None:
    with alone(tmp_path / "lock"):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    with alone(tmp_path / "lock") as mine:
        assert not mine
    child.communicate()
    with alone(tmp_path / "lock") as mine:
        assert mine


def test_notebooks_that_note_progress_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from course_utils.exercises import progress\n"
        "for number in range(40): progress.done(sys.argv[1], f'exercise {number}')"
    )
    kernels = [
        subprocess.Popen(
            [sys.executable, "-c", code, lesson],
            cwd=ROOT,
            env=os.environ | {"COURSE_PROGRESS": str(tmp_path / "progress.json")},
        )
        for lesson in ("01", "02", "03")
    ]
    assert [kernel.wait() for kernel in kernels] == [0, 0, 0]
    assert (tmp_path / "progress.json").read_text().count("exercise ") == 120
    assert names(tmp_path) == [".progress.json.lock", "progress.json"]


def test_only_what_nobody_has_changed_is_replaced_or_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "index.html").write_text("mine")
    for text in ("old", "new"):
        with Given(tmp_path) as given:
            for name in ("index.html", "a/deck.html", "gone.txt", "edited.txt"):
                given.put(name, text)
        said = capsys.readouterr().out
        assert said == (
            f"Kept as found in {tmp_path}: index.html. Move or delete what should come from the course.\n"
        )
    (tmp_path / "edited.txt").write_text("mine")
    with Given(tmp_path) as given:
        given.remove("gone.txt")
        given.remove("edited.txt")
    assert "edited.txt" in capsys.readouterr().out
    assert names(tmp_path) == [files.RECORD, "a", "edited.txt", "index.html"]
    assert (tmp_path / "index.html").read_text() == "mine"
    assert (tmp_path / "a/deck.html").read_text() == "new"
