"""What the speaker says: the notes of each lesson, read from docs/instructors_guide.md.

Below a heading `### Lesson 03: ...` stand list items that begin with a bold label. `- **Section 2:** ...` or
`- **Section "Two GPUs":** ...` belongs to that section (`## 2. ...`, `## Two GPUs`); every other label
(Point, Ask, Goes wrong, Exercise) belongs to the whole lesson.
"""

import re
from pathlib import Path

from course_utils.lessons import ROOT

GUIDE = ROOT / "docs" / "instructors_guide.md"

LESSON = re.compile(r"^### Lesson (\d\d):.*\n((?:(?!#{1,3} ).*\n?)*)", re.M)
ITEM = re.compile(r"^- (\*\*.*(?:\n(?!- |#|\n).*)*)", re.M)
SECTION = re.compile(r'\*\*Section (?:(\d+)|"([^"]+)"):\*\* *')

Notes = dict[str, list[str]]  # section -> paragraphs of markdown; "" is the whole lesson


def read_notes(number: str, guide: Path = GUIDE) -> Notes:
    """The notes of lesson `number` ("03"); empty where there is no guide or the lesson is not in it."""
    text = guide.read_text(encoding="utf-8") if guide.is_file() else ""
    notes: Notes = {}
    for lesson, body in LESSON.findall(text):
        for item in ITEM.findall(body) if lesson == number else ():
            section = SECTION.match(item)
            key = (section[1] or section[2]) if section else ""
            notes.setdefault(key, []).append(item[section.end() :] if section else item)
    return notes
