"""The course in one folder: what goes onto it, what a second call does, a lesson run from it offline."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from authors import canonical
from classroom import demo, stick
from nbformat import NotebookNode
from PIL import Image
from start.options import options_of
from wheels import write_wheel

from course_utils.data import files
from course_utils.data.standin import CLASSES
from course_utils.lessons import ROOT, CourseError

REQUIREMENTS = "-e .  # the course\ntiny==1.0  # a package\n"
PYPROJECT = '[build-system]\nrequires = ["tiny>=1"]\nbuild-backend = "x"\n[project]\nname = "course"\n'


@pytest.fixture
def course(tmp_path: Path, small_lesson: NotebookNode, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small course without git, as it lies on a stick, with things around it that are not the course."""
    root = tmp_path / "course"
    lesson = canonical.to_text(small_lesson)
    files = {
        "README.md": "read me",
        "requirements.txt": REQUIREMENTS,
        "pyproject.toml": PYPROJECT,
        "notebooks/01_first.ipynb": lesson,
        "course_utils/__init__.py": "",
        "course_utils/data/load.py": "",
    }
    others = (".venv/bin/python", "build/x.html", "data/train.npz", "a/__pycache__/b.pyc", "x.egg-info/top")
    for name, text in {**files, **dict.fromkeys(others, ""), "notebooks/progress.json": "{}"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("COURSE_DATA", "standin")
    return root


@pytest.fixture
def no_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the decks, which take a while."""
    monkeypatch.setattr(stick, "build", lambda *_: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty stick."""
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


THE_COURSE = {
    "README.md",
    "requirements.txt",
    "pyproject.toml",
    "notebooks/01_first.ipynb",
    "course_utils/__init__.py",
    "course_utils/data/load.py",
}


def test_a_stick_holds_the_course_the_slides_and_what_to_do(course: Path, folder: Path) -> None:
    assert stick.make_stick(folder, root=course) == 0
    assert names(folder / "course") == THE_COURSE
    assert {"index.html", "01_first.html"} <= names(folder / "slides")
    readme = (folder / "README.txt").read_text(encoding="utf-8")
    assert "COURSE_DATA=standin" in readme
    assert "The packages are not on this stick." in readme
    assert readme.index("COURSE_DATA=standin") < readme.index("course_utils lab")  # in the order of doing it
    assert max(map(len, readme.splitlines())) <= 110


@pytest.mark.usefixtures("no_slides")
def test_a_second_call_copies_what_changed_and_removes_what_is_gone(
    course: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    (folder / "README.txt").write_text("of another course")
    stick.make_stick(folder, root=course)
    assert "Kept as found in " in capsys.readouterr().out
    assert (folder / "README.txt").read_text() == "of another course"
    (folder / "course" / "my_notes.txt").write_text("mine")
    (folder / "course" / "pyproject.toml").write_text("my answer")
    (course / "pyproject.toml").write_text(PYPROJECT.upper().lower() + "\n")
    (course / "README.md").write_text("read us")  # the size stays
    (course / "course_utils" / "data" / "load.py").unlink()
    (course / "course_utils" / "data" / "new.py").write_text("1")
    capsys.readouterr()
    stick.make_stick(folder, root=course)
    said = capsys.readouterr().out
    assert "6 files, 2 of them copied" in said
    assert ": course/pyproject.toml, README.txt. Move or delete" in said
    assert (folder / "course" / "pyproject.toml").read_text() == "my answer"
    assert (folder / "course" / "README.md").read_text() == "read us"
    expected = THE_COURSE - {"course_utils/data/load.py"} | {"course_utils/data/new.py", "my_notes.txt"}
    assert names(folder / "course") == expected
    stick.make_stick(folder, root=course)
    assert "6 files, 0 of them copied" in capsys.readouterr().out


def test_where_there_is_git_only_what_it_tracks_goes_along(course: Path, folder: Path) -> None:
    git = ["git", "-C", str(course), "-c", "user.name=x", "-c", "user.email=x@x"]
    if not shutil.which("git"):
        pytest.skip("needs git on PATH")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "README.md", "notebooks/01_first.ipynb"], check=True)
    assert stick.course_files(course) == ["README.md", "notebooks/01_first.ipynb"]


@pytest.mark.usefixtures("no_slides")
def test_pictures_go_where_the_lessons_look(
    course: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    for split in ("train", "test"):
        for name in CLASSES:
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / "pictures" / split / name / "1.png")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "pictures"))
    stick.make_stick(folder, root=course)
    assert f"train/{CLASSES[0]}/1.png" in names(folder / "course" / "data")
    assert len(names(folder / "course" / "data")) == 20
    assert "The pictures lie in course/data" in (folder / "README.txt").read_text(encoding="utf-8")


def refuse(number: int):
    """A file that the system refuses."""

    def write(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return write


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "is full. Free some space, then run this again"),
        (errno.EFBIG, "FAT32 ends at 4 GB"),
        (errno.EROFS, "cannot be written (Read-only file system). Choose another one"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    course: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    monkeypatch.setattr(files, "write", refuse(number))
    with pytest.raises(CourseError, match=re.escape(words)) as caught:
        stick.make_stick(folder, root=course)
    assert "\n" not in str(caught.value)


def test_a_stick_too_small_is_refused_before_anything_is_copied(
    course: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stick.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(CourseError, match="is full: 0 MB more are needed, 0 are free"):
        stick.make_stick(folder, root=course)
    assert names(folder) == set()


@pytest.mark.parametrize(
    ("place", "words"), [("gone", "there is no folder"), ("course/x", "lie in each other")]
)
def test_a_wrong_folder_is_refused(course: Path, tmp_path: Path, place: str, words: str) -> None:
    if place != "gone":
        (tmp_path / place).mkdir()
    with pytest.raises(CourseError, match=words):
        stick.make_stick(tmp_path / place, root=course)
    with pytest.raises(CourseError, match=r"there is no folder .*~nobody-at-all"):
        stick.make_stick(Path("~nobody-at-all"), root=course)


def test_faulty_pictures_are_refused(course: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DATA", str(folder / "nowhere"))
    with pytest.raises(CourseError, match="the pictures cannot be used"):
        stick.make_stick(folder, root=course)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    write_wheel(tmp_path / "index", "tiny", "1.0")
    return tmp_path / "index"


@pytest.mark.usefixtures("no_slides")
def test_packages_are_told_fetched_and_kept(
    course: Path, folder: Path, index: Path, capsys: pytest.CaptureFixture
) -> None:
    stick.make_stick(folder, packages=True, root=course)
    assert names(folder / "packages") == {"tiny-1.0-py3-none-any.whl"}
    said = capsys.readouterr().out
    assert re.search(r"packages: about [\d.]+ GB in all, 0.0 GB are there", said)
    assert "packages: 1 wheels, the largest 0 MB" in said
    shutil.rmtree(index)
    index.mkdir()
    with pytest.raises(CourseError, match="pip failed"):
        stick.make_stick(folder, packages=True, root=course)
    assert names(folder / "packages") == {"tiny-1.0-py3-none-any.whl"}


def test_the_readme_says_for_which_machines_the_packages_are(folder: Path) -> None:
    (folder / "torch-2.15.0-cp313-cp313-win_amd64.whl").touch()
    assert stick.wheels_for(folder) == "Python 3.13 on win_amd64"
    text = stick.readme(stick.wheels_for(folder), pictures=False)
    assert "The packages on this stick are for Python 3.13 on win_amd64." in text
    assert "   Python 3.13 must be there:" in text
    assert '.venv\\Scripts\\python -m pip install --no-index --find-links "STICK\\packages"' in text


@pytest.mark.slow
def test_a_lesson_runs_from_a_stick_without_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DATA", "standin")
    monkeypatch.setattr(stick, "build", lambda *_: None)  # the decks have tests of their own
    assert demo.main(**options_of("demo", ["--stick", str(folder)])) == 0
    assert "COURSE_DATA=standin" in (folder / "README.txt").read_text(encoding="utf-8")
    nowhere = "http://127.0.0.1:9"  # a port that nobody listens on
    variables = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "no_proxy")}
    done = subprocess.run(
        [sys.executable, "-m", "course_utils", "run", "0"],
        cwd=folder / "course",
        env=kept | variables | {"COURSE_PROGRESS": "off", "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"pages: {folder / 'course' / 'build' / 'lessons'}" in done.stdout
    assert names(ROOT / "notebooks") >= {"02_tensors_and_models.ipynb"}
