"""The fading of a memory, moved by hand: the drawn dots are the cell's, on the drawn lines."""

import pytest
from driving import Driven

from recdrop.dropout import RecurrentDropout
from recdrop.study import memory

CHAPTER = "notebooks/01_recurrent_dropout.html"


@pytest.fixture
def fading(book):
    return Driven(book(CHAPTER), "fading")


@pytest.mark.parametrize("origin", ["file", "localhost"])
def test_opens_with_eq_13(book, origin: str):
    fading = Driven(book(CHAPTER, origin=origin), "fading")
    assert fading.shown("mean") == pytest.approx([0.5**n for n in range(1, 16)])
    assert fading.shown("gap") < 1e-9
    assert "c₁₅ = 0.5¹⁵ · 1 = 3.05e-5" in fading.root.locator(".rd-equation").inner_text()


def test_sliders_by_keys_and_mouse(fading):
    fading.press("rate", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    fading.press("update", "ArrowRight", "ArrowRight", "ArrowRight")
    steps = fading.control("steps").locator("input")
    steps.scroll_into_view_if_needed()
    box = steps.bounding_box()
    fading.moves(lambda: steps.click(position={"x": box["width"] - 1, "y": box["height"] / 2}))
    drop = RecurrentDropout.moon(0.25, scaling="paper")
    mine = memory.fading(drop, 100, False, updates=0.3)[:, 0].tolist()
    assert fading.shown("mean") == pytest.approx(mine, rel=1e-9)
    assert fading.shown("theory") == pytest.approx(mine, rel=1e-9)


def test_the_equation_has_the_numbers_that_it_is_worked_with(fading):
    """Also those that no slider gives, but Python may set."""
    finer = """(input) => {
        Object.assign(input, { step: "any", value: 0.125 });
        input.dispatchEvent(new Event("input"));
    }"""
    fading.moves(lambda: fading.control("rate").locator("input").evaluate(finer))
    assert fading.shown("setting.rate") == 0.125
    assert "c₁₅ = 0.875¹⁵ · 1 = 0.1349" in fading.root.locator(".rd-equation").inner_text()


@pytest.mark.parametrize(("label", "scheme"), [("own", "semeniuta"), ("Gal", "gal")])
def test_other_schemes_keep_it(fading, label: str, scheme: str):
    fading.pick("scheme", label)
    assert fading.shown("mean") == pytest.approx([1.0] * 15)
    fading.press("update", "ArrowRight")
    drop = getattr(RecurrentDropout, scheme)(0.5, scaling="paper")
    mine = memory.fading(drop, 15, False, updates=0.1)[:, 0].tolist()
    assert fading.shown("mean") == pytest.approx(mine)


def test_under_eq_14_a_kept_unit_grows(fading):
    fading.pick("scaling", "Eq. 14")
    assert fading.shown("mean") == pytest.approx([1.0] * 15), "evaluation is left alone"
    fading.pick("masked", "training masks")
    ends = [row[-1] for row in fading.shown("rows")]
    kept = [end for end in ends if end]
    assert 0 < len(kept) < len(ends)
    assert kept == pytest.approx([2.0**15] * len(kept))
    assert fading.shown("theory")[-1] == pytest.approx(0.5 * 2**15)
    before = ends
    fading.moves(fading.control("draw").click)
    assert [row[-1] for row in fading.shown("rows")] != before
    fading.pick("log", "logarithmic")
    assert fading.root.locator("polyline").count() > 6


@pytest.mark.parametrize(
    ("scheme", "source", "left"),
    [
        ("own", "Eq. 15", "1.000"),
        ("Gal", "Eq. 5 with open gates", "1.000"),
        ("Moon", "Eq. 13", "3.05e-5"),
    ],
)
def test_it_is_told_in_words(fading, scheme: str, source: str, left: str):
    if scheme != "Moon":  # with which it opens
        fading.pick("scheme", scheme)
    told = fading.root.locator(".rd-summary", has_text=f"{scheme} in evaluation at rate 0.50")
    told.wait_for()
    expected = f"under Eq. 3: after 15 steps the cell holds {left}; {source} says {left}"
    assert expected in told.inner_text()
