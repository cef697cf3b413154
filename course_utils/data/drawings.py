"""The drawings of the stand-in pictures: ten classes, two views each, and the scenes behind them, as text.

A class starts with its name, the scene it is usually seen in, how far it tilts (tangent of half the angle,
percent) and the colours its body can have. Each of its views starts with a dash; it is painted in order,
a colour and the shapes of that colour at a time. Coordinates are percent of half the drawing, x to the right,
y down, (0, 0) in the middle:

    oval x y rx ry            centre and radii
    poly x y x y x y ...      a convex polygon
    limb x y x y r            a line from point to point with round ends, r is half its width

`body` and `accent` differ from picture to picture, `shade` and `light` follow the body, the others are in
FIXED. The classes stand in CIFAR-10's order.
"""

import re
from typing import NamedTuple

INK, WHITE, GREY, GLASS, PINK, GOLD = 0x1C1A1E, 0xF2F0EA, 0x8E9196, 0xA9C8DA, 0xE39A9A, 0xF0B63C
FIXED = {"ink": INK, "white": WHITE, "grey": GREY, "glass": GLASS, "pink": PINK, "gold": GOLD}

SCENES = {  # three colours above the horizon, three below, and over how many rows they mix
    "sky": (0x6FA8DC, 0x4F86C0, 0xB9CFE2, 0xDCE6EE, 0xA8C8E4, 0xEFE3D0, 30),
    "road": (0xA7B7C4, 0x8F8478, 0xC9C2B4, 0x6E6E72, 0x58585C, 0x8B8578, 3),
    "branch": (0x8FB37A, 0xB7CBDD, 0x5F7F55, 0x6E8F50, 0x88705A, 0xA7BFA0, 16),
    "room": (0xB7A58C, 0x8C7C72, 0xC8C3BB, 0x7A5A42, 0xA08468, 0x6C6A78, 3),
    "meadow": (0x8DB0C8, 0x54703F, 0xB5C49A, 0x6D9440, 0x8A9A4C, 0x4F7038, 6),
    "sea": (0xA9C6DE, 0xD4DCE2, 0xE0C9A6, 0x2F6288, 0x44809A, 0x1F4566, 2),
}

_TEXT = """
airplane: sky, tilt 22, e8e8e8 c9cfd6 9fb2c4 e9dcc0 b8484a
  - shade: poly 24 -10 -8 -10 -44 -52 -24 -52; body: oval 0 2 97 22, poly -92 0 -50 -6 -78 -66 -99 -66;
    glass: limb -42 -5 46 -5 5, oval 74 -5 11 8; accent: poly -78 -66 -99 -66 -96 -40 -68 -40;
    shade: poly 30 8 -16 8 -64 66 -38 66, poly -62 2 -88 2 -99 26 -82 26
  - body: limb 0 -78 0 66 13, poly -13 -18 -13 22 -98 52 -98 36, poly 13 -18 13 22 98 52 98 36;
    shade: poly -8 58 -8 80 -42 90 -42 78, poly 8 58 8 80 42 90 42 78;
    shade: limb -50 16 -50 36 7, limb 50 16 50 36 7; glass: oval 0 -74 8 7; accent: limb 0 52 0 84 5
automobile: road, tilt 6, c8322e 2f5fb3 e8e6e0 2e2e34 e0b531 3e8e5a
  - body: poly -54 2 52 2 26 -36 -32 -36, poly -96 6 -88 -2 92 2 97 14 97 36 -96 36;
    glass: poly -42 0 -6 0 -6 -28 -28 -28, poly 2 0 40 0 22 -28 2 -28; shade: limb -90 30 90 30 5;
    gold: oval 92 14 6 7; ink: oval -54 38 23 23, oval 56 38 23 23;
    grey: oval -54 38 10 10, oval 56 38 10 10
  - ink: limb -54 30 -54 54 14, limb 54 30 54 54 14;
    body: poly -50 -6 50 -6 34 -52 -34 -52, poly -74 4 -58 -8 58 -8 74 4 74 44 -74 44;
    glass: poly -41 -8 41 -8 29 -45 -29 -45; gold: oval -54 12 12 10, oval 54 12 12 10;
    ink: limb -24 14 24 14 7; white: limb -14 34 14 34 6
bird: branch, tilt 18, 4c86c6 c2553c 8a6a48 d9c25a 5b5f66 dcd6c8
  - shade: poly -38 4 -24 24 -96 44 -92 26; ink: limb -4 40 -4 66 3, limb 12 38 12 66 3;
    body: oval -2 10 46 36, oval 44 -32 27 26, poly 18 -34 30 8 56 6 62 -20;
    gold: poly 66 -42 66 -22 98 -28; light: oval 16 20 24 24; shade: oval -18 6 32 19;
    ink: oval 52 -38 6 6
  - shade: limb -14 0 -44 -44 13, limb -44 -44 -92 -40 8;
    body: oval 0 10 42 17, oval 42 2 17 15, poly -36 4 -36 18 -78 30 -74 4; gold: poly 56 -4 56 10 78 6;
    body: limb 6 0 28 -52 14, limb 28 -52 78 -66 9; light: oval 6 16 24 7; ink: oval 46 -2 4 4
cat: room, tilt 16, d98c3f 6b6660 3a3536 e4d9c6 a98258
  - body: poly -66 -84 -74 -14 -16 -46, poly 66 -84 74 -14 16 -46, oval 0 12 74 62;
    pink: poly -59 -66 -63 -28 -32 -46, poly 59 -66 63 -28 32 -46;
    shade: limb 0 -46 0 -28 5, limb -20 -42 -16 -28 4, limb 20 -42 16 -28 4;
    light: oval -16 38 22 17, oval 16 38 22 17; gold: oval -30 2 16 14, oval 30 2 16 14;
    ink: oval -30 2 5 13, oval 30 2 5 13; pink: poly -9 22 9 22 0 33;
    white: limb -40 34 -88 26 2, limb -40 42 -86 48 2, limb 40 34 88 26 2, limb 40 42 86 48 2
  - shade: limb -44 68 -80 56 9, limb -80 56 -86 16 9, limb -86 16 -70 -4 8;
    body: oval -12 44 44 48, limb 22 20 26 82 13, limb 4 30 6 82 11, oval 34 -28 34 30;
    body: poly 6 -76 4 -30 34 -48, poly 62 -76 66 -30 36 -48;
    shade: limb -40 20 -22 28 4, limb -48 38 -26 42 4, limb -48 58 -26 56 4;
    gold: oval 24 -30 7 7, oval 50 -30 7 7; ink: oval 24 -30 3 6, oval 50 -30 3 6;
    light: oval 38 -12 14 9; pink: oval 38 -16 5 4
deer: meadow, tilt 8, a8703c 8c5a33 c08a52 7a5a40
  - gold: limb 46 -58 34 -88 4, limb 40 -74 22 -80 3, limb 58 -58 70 -90 4, limb 64 -74 82 -82 3;
    shade: limb -38 30 -44 90 5, limb 22 30 20 90 5;
    body: oval -10 16 50 25, limb 26 10 48 -38 13, limb 50 -44 76 -32 11, limb -50 26 -56 90 6;
    body: limb 32 26 36 90 6, limb 46 -50 30 -56 6; white: oval -60 8 9 10, oval -4 34 30 7;
    light: oval -26 6 4 4, oval -10 2 4 4, oval 6 6 4 4, oval -14 14 4 4;
    ink: oval 84 -30 5 5, oval 58 -46 4 4
  - gold: limb -16 -30 -40 -64 5, limb -40 -64 -36 -96 5, limb -40 -64 -74 -82 5, limb -30 -50 -64 -48 4;
    gold: limb 16 -30 40 -64 5, limb 40 -64 36 -96 5, limb 40 -64 74 -82 5, limb 30 -50 64 -48 4;
    shade: limb 0 50 0 92 30, oval -50 -14 25 11, oval 50 -14 25 11;
    body: oval 0 -2 34 32, poly -30 6 30 6 17 62 -17 62; light: oval 0 58 19 14;
    ink: oval -21 2 7 8, oval 21 2 7 8, oval 0 54 10 7
dog: room, tilt 16, b98a55 e6d3b0 6a4630 33302f edeae2
  - body: oval 0 -8 58 56, oval 0 32 44 40; shade: limb -58 -36 -70 22 18, limb 58 -36 70 22 18;
    light: oval 0 36 34 29; pink: limb 0 60 0 80 13;
    ink: oval -24 -10 9 10, oval 24 -10 9 10, oval 0 20 18 12, limb 0 30 0 48 3;
    ink: limb -20 52 0 48 3, limb 20 52 0 48 3
  - shade: limb -36 30 -42 84 9, limb 18 30 22 84 9;
    body: limb -38 12 24 10 24, limb -54 24 -58 84 10, limb 30 24 34 84 10, limb -58 2 -84 -38 7;
    body: limb 30 4 44 -28 19, oval 50 -36 28 24, limb 60 -30 84 -26 13; light: limb 72 -20 86 -20 7;
    shade: limb 38 -44 32 -14 11; ink: oval 92 -32 8 7, oval 60 -42 5 5; accent: limb 26 -14 50 -6 5
frog: meadow, tilt 12, 5fa03c 7db548 3f7f4a a3a344 8a7b3e
  - shade: oval -64 44 30 30, oval 64 44 30 30, limb -78 72 -44 76 9, limb 78 72 44 76 9;
    body: oval 0 28 66 48, oval -36 -26 27 25, oval 36 -26 27 25; light: oval 0 50 42 26;
    white: oval -36 -28 17 17, oval 36 -28 17 17;
    ink: oval -36 -26 9 11, oval 36 -26 9 11, limb -44 18 0 28 4, limb 0 28 44 18 4;
    body: limb -26 54 -32 78 9, limb 26 54 32 78 9
  - shade: limb -34 34 -78 6 14, limb -78 6 -58 72 10, limb 34 34 78 6 14, limb 78 6 58 72 10;
    shade: limb -58 72 -86 86 7, limb 58 72 86 86 7, limb -34 -20 -66 -50 9, limb 34 -20 66 -50 9;
    body: oval 0 18 42 56, oval 0 -38 37 30; gold: oval -27 -58 12 12, oval 27 -58 12 12;
    ink: oval -27 -60 5 7, oval 27 -60 5 7; light: limb -12 -14 -16 46 4, limb 12 -14 16 46 4;
    shade: oval 0 6 7 7, oval -24 26 6 6, oval 24 30 6 6
horse: meadow, tilt 8, 7b4a2b 5a3a28 a9713f 2f2a2a d9d2c6
  - ink: limb -58 6 -78 34 9, limb -78 34 -80 62 8; shade: limb -36 30 -34 90 8, limb 20 30 14 90 8;
    body: oval -10 14 54 29, limb 30 8 56 -44 19, limb 58 -52 84 -24 13, limb -48 26 -54 90 9;
    body: limb 34 26 40 90 9, poly 44 -62 56 -62 52 -86;
    ink: limb 42 -62 18 -10 8, limb -56 88 -50 88 8, limb 38 88 44 88 8; light: oval 88 -18 9 7;
    ink: oval 66 -48 4 4
  - shade: poly -20 -66 -4 -60 -10 -96;
    body: poly -34 -52 12 -58 -20 96 -98 96, poly -98 96 -62 0 -34 -52 -20 96, limb -8 -46 56 26 25;
    body: poly 0 -60 18 -54 10 -92;
    ink: limb -26 -70 -56 -20 12, limb -56 -20 -84 50 14, limb -2 -64 10 -36 7; light: oval 62 34 21 17;
    ink: oval 16 -32 6 7, oval 72 32 4 5, limb 52 48 70 46 3;
    accent: limb 26 20 52 -2 4, limb 8 -56 -28 4 3
ship: sea, tilt 6, 2f4b73 b8413a 3a3d42 e6e4de 3e7a6a
  - white: poly -52 10 46 10 40 -18 -46 -18, poly -34 -18 22 -18 18 -40 -30 -40;
    accent: poly -16 -40 6 -40 4 -76 -14 -76;
    ink: poly -15 -66 5 -66 4 -78 -14 -78, limb -36 -4 34 -4 4, limb 60 10 60 -34 2;
    body: poly -92 8 97 4 74 48 -78 48; shade: poly -84 32 82 32 74 50 -78 50; white: limb -70 18 74 16 3
  - ink: limb -4 34 -4 -94 4; white: poly 4 -88 4 20 66 20, poly 4 -60 4 20 74 20;
    accent: poly -12 -74 -12 20 -64 20; shade: limb -62 27 66 27 4; body: poly -84 30 88 30 58 60 -60 60
truck: road, tilt 6, d9d6cc c03b30 3567a8 4b7a4c dda437
  - ink: limb -90 40 90 40 5; body: poly -96 -54 30 -54 30 34 -96 34;
    accent: poly 36 -26 72 -26 92 4 97 36 36 36; glass: poly 48 -18 68 -18 82 4 48 4;
    shade: limb -88 -10 22 -10 4, limb -88 24 22 24 4; gold: oval 94 24 5 6;
    ink: oval -66 44 19 19, oval -24 44 19 19, oval 66 44 19 19;
    grey: oval -66 44 8 8, oval -24 44 8 8, oval 66 44 8 8
  - ink: limb -48 60 -48 84 13, limb 48 60 48 84 13; body: poly -68 -88 68 -88 68 20 -68 20;
    accent: poly -58 -30 58 -30 62 66 -62 66; glass: poly -46 -22 46 -22 50 14 -50 14;
    shade: limb -26 36 26 36 6, limb -26 52 26 52 6; gold: oval -48 46 11 9, oval 48 46 11 9;
    ink: limb 0 -22 0 14 2
"""

Shape = tuple[str, tuple[float, ...]]


class Drawing(NamedTuple):
    """One class: its scene, tilt (tangent of half the angle), body colours, and views of coloured shapes."""

    scene: str
    tilt: float
    bodies: tuple[int, ...]
    views: list[list[tuple[str, list[Shape]]]]


def read_drawings() -> dict[str, Drawing]:
    """Read the text above: class name to drawing, coordinates from -1 to 1."""
    drawings = {}
    for block in re.split(r"\n(?=\w)", _TEXT.strip()):
        head, *views = block.split("\n  - ")
        name, scene, tilt, bodies = re.fullmatch(r"(\w+): (\w+), tilt (\d+), (.*)", head).groups()
        colours = tuple(int(body, 16) for body in bodies.split())
        drawings[name] = Drawing(scene, int(tilt) / 100, colours, [_read_view(view) for view in views])
    return drawings


def _read_view(text: str) -> list[tuple[str, list[Shape]]]:
    layers = [layer.split(":") for layer in text.split(";")]
    return [
        (colour.strip(), [_read_shape(shape) for shape in shapes.split(",")]) for colour, shapes in layers
    ]


def _read_shape(text: str) -> Shape:
    kind, *numbers = text.split()
    return kind, tuple(int(number) / 100 for number in numbers)
