"""Badges and tables: what is committed is what the tool writes, and each badge opens its own lesson."""

import re
from pathlib import Path

import pytest
from authors import badges, canonical
from authors.common_cells import Repository, read_repository

from course_utils.lessons import ROOT, lesson_paths

COLAB = re.compile(
    r"https://colab\.research\.google\.com/github/([\w-]+/[\w.-]+)/blob/(.+?)/(notebooks/\w+\.ipynb)"
)
LESSON_LINK = re.compile(r"\]\((notebooks/\w+\.ipynb)\)")


def out_of_date(root: Path = ROOT) -> list[str]:
    """The files that `python tools/authors badges` would change."""
    stale = canonical.stale(badges.wanted(read_repository(root), root))
    return [path.relative_to(root).as_posix() for path in stale]


def test_committed_files_are_up_to_date() -> None:
    assert out_of_date() == []


@pytest.mark.parametrize("name", ["colab_badges.md", "README.md"])
def test_each_row_opens_the_lesson_it_links(name: str) -> None:
    rows = [row for row in (ROOT / name).read_text(encoding="utf-8").splitlines() if "colab-badge" in row]
    opened = [target for row in rows for _, _, target in COLAB.findall(row)]
    assert opened == [link for row in rows for link in LESSON_LINK.findall(row)]
    assert opened == [f"notebooks/{path.name}" for path in lesson_paths()]


def test_only_generated_text_names_the_repository() -> None:
    written = {*badges.wanted(read_repository()), ROOT / "pyproject.toml"}
    kept = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in ("course_utils", "docs", "notebooks", "tests", "tools"):
        kept += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = [path for path in kept if path.suffix in {".ipynb", ".md", ".py", ".toml", ".txt", ".yml"}]
    slug = read_repository().slug
    assert [path for path in texts if slug in path.read_text(encoding="utf-8") and path not in written] == []


def test_writing_twice_changes_nothing(small_course: Path) -> None:
    assert out_of_date(small_course)
    badges.update(root=small_course)
    assert out_of_date(small_course) == []


def test_a_changed_head_is_out_of_date(small_course: Path) -> None:
    badges.update(root=small_course)
    path = small_course / "notebooks" / "02_second.ipynb"
    path.write_text(
        path.read_text(encoding="utf-8").replace("say in one", "say in just one"), encoding="utf-8"
    )
    assert out_of_date(small_course) == [
        "notebooks/executed/02_second.ipynb",
        "colab_badges.md",
        "README.md",
    ]


@pytest.mark.parametrize("ref", ["v1.0", "0123456789abcdef0123456789abcdef01234567"])
def test_a_fork_is_pointed_to_everywhere(small_course: Path, ref: str) -> None:
    badges.update(root=small_course)
    badges.update("me/my.fork", ref, small_course)
    assert read_repository(small_course) == Repository("me/my.fork", ref)
    for path in small_course.rglob("*.*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "owner/course" not in text, path
            assert "me/my.fork" in text, path
    setup = canonical.read(small_course / "notebooks" / "01_first.ipynb").cells[1]
    assert f'"git+https://github.com/me/my.fork@{ref}"' in setup.source
    assert canonical.read(small_course / "notebooks/executed/01_first.ipynb").cells[1].execution_count == 1


@pytest.mark.parametrize("repository", ["https://github.com/me/fork", "fork", "me/fork other"])
def test_a_wrong_repository_changes_nothing(repository: str, small_course: Path) -> None:
    before = {path: path.read_bytes() for path in small_course.rglob("*.*") if path.is_file()}
    with pytest.raises(ValueError, match=r"^repository must read OWNER/REPO, not '"):
        badges.update(repository, root=small_course)
    assert {path: path.read_bytes() for path in small_course.rglob("*.*") if path.is_file()} == before


def test_a_readme_without_markers_is_named(small_course: Path) -> None:
    (small_course / "README.md").write_text("# Course\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^README\.md has no lines <!-- lessons:begin -->"):
        badges.update(root=small_course)
