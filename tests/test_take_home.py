"""Scripts to take home: copied once, never over a reader's edits, one clear line for what cannot be done."""

import errno
from contextlib import chdir
from pathlib import Path

import pytest

import course_utils
from course_utils.lessons import CourseError

SCRIPTS = sorted(
    path.name for path in (Path(course_utils.__file__).parent / "distributed" / "scripts").glob("*_*.py")
)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "__init__.py"])
def test_a_script_comes_as_it_is_and_uses_nothing_of_the_course(name: str, tmp_path: Path) -> None:
    with chdir(tmp_path):
        assert course_utils.take_home(name) == Path(name)
        text = Path(name).read_text(encoding="utf-8")
    assert "torch" in text
    assert "course_utils" not in text


def test_edits_are_kept_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with chdir(tmp_path):
        path = course_utils.take_home("train_ddp.py")
        original = path.read_bytes()
        path.write_bytes(original.replace(b"\n", b"\r\n"))  # as an editor on Windows does
        course_utils.take_home("train_ddp.py")
        assert capsys.readouterr().out == ""
        path.write_bytes(b"mine")
        assert course_utils.take_home("train_ddp.py").read_bytes() == b"mine"
    said = capsys.readouterr().out
    assert said.startswith("train_ddp.py here differs from the course's. It stays as it is; delete it")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["train.py", "__init__.py", "../take_home.py"])
def test_a_wrong_name_lists_the_scripts(name: str, tmp_path: Path) -> None:
    with (
        chdir(tmp_path),
        pytest.raises(CourseError, match=r"no script .* The scripts: .*train_ddp\.py") as error,
    ):
        course_utils.take_home(name)
    assert "__init__" not in str(error.value).split("The scripts")[1]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:  # permissions do not stop the superuser, who may run this
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with chdir(tmp_path), pytest.raises(CourseError, match=r"\(Read-only file system\)\. Change to a folder"):
        course_utils.take_home("train_ddp.py")
