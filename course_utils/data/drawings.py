"""The stand-in pictures' colours and scenes, and a reader for `drawings.txt`, which holds their shapes."""

import re
from pathlib import Path
from typing import NamedTuple

FIXED = {
    "ink": "1C1A1E",
    "white": "F2F0EA",
    "grey": "8E9196",
    "glass": "A9C8DA",
    "pink": "E39A9A",
    "gold": "F0B63C",
}
SCENES = {  # three colours above the horizon, three below, and over how many rows they mix
    "sky": ("6FA8DC 4F86C0 B9CFE2 DCE6EE A8C8E4 EFE3D0", 30),
    "road": ("A7B7C4 8F8478 C9C2B4 6E6E72 58585C 8B8578", 3),
    "branch": ("8FB37A B7CBDD 5F7F55 6E8F50 88705A A7BFA0", 16),
    "room": ("B7A58C 8C7C72 C8C3BB 7A5A42 A08468 6C6A78", 3),
    "meadow": ("8DB0C8 54703F B5C49A 6D9440 8A9A4C 4F7038", 6),
    "sea": ("A9C6DE D4DCE2 E0C9A6 2F6288 44809A 1F4566", 2),
}

_FILE = Path(__file__).with_name("drawings.txt")
Shape = tuple[str, tuple[float, ...]]
View = list[tuple[str, list[Shape]]]


class Drawing(NamedTuple):
    """One class: its scene, tilt (tangent of half the angle), body colours, and views of coloured shapes."""

    scene: str
    tilt: float
    bodies: str
    views: list[View]


def read_drawings() -> dict[str, Drawing]:
    """Return class name to drawing, coordinates from -1 to 1."""
    _, *blocks = re.split(r"\n(?=\w)", _FILE.read_text(encoding="utf-8").rstrip())  # a comment comes first
    drawings = {}
    for block in blocks:
        head, *views = block.split("\n  - ")
        name, scene, tilt, bodies = re.fullmatch(r"(\w+): (\w+), tilt (\d+), (.*)", head).groups()
        drawings[name] = Drawing(scene, int(tilt) / 100, bodies, [_read_view(view) for view in views])
    return drawings


def _read_view(text: str) -> View:
    layers = (layer.split(":") for layer in text.split(";"))
    return [(colour.strip(), [_read_shape(part) for part in shapes.split(",")]) for colour, shapes in layers]


def _read_shape(text: str) -> Shape:
    kind, *numbers = text.split()
    return kind, tuple(int(number) / 100 for number in numbers)
