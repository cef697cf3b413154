"""The course in one folder, for a room without internet.

    README.txt    what a learner does, as commands
    course/       what git knows of the course; the pictures in course/data, where the lessons look for them
    slides/       the decks
    packages/     on request: the wheels for the kind of machine that this is

A second call copies what is missing or has changed, and removes what the course no longer has; what somebody
has changed there, or put there before the first call, stays, and is named.
"""

import errno
import filecmp
import os
import shutil
import sys
import tempfile
import tomllib
from functools import partial
from pathlib import Path

from start import bootstrap
from start.workspace import FOLDER, PROGRESS
from tqdm import tqdm

from classroom.slides import build
from course_utils.data.cifar10 import REAL, STANDIN, load_cifar10
from course_utils.data.files import RECORD, Given
from course_utils.data.folder import BATCHES, data_folder
from course_utils.lessons import ROOT, CourseError, lesson_paths
from course_utils.machine.environment import requirements
from course_utils.machine.system import ask

TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SKIPPED = {".git", ".venv", "build", "__pycache__", ".ipynb_checkpoints", RECORD, FOLDER, PROGRESS}


def make_stick(folder: Path, *, packages: bool = False, root: Path = ROOT) -> int:
    """Fill or refresh `folder`, which must exist; returns 0.

    Raises CourseError where the folder is missing, cannot be written or is full, or pip fails.
    """
    folder = Path(os.path.expanduser(folder)).resolve()  # Path's own raises for an unknown user
    if not folder.is_dir():
        raise CourseError(f"there is no folder {folder}. Plug the stick in, or make the folder first")
    if folder.is_relative_to(root) or root.is_relative_to(folder):
        raise CourseError(f"{folder} and the course's own folder lie in each other. Choose another one")
    try:
        with Given(folder) as given:
            pictures = copy_course(given, root)
            build(lesson_paths(root), folder / "slides", root / "docs" / "instructors_guide.md")
            if packages:
                fetch_packages(folder / "packages", root)
            given.put("README.txt", readme(wheels_for(folder / "packages"), pictures))
    except OSError as error:
        reasons = TEXTS["refused"]
        reason = reasons.get(errno.errorcode.get(error.errno), reasons["other"])
        reason = reason.format(error.strerror or error)
        raise CourseError(f"{folder} {reason}, then run this again: what is there is kept") from error
    print(f"{folder} is ready, {used(folder) / 1e6:,.0f} MB in all. Learners begin with README.txt there.")
    return 0


def used(folder: Path) -> int:
    """How many bytes the files in a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def readme(machine: str, pictures: bool) -> str:
    """The text of README.txt; `machine` is what the packages are for, empty where there are none."""
    return TEXTS["readme"].format(
        packages=TEXTS["packages"]["there" if machine else "missing"].format(machine=machine),
        pictures=TEXTS["pictures"]["there" if pictures else "missing"],
        python=machine.partition(" on ")[0] or "Python 3.11 or newer",
        linux=".venv/bin/python" if machine else "python3",
        windows=".venv\\Scripts\\python" if machine else "py",
    )


def copy_course(given: Given, root: Path) -> bool:
    """Bring the folder `course` up to date; return whether it has pictures.

    Raises CourseError where there is too little room.
    """
    files, pictures = course_files(root), find_pictures()
    wanted = {f"course/{name}": root / name for name in files}
    wanted |= {f"course/data/{path.relative_to(base).as_posix()}": path for base, path in pictures}
    changed = [name for name, source in wanted.items() if not _same(source, given.folder / name)]
    total = sum(wanted[name].stat().st_size for name in changed)
    check_room(given.folder, total)
    with tqdm(total=total, desc="copying", unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for name, source in wanted.items():
            given.put(name, source.read_bytes())
            bar.update(source.stat().st_size if name in changed else 0)
    for name in given.known.keys() - wanted.keys():
        if name.startswith("course/") and not name.startswith("course/data/"):  # pictures once here may stay
            given.remove(name)
    print(f"course: {len(wanted)} files, {len(changed) - len(given.kept)} of them copied")
    return bool(pictures)


def _same(source: Path, target: Path) -> bool:
    return target.is_file() and filecmp.cmp(source, target, shallow=False)


def course_files(root: Path, *which: str) -> list[str]:
    """The course's files, relative to `root`: what git tracks; without git, all but caches and pictures.

    `which` are options of `git ls-files`, for other files than those.
    """
    # nothing where git is not there, or distrusts the folder
    listed = ask(["git", "-C", str(root), "ls-files", "-z", *which], limit=60).out
    everything = (path.relative_to(root) for path in root.rglob("*"))
    names = listed.split("\0") if listed else [path.as_posix() for path in everything if _own(path)]
    return sorted(name for name in names if (root / name).is_file())


def _own(path: Path) -> bool:
    left_out = path.parts[0] == "data" or SKIPPED & set(path.parts)
    return not left_out and not any(part.endswith((".egg-info", "_cache", ".lock")) for part in path.parts)


def find_pictures() -> list[tuple[Path, Path]]:
    """The pictures' folder and each of their files; they are downloaded first where they are not here."""
    try:
        folder = data_folder()
        source = load_cifar10()[0].source if folder else STANDIN
    except (ValueError, FileNotFoundError) as error:
        raise CourseError(f"the pictures cannot be used. {error}") from error
    if source == STANDIN:
        print("No CIFAR-10 goes with the course: lesson 04 will draw stand-in pictures, and say so.")
        return []
    parts = [BATCHES] if source == REAL else ["train", "test"]
    return [(folder, path) for part in parts for path in (folder / part).rglob("*") if path.is_file()]


def check_room(folder: Path, needed: float) -> None:
    """Raise CourseError where the disk has less than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        more = f"{needed / 1e6:,.0f} MB more are needed, {free / 1e6:,.0f} are free"
        raise CourseError(f"{folder} is full: {more}")


def fetch_packages(folder: Path, root: Path) -> None:
    """Download the wheels of requirements.txt for this kind of machine; what is there already stays."""
    folder.mkdir(exist_ok=True)
    needed = bootstrap.SIZES.get(sys.platform, bootstrap.SIZES["linux"])[0]
    print(f"packages: about {needed:g} GB in all, {used(folder) / 1e9:.1f} GB are there", flush=True)
    check_room(folder, needed * 1e9 - used(folder))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    packages = [line for line in requirements(root) if not line.startswith("-")]
    tools = project["build-system"]["requires"]  # with them pip installs the course itself
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pip = partial(bootstrap.run_pip, sys.executable, root, scratch=scratch)
        pip(["download", "-d", str(folder), *packages, *tools])
        for source in folder.glob("*.tar.gz"):  # no wheel: it could not be built without internet
            pip(["wheel", "--no-deps", "-w", str(folder), str(source)])
            source.unlink()
    wheels = [path.stat().st_size for path in folder.glob("*.whl")]
    print(f"packages: {len(wheels)} wheels, the largest {max(wheels) / 1e6:,.0f} MB")


def wheels_for(folder: Path) -> str:
    """What the packages in `folder` are for, by the name of PyTorch's wheel; empty where there is none."""
    names = sorted(path.stem for path in folder.glob("torch-*.whl"))
    if not names:
        return ""
    python, _, platform = names[-1].split("-")[-3:]
    return f"Python {python[2]}.{python[3:]} on {platform}"
