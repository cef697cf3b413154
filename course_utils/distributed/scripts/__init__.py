"""Training scripts that run by themselves, plain PyTorch and nothing of this package; to be taken home."""

from pathlib import Path

from course_utils.data.files import write
from course_utils.lessons import CourseError

SCRIPTS = Path(__file__).parent


def take_home(name: str) -> Path:
    """Put one of the course's scripts into the current folder, unless it is there, and return its path.

    A script that is there stays, with the reader's edits; a line says so where it differs from the course's.

    Args:
        name: as in "train_ddp.py".

    Raises:
        CourseError: there is no such script, or the folder cannot be written to.
    """
    scripts = sorted(path.name for path in SCRIPTS.glob("*.py") if path.stem != "__init__")
    if name not in scripts:
        raise CourseError(f"no script {name!r}. The scripts: {', '.join(scripts)}")
    original, target = (SCRIPTS / name).read_bytes(), Path(name)
    try:
        if not target.exists():
            write(target, original)
        elif target.read_bytes().split() != original.split():  # an editor may change the line ends
            print(f"{name} here differs from the course's. It stays as it is; delete it to get the course's.")
    except OSError as error:
        fix = "Change to a folder of your own first: import os; os.chdir(...)"
        raise CourseError(f"{name} cannot be put into this folder ({error.strerror}). {fix}") from None
    return target
