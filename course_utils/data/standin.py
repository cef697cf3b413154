"""Stand-in pictures for a machine without CIFAR-10: ten drawn classes in CIFAR-10's shapes and types.

Every picture is a drawing (see `drawings.txt`) in a random place, size, tilt, mirror image and colour, before
a cluttered scene. The pictures are the same bytes on every machine: all arithmetic is +, -, *, / and
square roots, which IEEE 754 rounds the same way everywhere; all randomness is the raw output of PCG64, which
NumPy keeps stable (https://numpy.org/neps/nep-0019-rng-policy.html).
"""

import math
from collections.abc import Iterator
from functools import reduce
from itertools import product

import numpy as np

from .drawings import FIXED, SCENES, Drawing, Shape, read_drawings

_DRAWINGS = read_drawings()
CLASSES = tuple(_DRAWINGS)
SIZES = {True: 10_000, False: 2_000}  # training and test pictures unless the caller asks for another number
MAX_SIZES = {True: 50_000, False: 10_000}  # as many as CIFAR-10 has

Array = np.ndarray
_SIDE = 32
_CHUNK = 128  # pictures drawn at once: small enough for the processor's cache
_HOME = 0.4  # how often a class is seen in its usual scene; otherwise any scene
_DRAWS = 96  # random numbers per picture, used in a fixed order


def make_standin(train: bool, size: int | None = None) -> tuple[Array, list[int]]:
    """Draw the stand-in pictures.

    Args:
        train: the training pictures, or else the test pictures (different ones).
        size: how many, at most MAX_SIZES; None means SIZES. A smaller set is the beginning of a larger one.

    Returns:
        uint8 pictures of shape (size, 32, 32, 3), and their labels 0 to 9: each run of ten holds every class.
    """
    size = min(SIZES[train] if size is None else size, MAX_SIZES[train])
    numbers = _uniform(size * _DRAWS, stream=int(train)).reshape(size, _DRAWS)
    labels = _shuffled_labels(size, stream=2 + int(train))
    views = (numbers[:, 0] < 0.5).astype(np.int64)
    data = np.empty((size, _SIDE, _SIDE, 3), np.uint8)
    for label, view in product(range(10), (0, 1)):
        rows = np.flatnonzero((labels == label) & (views == view))
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            data[some] = _draw(_DRAWINGS[CLASSES[label]], view, numbers[some])
    _add_grain(data, stream=4 + int(train))
    return data, labels.tolist()


def _rgb(colours: str) -> Array:
    """Return n colours "RRGGBB RRGGBB ..." as float32 (3, n, 1, 1), 0 to 255."""
    values = np.frombuffer(bytes.fromhex(colours), np.uint8).astype(np.float32)
    return values.reshape(-1, 3, 1, 1).swapaxes(0, 1)


_COLOURS = np.stack([_rgb(colours) for colours, _ in SCENES.values()], axis=1)  # (3, scenes, 6, 1, 1)
_MIX_ROWS = np.array([rows for _, rows in SCENES.values()], np.float32)[:, None, None]


def _uniform(count: int, stream: int) -> Array:
    """Return `count` float32 numbers in [0, 1) from the raw bits of PCG64."""
    raw = np.random.PCG64(stream).random_raw(count)
    return (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _shuffled_labels(size: int, stream: int) -> Array:
    """Return labels in which each run of ten is a shuffle of the ten classes."""
    keys = _uniform(-(-size // 10) * 10, stream).reshape(-1, 10)
    return np.argsort(keys, axis=1, kind="stable").reshape(-1)[:size]


def _add_grain(data: Array, stream: int) -> None:
    """Add camera noise in place: to each value the sum of two dice, standard deviation 9 grey levels."""
    raw = np.random.PCG64(stream)
    for start in range(0, len(data), _CHUNK):
        part = data[start : start + _CHUNK]
        faces = raw.random_raw(part.size // 4).view(np.uint8).reshape(len(part), 2, *part.shape[1:]) % 23
        part[...] = np.clip(part + faces.sum(axis=1, dtype=np.int16) - 22, 0, 255)


def _draw(drawing: Drawing, view: int, numbers: Array) -> Array:
    """Draw one view of one class, once for each row of random numbers: uint8 (n, 32, 32, 3)."""
    dice = iter(np.ascontiguousarray(numbers.T)[1:, :, None, None])
    canvas = _scene(drawing.scene, dice)
    for _ in range(4):  # things in the background
        cover = _blob(dice)
        canvas += (60 + 0.5 * _any_colour(dice) - canvas) * cover
    x, y, scale = _pose(drawing.tilt, dice)
    rgb = _rgb(drawing.bodies)
    body = rgb[:, _choose(rgb.shape[1], next(dice))] + (_any_colour(dice) - 128) * 0.35
    colours = {
        "body": body,
        "shade": body * 0.6,
        "light": body * 0.45 + 130,
        "accent": _any_colour(dice),
        **{key: _rgb(value) for key, value in FIXED.items()},
    }
    lamp = 1 - 0.3 * (next(dice) - 0.2) * y - 0.3 * (next(dice) - 0.5) * x  # mostly above the picture
    for colour, shapes in drawing.views[view]:
        cover = np.clip(0.5 - _distance(shapes, x, y) * scale, 0, 1)
        canvas += (colours[colour] * lamp - canvas) * cover
    cover = (next(dice) < 0.35) * _blob(dice)  # in some pictures something stands in front
    canvas += (40 + 0.6 * _any_colour(dice) - canvas) * cover
    canvas = (canvas - 128) * (0.7 + 0.5 * next(dice)) + 98 + 60 * next(dice)
    return np.clip(canvas, 0, 255).astype(np.uint8).transpose(1, 2, 3, 0)


def _scene(home: str, dice: Iterator[Array]) -> Array:
    """Return backgrounds, float32 (3, n, 32, 32): two colours that meet at a horizon, and soft blotches."""
    anywhere = _choose(len(SCENES), next(dice))
    which = np.where(next(dice)[:, 0, 0] < _HOME, list(SCENES).index(home), anywhere)
    above = _COLOURS[:, which, _choose(3, next(dice))]
    below = _COLOURS[:, which, 3 + _choose(3, next(dice))]
    rows = np.arange(_SIDE, dtype=np.float32)[:, None]
    mix = np.clip(0.5 + (rows - 8 - 18 * next(dice)) / _MIX_ROWS[which], 0, 1)
    knots = np.concatenate([next(dice) for _ in range(25)], axis=2).reshape(-1, 5, 5)
    return np.ascontiguousarray(above + (below - above) * mix + (_smooth(knots) - 0.5) * 90)


def _smooth(knots: Array) -> Array:
    """Stretch (n, 5, 5) values to (n, 32, 32) by straight lines between them."""
    place = np.arange(_SIDE, dtype=np.float32) / 8
    low = place.astype(np.int64)
    part = place - low
    rows = knots[:, low] * (1 - part)[:, None] + knots[:, low + 1] * part[:, None]
    return rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part


def _pose(tilt: float, dice: Iterator[Array]) -> tuple[Array, Array, Array]:
    """Return each pixel's place in the drawing, x and y (n, 32, 32), and pixels per unit (n, 1, 1)."""
    scale = 9 + 6.5 * next(dice)
    room = 17.5 - scale
    across = np.arange(_SIDE, dtype=np.float32) - 15.5 - (2 * next(dice) - 1) * room
    down = np.arange(_SIDE, dtype=np.float32)[:, None] - 15.5 - (2 * next(dice) - 1) * room
    half = tilt * (2 * next(dice) - 1)  # tangent of half the angle: no library's sine and cosine needed
    sine, cosine = 2 * half / (1 + half * half), (1 - half * half) / (1 + half * half)
    mirror = np.where(next(dice) < 0.5, np.float32(-1), np.float32(1))
    x = mirror * (cosine * across + sine * down) / (scale * (0.85 + 0.3 * next(dice)))
    y = (cosine * down - sine * across) / (scale * (0.85 + 0.3 * next(dice)))
    return x + (next(dice) - 0.5) * 0.35 * y, y, scale


def _blob(dice: Iterator[Array]) -> Array:
    """Return the cover (n, 32, 32) of an oval in a random place."""
    middle_x, middle_y, wide, high = (next(dice) for _ in range(4))
    pixel = np.arange(_SIDE, dtype=np.float32)
    x = (pixel - 40 * middle_x + 4) / (2 + 8 * wide * wide)
    y = (pixel[:, None] - 40 * middle_y + 4) / (2 + 8 * high * high)
    return np.clip(2.5 * (1 - x * x - y * y), 0, 1)


def _choose(count: int, number: Array) -> Array:
    """Turn numbers in [0, 1), shape (n, 1, 1), into integers 0 to count - 1, shape (n,)."""
    return (number[:, 0, 0] * count).astype(np.int64)


def _any_colour(dice: Iterator[Array]) -> Array:
    """Return a random colour per picture, (3, n, 1, 1), 0 to 255."""
    return np.stack([next(dice) for _ in range(3)]) * 255


def _distance(shapes: list[Shape], x: Array, y: Array) -> Array:
    """Return how far each pixel is outside the nearest of the shapes (negative: inside), in drawing units."""
    return reduce(np.minimum, (_SHAPES[kind](x, y, *numbers) for kind, numbers in shapes))


def _oval(x: Array, y: Array, middle_x: float, middle_y: float, wide: float, high: float) -> Array:
    across, down = (x - middle_x) / wide, (y - middle_y) / high
    return (np.sqrt(across * across + down * down) - 1) * min(wide, high)


def _limb(x: Array, y: Array, x1: float, y1: float, x2: float, y2: float, radius: float) -> Array:
    along_x, along_y = x2 - x1, y2 - y1
    x, y = x - x1, y - y1
    part = np.clip((x * along_x + y * along_y) / (along_x * along_x + along_y * along_y), 0, 1)
    across, down = x - part * along_x, y - part * along_y
    return np.sqrt(across * across + down * down) - radius


def _poly(x: Array, y: Array, *numbers: float) -> Array:
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    sides = list(zip(corners, corners[1:] + corners[:1], strict=True))
    clockwise = sum(x1 * y2 - y1 * x2 for (x1, y1), (x2, y2) in sides) > 0
    outside = np.full_like(x, -np.inf)
    for (x1, y1), (x2, y2) in sides:
        length = math.sqrt((x2 - x1) * (x2 - x1) + (y2 - y1) * (y2 - y1)) * (1 if clockwise else -1)
        offset = (x1 * y2 - y1 * x2) / length
        np.maximum(outside, x * ((y2 - y1) / length) - y * ((x2 - x1) / length) - offset, out=outside)
    return outside


_SHAPES = {"oval": _oval, "limb": _limb, "poly": _poly}
