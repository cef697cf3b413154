"""Device colours are fixed and distinct; the matplotlib style is readable and harmless."""

import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch

from course_utils import device_color
from course_utils.figures.style import (
    CATEGORY_COLORS,
    CATEGORY_HATCHES,
    CPU_COLOR,
    GPU_COLORS,
    STYLE_FILE,
    mix,
    use_style,
)

# linear RGB as somebody without one kind of cone sees it: Machado, Oliveira and Fernandes (2009), severity 1
VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(color: str, vision: str = "full") -> np.ndarray:
    """Return CIE Lab (D65) of "#RRGGBB"."""
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(VISION[vision] @ linear, 0, 1) / [0.9505, 1, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    ("device", "color"),
    [
        ("cpu", CPU_COLOR),
        (torch.device("cpu"), CPU_COLOR),
        ("cuda", GPU_COLORS[0]),
        (torch.device("cuda:3"), GPU_COLORS[3]),
        (7, GPU_COLORS[7]),
        ("cuda:9", GPU_COLORS[1]),
        ("mps", GPU_COLORS[0]),
        ("mps:0", GPU_COLORS[0]),
    ],
)
def test_device_color(device: object, color: str) -> None:
    assert device_color(device) == color


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", None, -1])
def test_a_name_that_is_no_device_says_what_to_write(device: object) -> None:
    with pytest.raises(ValueError, match=r"is not a device\. Write 'cpu', 'cuda:0'"):
        device_color(device)


@pytest.mark.parametrize("vision", VISION)
def test_no_two_meanings_look_alike(vision: str) -> None:
    everything = [CPU_COLOR, *GPU_COLORS, *CATEGORY_COLORS.values()]
    for one, two in itertools.combinations(everything, 2):
        assert np.linalg.norm(lab(one, vision) - lab(two, vision)) > 14, (one, two)


def test_categories_next_to_each_other_differ_in_grey() -> None:
    assert list(CATEGORY_HATCHES) == list(CATEGORY_COLORS)
    for one, two in itertools.pairwise(CATEGORY_COLORS):
        lighter = abs(lab(CATEGORY_COLORS[one])[0] - lab(CATEGORY_COLORS[two])[0])
        assert lighter > 15 or CATEGORY_HATCHES[one] != CATEGORY_HATCHES[two]


def test_mix() -> None:
    assert mix("#000000", "#FFFFFF", 0.5) == "#808080"
    assert mix("#123456", "#FFFFFF", 0) == "#123456"


def test_style_is_readable_and_idempotent() -> None:
    with matplotlib.rc_context():
        use_style()
        first = dict(matplotlib.rcParams)
        use_style()
        assert dict(matplotlib.rcParams) == first
        assert min(first[key] for key in ("font.size", "xtick.labelsize", "legend.fontsize")) >= 12
        assert first["figure.facecolor"] == "white"


def test_every_style_line_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    lines = [line for line in STYLE_FILE.read_text().splitlines() if line and not line.startswith("#")]
    assert len(matplotlib.rc_params_from_file(STYLE_FILE, use_default_template=False)) == len(lines)
    assert not caplog.records


def test_colors_need_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, course_utils.figures.style as s; s.device_color('cuda:1');"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
