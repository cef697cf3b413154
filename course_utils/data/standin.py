"""Stand-in pictures for a machine without CIFAR-10: ten drawn classes in CIFAR-10's shapes and types.

Every picture is a drawing (see `drawings.toml`) in a random place, size, tilt, mirror image and colour, in
front of a cluttered scene. The pictures are the same bytes on every machine: all arithmetic is +, -, *, / and
square roots, which IEEE 754 rounds the same way everywhere; all randomness is the raw output of PCG64, which
NumPy keeps stable (https://numpy.org/neps/nep-0019-rng-policy.html).
"""

import math
import tomllib
from collections.abc import Iterator
from functools import reduce
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

_DATA = tomllib.loads(Path(__file__).with_name("drawings.toml").read_text(encoding="utf-8"))
_SCENES, _DRAWINGS = list(_DATA["scenes"].values()), _DATA["classes"]
CLASSES = tuple(_DRAWINGS)
SIZES = {True: 10_000, False: 2_000}  # training and test pictures unless the caller asks for another number
MAX_SIZES = {True: 50_000, False: 10_000}  # as many as CIFAR-10 has

Array = np.ndarray
_SIDE = 32
_PIXEL = np.arange(_SIDE, dtype=np.float32)
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
    numbers = _uniform((size, _DRAWS), stream=int(train))
    keys = _uniform((-(-size // 10), 10), stream=2 + int(train))
    labels = np.argsort(keys, axis=1, kind="stable").ravel()[:size]  # each ten: the ten classes, shuffled
    data = np.empty((size, _SIDE, _SIDE, 3), np.uint8)
    for (label, name), view in product(enumerate(CLASSES), (0, 1)):
        rows = np.flatnonzero((labels == label) & ((numbers[:, 0] < 0.5) == view))
        for some in np.split(rows, range(_CHUNK, len(rows), _CHUNK)):
            data[some] = _draw(_DRAWINGS[name], view, numbers[some])
    _add_grain(data, stream=4 + int(train))
    return data, labels.tolist()


def _uniform(shape: tuple[int, int], stream: int) -> Array:
    """Return float32 numbers in [0, 1) from the raw bits of PCG64."""
    raw = np.random.PCG64(stream).random_raw(shape)
    return (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _add_grain(data: Array, stream: int) -> None:
    """Add camera noise in place: to each value the sum of two dice, standard deviation 9 grey levels."""
    raw = np.random.PCG64(stream)
    for part in np.split(data, range(_CHUNK, len(data), _CHUNK)):
        faces = raw.random_raw(part.size // 4).view(np.uint8).reshape(len(part), 2, *part.shape[1:]) % 23
        part[...] = np.clip(part + faces.sum(axis=1, dtype=np.int16) - 22, 0, 255)


def _rgb(colours: str) -> Array:
    """Return n colours "RRGGBB RRGGBB ..." as float32 (3, n, 1, 1), 0 to 255."""
    return np.array(list(bytes.fromhex(colours)), np.float32).reshape(-1, 3, 1, 1).swapaxes(0, 1)


def _draw(drawing: dict[str, Any], view: int, numbers: Array) -> Array:
    """Draw one view of one class, once for each row of random numbers: uint8 (n, 32, 32, 3)."""
    dice = iter(np.ascontiguousarray(numbers.T)[1:, :, None, None])
    canvas = _scene(drawing["scene"], dice)
    for _ in range(4):  # things in the background
        cover = _blob(dice)
        canvas += (60 + 0.5 * _any_colour(dice) - canvas) * cover
    x, y, scale = _pose(drawing["tilt"] / 100, dice)
    bodies = _rgb(drawing["bodies"])
    body = bodies[:, _choose(bodies.shape[1], next(dice))] + (_any_colour(dice) - 128) * 0.35
    colours = {key: _rgb(value) for key, value in _DATA["fixed"].items()}
    colours |= {"body": body, "shade": body * 0.6, "light": body * 0.45 + 130, "accent": _any_colour(dice)}
    lamp = 1 - 0.3 * (next(dice) - 0.2) * y - 0.3 * (next(dice) - 0.5) * x  # mostly above the picture
    for colour, *shapes in drawing["views"][view]:
        distance = reduce(np.minimum, (_distance(shape, x, y) for shape in shapes))
        canvas += (colours[colour] * lamp - canvas) * np.clip(0.5 - distance * scale, 0, 1)
    cover = (next(dice) < 0.35) * _blob(dice)  # in some pictures something stands in front
    canvas += (40 + 0.6 * _any_colour(dice) - canvas) * cover
    canvas = (canvas - 128) * (0.7 + 0.5 * next(dice)) + 98 + 60 * next(dice)
    return np.clip(canvas, 0, 255).astype(np.uint8).transpose(1, 2, 3, 0)


def _scene(home: str, dice: Iterator[Array]) -> Array:
    """Return backgrounds, float32 (3, n, 32, 32): two colours that meet at a horizon, and soft blotches."""
    anywhere = _choose(len(_SCENES), next(dice))
    which = np.where(next(dice)[:, 0, 0] < _HOME, list(_DATA["scenes"]).index(home), anywhere)
    colours = np.stack([_rgb(scene["colours"]) for scene in _SCENES], axis=1)  # (3, scenes, 6, 1, 1)
    above = colours[:, which, _choose(3, next(dice))]
    below = colours[:, which, 3 + _choose(3, next(dice))]
    rows = np.array([scene["rows"] for scene in _SCENES], np.float32)[which, None, None]
    mix = np.clip(0.5 + (_PIXEL[:, None] - 8 - 18 * next(dice)) / rows, 0, 1)
    knots = np.concatenate(list(islice(dice, 25)), axis=2).reshape(-1, 5, 5)
    low = np.arange(_SIDE) // 8
    part = np.arange(_SIDE) / 8 - low
    blotches = knots[:, low] * (1 - part)[:, None] + knots[:, low + 1] * part[:, None]
    blotches = blotches[:, :, low] * (1 - part) + blotches[:, :, low + 1] * part
    return np.ascontiguousarray(above + (below - above) * mix + (blotches - 0.5) * 90)


def _pose(tilt: float, dice: Iterator[Array]) -> tuple[Array, Array, Array]:
    """Return each pixel's place in the drawing, x and y (n, 32, 32), and pixels per unit (n, 1, 1)."""
    scale = 9 + 6.5 * next(dice)
    room = 17.5 - scale
    across = _PIXEL - 15.5 - (2 * next(dice) - 1) * room
    down = _PIXEL[:, None] - 15.5 - (2 * next(dice) - 1) * room
    half = tilt * (2 * next(dice) - 1)  # tangent of half the angle: no library's sine and cosine needed
    sine, cosine = 2 * half / (1 + half * half), (1 - half * half) / (1 + half * half)
    mirror = np.where(next(dice) < 0.5, np.float32(-1), np.float32(1))
    x = mirror * (cosine * across + sine * down) / (scale * (0.85 + 0.3 * next(dice)))
    y = (cosine * down - sine * across) / (scale * (0.85 + 0.3 * next(dice)))
    return x + (next(dice) - 0.5) * 0.35 * y, y, scale


def _blob(dice: Iterator[Array]) -> Array:
    """Return the cover (n, 32, 32) of an oval in a random place."""
    middle_x, middle_y, wide, high = islice(dice, 4)
    x = (_PIXEL - 40 * middle_x + 4) / (2 + 8 * wide * wide)
    y = (_PIXEL[:, None] - 40 * middle_y + 4) / (2 + 8 * high * high)
    return np.clip(2.5 * (1 - x * x - y * y), 0, 1)


def _choose(count: int, number: Array) -> Array:
    """Turn numbers in [0, 1), shape (n, 1, 1), into integers 0 to count - 1, shape (n,)."""
    return (number[:, 0, 0] * count).astype(np.int64)


def _any_colour(dice: Iterator[Array]) -> Array:
    """Return a random colour per picture, (3, n, 1, 1), 0 to 255."""
    return np.stack(list(islice(dice, 3))) * 255


def _distance(shape: str, x: Array, y: Array) -> Array:
    """Return how far each pixel is outside a shape (negative: inside), in drawing units."""
    kind, *percents = shape.split()
    numbers = [int(percent) / 100 for percent in percents]
    if kind == "oval":
        middle_x, middle_y, wide, high = numbers
        across, down = (x - middle_x) / wide, (y - middle_y) / high
        return (np.sqrt(across * across + down * down) - 1) * min(wide, high)
    if kind == "limb":
        x1, y1, x2, y2, radius = numbers
        along_x, along_y = x2 - x1, y2 - y1
        part = ((x - x1) * along_x + (y - y1) * along_y) / (along_x * along_x + along_y * along_y)
        part = np.clip(part, 0, 1)
        across, down = x - x1 - part * along_x, y - y1 - part * along_y
        return np.sqrt(across * across + down * down) - radius
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    outside = -math.inf  # how far each pixel is beyond the polygon's farthest side
    for (x1, y1), (x2, y2) in pairwise([*corners, corners[0]]):
        along_x, along_y = x2 - x1, y2 - y1
        length = math.sqrt(along_x * along_x + along_y * along_y)
        beyond = x * (along_y / length) - y * (along_x / length) - (x1 * y2 - y1 * x2) / length
        outside = np.maximum(outside, beyond)
    return outside
