"""Widgets by themselves on an empty page, with a model in Python's place."""

import pytest

from recdrop.widgets import Fading, MemoryExplorer, ResultsExplorer

PLACE = """async ([state, script, css]) => {
    const values = { ...state }, listeners = {};
    const model = {
        get: (key) => values[key],
        set(key, value) {
            values[key] = value;
            for (const call of listeners[`change:${key}`] ?? []) call();
        },
        on: (name, call) => (listeners[name] = [...(listeners[name] ?? []), call]),
        save_changes() {}, send() {},
    };
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    const el = document.body.appendChild(document.createElement("div"));
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
    await (await import(url)).default.render({ model, el });
    (globalThis.placed ??= []).push({ model, root: el.firstChild });
}"""


@pytest.fixture
def page(watched):
    page = watched().open("about:blank")
    page.set_content("<!doctype html><html lang=en><body style='width: 700px'></body></html>")
    return page


def place(page, widget) -> None:
    """Draw the widget as JupyterLab would, behind those that are there."""
    skipped = ("_esm", "_css", "layout", "tabbable", "tooltip")
    state = {k: v for k, v in widget.get_state().items() if k not in skipped}
    page.evaluate(PLACE, [state, widget._esm, widget._css])
    settled(page)


def settled(page) -> None:
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def change(page, **traits) -> None:
    """What Python would send, in this order, to the last widget placed."""
    for name, value in traits.items():
        page.evaluate("([k, v]) => placed.at(-1).model.set(k, v)", [name, value])
    settled(page)


def value(page, name: str):
    return page.evaluate("(name) => placed.at(-1).model.get(name)", name)


def curve(page, kind: str) -> list[list[float]]:
    """The corners of the first line of that class."""
    points = page.locator(f"polyline.{kind}").first.get_attribute("points")
    return [[float(v) for v in point.split(",")] for point in points.split()]


@pytest.mark.parametrize("second", [MemoryExplorer, Fading])
def test_two_in_one_document_do_not_share_names(page, second):
    """Each brings its own copy of the script; radio buttons of one name are one choice."""
    place(page, MemoryExplorer())
    place(page, second())
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    without = """[...document.querySelectorAll("fieldset")]
        .filter((f) => !f.querySelector("input:checked")).map((f) => f.dataset.control)"""
    assert page.evaluate(without) == []


def test_a_sequence_from_python_is_kept(page):
    """It arrives before its length, as ipywidgets sends them one by one."""
    place(page, MemoryExplorer())
    letters = "ACBD" + 26 * "C"
    change(page, sequence=letters, length=30)
    assert value(page, "sequence") == letters
    change(page, length=60)
    assert len(value(page, "sequence")) == 60


def test_signs_on_buttons_have_names(page):
    place(page, MemoryExplorer())
    for name in ("Step before", "Next step", "New masks"):
        assert page.get_by_role("button", name=name, exact=True).count() == 1


def test_a_filter_that_is_off_does_not_filter(page):
    place(page, ResultsExplorer(table=2, forward="yes"))
    change(page, table=1)
    assert page.locator("tbody tr").count() > 0


def test_lines_are_not_bent_at_the_edge(page):
    """Eq. 15 grows straight, also where it is drawn beside Eq. 13 for comparison."""
    place(page, Fading(update=0.3))
    points = curve(page, "rd-gal")
    steps = [b[1] - a[1] for a, b in zip(points, points[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 15, abs=0.15)
    assert steps[0] < -1


def test_huge_numbers_have_short_ticks_and_no_plateau(page):
    place(page, Fading(masked=True, scaling="inverted", rate=0.9, steps=100))
    top = max(page.locator(".rd-tick").all_text_contents(), key=len)
    assert len(top) <= 5
    theory = curve(page, "rd-theory")
    assert theory[-1][1] < theory[-2][1] - 50


def test_zeros_leave_a_logarithmic_axis_downwards(page):
    place(page, Fading(masked=True, per="step", rate=0.9, steps=5, update=0.1, log=True))
    assert len(curve(page, "rd-single")) == 6, "a point for each step, zeros too"
    bottom = page.locator("line.rd-axis").first.get_attribute("y1")
    lowest = max(y for _, y in curve(page, "rd-single"))
    assert lowest > float(bottom), "outside the frame, which cuts it off"


def test_a_mean_that_rests_on_few_draws_is_explained(page):
    place(page, Fading(masked=True, per="step", scaling="inverted"))
    page.get_by_text("400 draws say little of such an expectation").wait_for()
    change(page, per="sequence")
    page.get_by_text("400 draws say little").wait_for(state="detached")


def test_the_memory_that_it_starts_from_is_told(page):
    place(page, Fading(start=2.0))
    assert page.get_by_role("heading", name="The cell state, from a memory of 2").count() == 1


def test_canvases_are_redrawn_as_sharp_as_the_screen(page):
    """Zooming in changes the pixels that a canvas needs, and not its width in the page."""
    place(page, MemoryExplorer())
    canvas = page.locator("canvas").first
    share = "(c) => c.width / c.getBoundingClientRect().width"
    assert canvas.evaluate(share) == pytest.approx(1, abs=0.01)
    session = page.context.new_cdp_session(page)
    for density in (2, 3):  # twice, as each density is waited for anew
        screen = {"width": 1280 // density, "height": 800, "mobile": False}
        screen |= {"deviceScaleFactor": density}
        session.send("Emulation.setDeviceMetricsOverride", screen)
        settled(page)
        assert canvas.evaluate(share) == pytest.approx(density, abs=0.01)


def test_high_contrast_tells_what_is_chosen(watched):
    page = watched(forced_colors="active").open("about:blank")
    place(page, MemoryExplorer())
    ground = "(e) => getComputedStyle(e.parentElement.querySelector('span')).backgroundColor"
    chosen, other = (
        page.locator(f"[data-control=scheme] input{which}").first.evaluate(ground)
        for which in (":checked", ":not(:checked)")
    )
    assert chosen != other
    colours = page.evaluate("""() => {
        const canvas = document.querySelector("canvas.rd-cells");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) seen.add(data.slice(i, i + 3).join());
        return seen.size;
    }""")
    assert colours > 20
