"""The instructor's guide speaks of the lessons as they are: sections, exercises and minutes."""

import re
from functools import cache
from typing import NamedTuple

import nbformat
import pytest
from start.options import COMMANDS

from course_utils.lessons import ROOT, lesson_paths

GUIDE = (ROOT / "docs" / "instructors_guide.md").read_text(encoding="utf-8")
NUMBERS = [path.stem[:2] for path in lesson_paths()]
SECTION = r'(?:\d+|"[^"]+")'
ROW = re.compile(r"^\| (\d+):(\d\d) \| (\d+) \| (.*?) \| (.*?) ?\|$", re.M)


class Lesson(NamedTuple):
    """What the guide may name; sections go by their number or title, exercises by the name in the code."""

    title: str
    minutes: int
    sections: set[str]
    exercises: dict[str, tuple[int, str]]  # minutes, section


@cache
def lesson(number: str) -> Lesson:
    """Read a lesson's head, sections and exercises from its notebook."""
    (path,) = [path for path in lesson_paths() if path.stem[:2] == number]
    cells = nbformat.read(path, as_version=4).cells
    sections, exercises, section, minutes = set(), {}, "", 0
    for cell in cells:
        if cell.cell_type == "code":
            for name in re.findall(r"exercise\.(\w+)\.(?:check|guess)\(", cell.source):
                exercises.setdefault(name, (minutes, section))
            continue
        for line in cell.source.splitlines():
            if found := re.match(r"## (?:(\d+)\. )?(.*)", line):
                section = found[1] or f'"{found[2]}"'
                sections.add(section)
            if found := re.match(r"\*\w+, (\d+) minutes?, \w+\*$", line):
                minutes = int(found[1])
    title = re.match(r"# (.*)", cells[0].source)[1]
    time = re.search(r"\*\*Time:\*\* about (\d+) minutes", cells[0].source)
    return Lesson(title, int(time[1]), sections, exercises)


def entry(number: str) -> str:
    """The guide's text on one lesson."""
    title = re.escape(lesson(number).title)
    return re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", GUIDE, re.M | re.S)[1]


def plans() -> dict[str, list[tuple[str, ...]]]:
    """The rows of each plan, by its title."""
    text = GUIDE.partition("## Four plans")[2].partition("\n## ")[0]
    return {part.partition("\n")[0]: ROW.findall(part) for part in text.split("\n### ")[1:]}


def blocks() -> list[tuple[str, str, int, str, str]]:
    """Every block of every plan that is a lesson's: plan, lesson, minutes, what, exercises."""
    return [
        (plan, found[1], int(minutes), what, exercises)
        for plan, rows in plans().items()
        for _, _, minutes, what, exercises in rows
        if (found := re.match(r"Lesson (\d\d), section", what))
    ]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_lesson_has_its_entry(number: str) -> None:
    found = entry(number)
    for what in ("Point", "Ask", "Goes wrong", "Exercise"):
        assert re.search(rf"^- \*\*{what}:\*\* \S", found, re.M), what
    named = re.findall(rf"^- \*\*Section ({SECTION}):\*\* \S", found, re.M)
    assert len(named) == len(set(named))
    closing = {'"What you can do now"'}
    assert set(named) - closing == lesson(number).sections - closing - ({'"Your turn"'} - set(named))


@pytest.mark.parametrize("number", NUMBERS)
def test_the_exercises_of_an_entry_exist_and_take_the_minutes_it_says(number: str) -> None:
    (given,) = re.findall(r"^- \*\*Exercise:\*\* (.*)", entry(number), re.M)
    named = re.findall(r"`(\w+)` \((\d+) minutes", given)
    assert named or not lesson(number).exercises
    assert dict(named) == {name: str(lesson(number).exercises[name][0]) for name, _ in named}


def test_the_guide_has_no_lesson_that_is_not_there() -> None:
    assert re.findall(r"^### Lesson (\d\d)", GUIDE, re.M) == NUMBERS


def test_the_minutes_of_each_plan_add_up() -> None:
    totals = [int(text) for text in re.findall(r"^Total: (\d+) minutes", GUIDE, re.M)]
    assert len(totals) == len(plans()) == 4
    for total, rows in zip(totals, plans().values(), strict=True):
        minute = 0
        for hour, past, minutes, what, _ in rows:
            assert (int(hour), int(past)) == divmod(minute, 60), what
            minute += int(minutes)
        assert minute == total


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block[0]}: {block[3][:12]}")
def test_a_block_names_what_its_lesson_has_and_is_long_enough(block: tuple[str, str, int, str, str]) -> None:
    _, number, minutes, what, exercises = block
    there = lesson(number)
    listed = re.match(rf"Lesson \d\d, sections? ({SECTION}(?:, {SECTION})*)", what)[1]
    sections = set(re.findall(SECTION, listed))
    assert sections <= there.sections
    named = re.findall(r"`(\w+)`", exercises)
    assert set(named) <= set(there.exercises)
    assert {there.exercises[name][1] for name in named} <= sections
    assert sum(there.exercises[name][0] for name in named) < minutes <= there.minutes


def test_commands_exist() -> None:
    commands = re.findall(r"python3 -m course_utils (\w+)", GUIDE)
    assert {"demo", "slides"} <= set(commands) <= set(COMMANDS)
