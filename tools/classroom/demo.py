"""The rehearsal on the morning of a class: the machine, the pictures, each lesson once, what will differ."""

import io
import time
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import wrap

from start.runner import attempt, kernel_environment, read

from classroom.comparing import BUTTONS, Difference, differences
from classroom.stick import make_stick
from course_utils.data.cifar10 import STANDIN, load_cifar10
from course_utils.data.folder import data_folder
from course_utils.lessons import PYTHON, CourseError, executed
from course_utils.machine.doctor import examine

TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
WIDTH = 100  # columns of a terminal on a projector


def main(
    lessons: list[Path],
    real_data: bool = False,
    download: bool = False,
    stick: Path | None = None,
    packages: bool = False,
) -> int:
    """Rehearse, or make a stick; returns 0 where the class can begin, else 1."""
    if stick:
        return make_stick(stick, packages=packages)
    try:
        obstacles = machine() + pictures(download)
        looks = rehearse(lessons, obstacles, real_data=real_data)
    except KeyboardInterrupt:
        print("\nStopped. No notebook and no progress was changed.")
        return 130
    return verdict(obstacles, looks)


def machine() -> list[str]:
    """Print what the doctor finds, in short; return what stops the course."""
    heading("The machine")
    findings = examine()
    for finding in findings:
        if finding.level != "ok" or finding is findings[-1]:
            tell(f"{finding.level.replace('problem', 'PROBLEM')}: {finding.title}")
            tell(finding.meaning, f"To do: {finding.fix}" if finding.fix else "", indent=4)
    passed = sum(finding.level == "ok" for finding in findings)
    tell(f"{passed} of {len(findings)} checks are fine. All of them: {PYTHON} -m course_utils doctor")
    return ["the doctor says that the course cannot run here"] if findings[-1].level == "problem" else []


def pictures(download: bool) -> list[str]:
    """Print which pictures the class will get; return what is wrong with them."""
    heading("The pictures")
    said = io.StringIO()  # progress bars go another way
    try:
        folder = data_folder()
        with redirect_stdout(said):  # the sizes are of no account to real pictures: all are read
            source = load_cifar10(train_size=10, test_size=10, download=download)[0].source
    except (ValueError, FileNotFoundError) as error:
        tell(f"PROBLEM: {error}")
        return ["the folder of pictures is faulty"]
    tell(*(line for line in said.getvalue().splitlines() if not line.startswith("Data: ")))
    kind = "asked" if folder is None else "missing" if source == STANDIN else "there"
    missing = "could not be fetched to" if download else "is not in"
    texts = TEXTS["pictures"][kind]
    tell(*(text.format(source=source, folder=folder, missing=missing, python=PYTHON) for text in texts))
    return []


def rehearse(lessons: list[Path], obstacles: list[str], *, real_data: bool) -> int:
    """Run each lesson once and print what differs; return how many cells somebody should look at.

    A lesson that fails is added to `obstacles`.
    """
    settings = {"COURSE_PROGRESS": "off"} | ({} if real_data else {"COURSE_DATA": "standin"})
    heading(f"The lessons, with {'the pictures above' if real_data else 'stand-in pictures'}")
    looks, begun = 0, time.perf_counter()
    for path in lessons:
        run, failure, seconds = attempt(path, kernel_environment() | settings)
        try:  # an instructor's own lesson has no stored page
            found = differences(read(executed(path)), run) if executed(path).is_file() else []
        except CourseError as error:
            found = [Difference("the stored page", 1, "", str(error), "was not compared")]
        looks += report(path.stem, seconds, failure, found)
        obstacles += [f"{path.stem} did not run to its end"] if failure else []
    plural = "s" * (len(lessons) != 1)
    print(f"\n{len(lessons)} lesson{plural} took {time.perf_counter() - begun:.0f} s here.")
    return looks


def report(name: str, seconds: float, failure: str, found: list[Difference]) -> int:
    """Print how one lesson went; return how many of its cells somebody should look at."""
    buttons = [f"[{one.number}]" for one in found if one.reason == BUTTONS]
    expected = [one for one in found if one.reason not in ("", BUTTONS)]
    looks = [one for one in found if not one.reason]
    cells = f"{len(found) or 'no'} cell{' prints' if len(found) == 1 else 's print'}"
    end = "FAILED" if failure else "ran to its end"
    print(f"\n{name:<28}{seconds:6.1f} s  {end}; {cells} something else", flush=True)
    print_lines(failure.strip("\n"))
    if buttons:
        tell(f"expected, {BUTTONS}: cells {', '.join(buttons)}", indent=2)
    for title, cells in (("expected", expected), ("look at these before class", looks)):
        if cells:
            tell(f"{title}, {len(cells)}:", indent=2)
        for one in cells:
            reason = f" ({one.reason})" if one.reason else ""
            print_lines(f"    {one.section}, cell [{one.number}]{reason}")
            print_lines(f"      stored: {one.stored}\n      here:   {one.here}")
    return len(looks)


def verdict(obstacles: list[str], looks: int) -> int:
    """Print whether the class can begin; return 0 where it can, else 1."""
    heading("The verdict")
    text = TEXTS["verdict"]["stopped" if obstacles else "look" if looks else "ready"]
    tell(text.format(obstacles="; ".join(obstacles), cells=f"{looks} cell{'s' * (looks > 1)}"))
    return int(bool(obstacles))


def heading(text: str) -> None:
    """Print the title of a part."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def tell(*paragraphs: str, indent: int = 0) -> None:
    """Print paragraphs no wider than the terminal."""
    for paragraph in paragraphs:
        for line in wrap(paragraph, WIDTH - indent, break_long_words=False, break_on_hyphens=False):
            print(" " * indent + line, flush=True)


def print_lines(text: str) -> None:
    """Print lines, each cut to the terminal's width."""
    for line in text.splitlines():
        print(line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ...")
