"""Figures on light and dark pages: colours that are seen, and told apart by everyone."""

import itertools
import re
from functools import cache

import numpy as np
import pytest

drawing = pytest.importorskip("recdrop.drawing", reason="figures need matplotlib")
from recdrop import figures  # noqa: E402

LIGHT = [drawing.BLUE, drawing.GREEN, drawing.VERMILION, drawing.GREY]
PALETTES = {"light": (drawing.GROUND, LIGHT)}
PALETTES["dark"] = (drawing.DARK[drawing.GROUND], [drawing.DARK[colour] for colour in LIGHT])

# Machado, Oliveira and Fernandes (2009): what is left of linear RGB without one kind of cones.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
# CIE 1976 L*a*b* of linear sRGB, in the white of D65.
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(TO_XYZ[1] @ linear(colour))


def contrast(one: str, other: str) -> float:
    """WCAG's ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = TO_XYZ @ np.clip(rgb, 0, 1) / TO_XYZ.sum(1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", PALETTES)
def test_colours_stand_out_from_their_ground(theme: str):
    ground, colours = PALETTES[theme]
    assert min(contrast(colour, ground) for colour in colours) >= 3  # WCAG 1.4.11


def test_ink_can_be_read():
    for light, dark in ((drawing.INK, drawing.GROUND), (drawing.GREY, drawing.GROUND)):
        assert contrast(light, dark) >= 7
        assert contrast(drawing.DARK[light], drawing.DARK[dark]) >= 7


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", PALETTES)
def test_schemes_are_told_apart_with_any_colour_vision(theme: str, vision: str):
    seen = [lab(np.array(VISIONS[vision]) @ linear(colour)) for colour in PALETTES[theme][1]]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(distances) > 12, distances


@cache
def drawn() -> dict[str, str]:
    shapes = {f.__name__: f() for f in (figures.schemes, figures.masks, figures.fading)}
    return {name: drawing.svg(figure) for name, figure in shapes.items()}


@pytest.mark.parametrize("name", ["schemes", "masks", "fading"])
def test_every_colour_of_a_figure_has_its_counterpart_in_the_dark(name: str):
    style, shapes = drawn()[name].split("</style>", 1)
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", shapes))
    assert used <= set(drawing.DARK)
    assert all(f'fill: {colour}"' in style for colour in used)


def test_a_figure_is_small_and_holds_nothing_of_the_machine():
    for text in drawn().values():
        assert len(text) < 100_000
        assert "matplotlib.org" not in text
        assert not re.search(r"\d{4}-\d\d-\d\dT", text)
