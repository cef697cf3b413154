"""The start page tells the truth about the other lessons."""

import re

from authors import canonical, rules

from course_utils.lessons import ROOT, lesson_paths

PAGE = canonical.read(ROOT / "notebooks" / "00_start_here.ipynb")
TEXT = "\n\n".join(cell.source for cell in PAGE.cells if cell.cell_type == "markdown")
OTHERS = [path for path in lesson_paths() if path != ROOT / "notebooks" / "00_start_here.ipynb"]
HEADS = {path.stem: rules.HEAD.match(canonical.read(path).cells[0].source) for path in OTHERS}
ROW = re.compile(r"^\| \[(\d\d) (.+?)\]\((\w+)\.ipynb\) \| (about \d+ minutes) \| .+? \| ?(.*?) ?\|$", re.M)
BRANCH = re.compile(r"^([ │├└─]*)(\d\d) (.+)$", re.M)


def test_the_map_has_every_lesson_with_its_title_and_time() -> None:
    listed = [(number, title, name, time) for number, title, name, time, _ in ROW.findall(TEXT)]
    assert listed == [(head["number"], head["title"], name, head["time"]) for name, head in HEADS.items()]


def prerequisites(number: str, builds_on: dict[str, str]) -> set[str]:
    earlier = builds_on.get(number)
    return set() if earlier is None else {earlier} | prerequisites(earlier, builds_on)


def test_table_and_tree_agree_with_what_the_lessons_say_they_need() -> None:
    titles, drawn, path = {}, {}, []
    for indent, number, title in BRANCH.findall(TEXT):
        path, titles[number] = [*path[: len(indent) // 4], number], title
        if path[1:]:
            drawn[number] = path[-2]
    assert titles == {head["number"]: head["title"] for head in HEADS.values()}
    assert {number: earlier for number, *_, earlier in ROW.findall(TEXT) if earlier} == drawn
    for head in HEADS.values():
        named = set(re.findall(r"\blesson (\d\d)\b", head["needs"]))
        assert named <= prerequisites(head["number"], drawn)
        assert bool(named) == (head["number"] in drawn)
