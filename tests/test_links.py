"""Links and pictures: all good in the course, and each way to break one is noticed."""

from pathlib import Path

import pytest
from authors import canonical, links


def test_every_link_of_the_course_leads_somewhere() -> None:
    assert links.problems() == []


@pytest.mark.parametrize(
    ("markdown", "problem"),
    [
        ("[a](notebooks/03_third.ipynb)", "link notebooks/03_third.ipynb leads to no file"),
        ("[a](Notebooks/01_first.ipynb)", "link Notebooks/01_first.ipynb leads to no file"),
        ("[a](notebooks/01_First.ipynb)", "link notebooks/01_First.ipynb leads to no file"),
        ("[a](../elsewhere.md)", "link ../elsewhere.md leads to no file"),
        ("[a](#no-such-part)", "link #no-such-part leads to no heading"),
        ("[a](README.md#course-2)", "link README.md#course-2 leads to no heading"),
        ("[a](notebooks/01_first.ipynb#adding-numbers)", "leads to no heading"),
        ("[a][b]\n\n[b]: nowhere.md", "link nowhere.md leads to no file"),
        ("| a |\n|---|\n| [b](nowhere.md) |", "link nowhere.md leads to no file"),
        ('<a href="nowhere.md">a</a>', "link nowhere.md leads to no file"),
        ("[a](/home/me/course/README.md)", "link /home/me/course/README.md leads to one machine only"),
        ("[a](file:///srv/course/README.md)", "leads to one machine only"),
        ("[a](C:/course/README.md)", "leads to one machine only"),
        ("![](notebooks/01_first.ipynb)", "picture notebooks/01_first.ipynb has no alt text"),
        ("![a drawing](drawing.png)", "link drawing.png leads to no file"),
        ('<img src="https://example.org/a.png">', "picture https://example.org/a.png has no alt text"),
    ],
)
def test_a_broken_link_is_named(markdown: str, problem: str, small_course: Path) -> None:
    (small_course / "guide.md").write_text(f"# Guide\n\n{markdown}\n", encoding="utf-8")
    (found,) = links.problems(small_course)
    assert found.startswith("guide.md: ")
    assert problem in found


def test_good_links_are_accepted(small_course: Path) -> None:
    text = (
        "# A *guide*: `to` it?\n\n# Twice\n\n# Twice\n\n<a id='here'></a>\n\n"
        "[a](#a-guide-to-it) [b](#twice-1) [c](#here) [d](README.md#course) [e](https://example.org/x#y)\n\n"
        "[f](notebooks/01_first.ipynb#1.-Adding-numbers) [g](notebooks) ![alt](https://example.org/a.png)\n\n"
        "```\n[not a link](nowhere.md)\n```\n"
    )
    (small_course / "guide.md").write_text(text, encoding="utf-8")
    assert links.problems(small_course) == []


def test_links_in_lessons_are_checked_from_their_folder(small_course: Path) -> None:
    path = small_course / "notebooks" / "01_first.ipynb"
    notebook = canonical.read(path)
    notebook.cells[2].source += "\n\n[next](02_second.ipynb) [home](../README.md) [gone](README.md)"
    path.write_text(canonical.to_text(notebook), encoding="utf-8")
    assert links.problems(small_course) == ["notebooks/01_first.ipynb: link README.md leads to no file"]
