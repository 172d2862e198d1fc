"""The memory explorer as a reader meets it: by mouse, keys and touch, in the book and in Lab."""

import json
import re

import pytest
from built import ROOT
from driving import Driven

from recdrop.widgets import MemoryExplorer

INDEX, CHAPTER = "book/index.html", "notebooks/02_memory_loss.html"


@pytest.fixture
def explorer(book):
    return Driven(book(INDEX), "explorer")


@pytest.mark.parametrize("origin", ["file", "localhost"])
@pytest.mark.parametrize("where", [INDEX, CHAPTER])
def test_opens_without_kernel_or_network(book, origin: str, where: str):
    explorer = Driven(book(where, origin=origin), "explorer")
    assert explorer.shown("setting.scheme") == "moon"
    mine = MemoryExplorer().torch()
    assert explorer.counted() == (mine["hits"], mine["n"])
    summary = explorer.root.locator(".rd-summary")
    summary.get_by_text("Right on 17.5").wait_for()
    assert summary.get_attribute("aria-live") == "polite"


def test_the_rate_by_mouse(explorer):
    before, (hits, n) = explorer.shown("largest"), explorer.counted()
    slider = explorer.control("rate").locator("input")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    mouse = explorer.page.mouse

    def drag() -> None:
        mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] / 2)
        mouse.down()
        mouse.move(box["x"] + 1, box["y"] + box["height"] / 2, steps=4)
        mouse.up()

    explorer.moves(drag)
    explorer.page.wait_for_function(
        "(root) => root.recdrop.shown.setting.rate === 0", arg=explorer.root.element_handle()
    )
    assert explorer.shown("largest") > 3 * before, "without the factor the memory stays"
    now, _ = explorer.counted()
    assert hits / n < 0.25 < 0.9 < now / n
    assert explorer.control("rate").locator("output").inner_text() == "0.00"


def test_the_rate_by_keys(explorer):
    left = explorer.shown("fading.left")
    explorer.press("rate", "ArrowLeft", "ArrowLeft")
    assert explorer.shown("setting.rate") == 0.4
    assert explorer.shown("fading.left")[-1] > left[-1]
    expected = [0.6**n for n in range(len(left))]
    assert explorer.shown("expected") == pytest.approx(expected)
    explorer.press("rate", "End")
    assert explorer.shown("setting.rate") == 0.9
    assert explorer.root.locator(".rd-meaning").inner_text().endswith("1 − p = 0.10 at every step.")


def test_masks_by_mouse_and_keys(explorer):
    assert explorer.shown("mask") is None
    explorer.pick("masked", "training masks")
    mask, states = (explorer.shown(p) for p in ("mask", "trace.c"))
    assert 0 < sum(mask) < len(mask)
    assert all(c == 0 for m, c in zip(mask, states, strict=True) if not m)
    assert mask[:32] == mask[32:64], "per sequence"
    explorer.moves(explorer.control("draw").click)
    assert explorer.shown("mask") != mask
    explorer.press("per", "ArrowRight")
    mask = explorer.shown("mask")
    assert explorer.shown("setting.per") == "step"
    assert mask[:32] != mask[32:64]
    assert explorer.shown("theory.equation") == "Eq. 13"
    hits, n = explorer.counted()
    assert 0 < hits < n


CHOICES = [
    ("scheme", "Gal", "gal"),
    ("scheme", "own", "semeniuta"),
    ("scheme", "none", "none"),
    ("per", "step", "step"),
    ("trained", "0.25", 0.25),
    ("masked", "training masks", True),
    ("scaling", "Eq. 14", "inverted"),
    ("length", "60", 60),
]


@pytest.mark.parametrize("by", ["mouse", "keys"])
def test_every_choice_changes_what_is_drawn_and_can_be_taken_back(explorer, by: str):
    opened = explorer.shown("probabilities")
    for key, label, value in CHOICES:
        first = explorer.shown(f"setting.{key}")
        chosen = explorer.control(key).locator("label", has=explorer.page.locator(":checked"))
        back = chosen.inner_text()
        if by == "mouse":
            explorer.pick(key, label)
        else:
            presses = 0
            while explorer.shown(f"setting.{key}") != value and presses < 4:
                explorer.press(key, "ArrowRight")
                presses += 1
        assert (key, explorer.shown(f"setting.{key}")) == (key, value)
        assert explorer.shown("probabilities") != opened, key
        if by == "mouse":
            explorer.pick(key, back)
        else:
            explorer.press(key, *["ArrowLeft"] * presses)
        assert explorer.shown(f"setting.{key}") == first
        assert explorer.shown("probabilities") == opened, key


def test_eq_14_is_named_for_what_it_is(explorer):
    explorer.pick("scaling", "Eq. 14")
    assert "Not a network trained under Eq. 14" in explorer.root.locator(".rd-meaning").inner_text()
    explorer.pick("masked", "training masks")
    assert "1/(1 − p) = 2.00 at every step" in explorer.root.locator(".rd-meaning").inner_text()
    assert explorer.shown("largest") > 1000, "states grow"


def test_the_networks_own_figures_are_those_of_its_manifest(explorer):
    explorer.pick("per", "step")
    explorer.pick("trained", "0.75")
    (path,) = (ROOT / "book/results").glob("temporal_order-moon-0.75-step-seed0-*.json")
    last = json.loads(path.read_text())["final"]["last"]
    facts = explorer.root.locator(".rd-facts").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"{100 * last['train']:.1f} % right with its masks" in facts
    assert f"{100 * last['test']:.1f} % at the test" in facts


def test_the_sequence_by_keys(explorer):
    strip = explorer.root.get_by_role("listbox")
    strip.focus()
    truth = explorer.shown("truth")
    symbols = explorer.shown("symbols")
    at = next(i for i, s in enumerate(symbols) if s < 2)
    explorer.moves(lambda: explorer.page.keyboard.press("B"))
    assert explorer.shown("symbols")[at] == 1
    assert truth[0] == "A"
    assert explorer.shown("truth") == f"B{truth[1]}"
    explorer.moves(lambda: explorer.page.keyboard.press("ArrowLeft"))
    assert (
        strip.locator("[aria-selected=true]").get_attribute("aria-label").startswith(f"Step {at}:")
    )
    explorer.moves(lambda: explorer.page.keyboard.press("a"))
    assert explorer.shown("truth") is None
    explorer.root.locator(".rd-summary", has_text="has no class").wait_for()
    explorer.moves(lambda: explorer.page.keyboard.press("ArrowUp"))
    assert explorer.shown("symbols")[at - 1] == 1
    explorer.moves(lambda: explorer.page.keyboard.press("End"))
    assert len(explorer.shown("fading.left")) == 1, "after the last step there is none"


def test_the_sequence_by_mouse(explorer):
    last = explorer.root.get_by_role("option").last
    explorer.moves(last.click)
    before = explorer.shown("symbols")[-1]
    explorer.moves(last.click)
    assert explorer.shown("symbols")[-1] == (before + 1) % 4
    explorer.moves(explorer.control("symbol-D").click)
    assert explorer.shown("symbols")[-1] == 3
    explorer.moves(explorer.control("step-before").click)
    assert last.get_attribute("aria-selected") == "false"
    explorer.moves(lambda: explorer.root.locator(".rd-cells").click(position={"x": 40, "y": 40}))
    assert explorer.root.get_by_role("option").first.get_attribute("aria-selected") == "true"
    sequence = explorer.shown("symbols")
    explorer.moves(explorer.control("another").click)
    assert explorer.shown("symbols") != sequence


def test_by_touch_on_a_phone(book):
    phone = {"viewport": {"width": 375, "height": 700}, "has_touch": True, "is_mobile": True}
    explorer = Driven(book(INDEX, **phone), "explorer")
    explorer.moves(explorer.option("scheme", "own").tap)
    assert explorer.shown("setting.scheme") == "semeniuta"
    explorer.moves(explorer.root.get_by_role("option").nth(7).tap)
    explorer.moves(explorer.control("symbol-C").tap)
    assert explorer.shown("symbols")[7] == 2
    for control in explorer.root.locator("button:visible, .rd-option:visible").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 24, control.inner_text()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert explorer.page.evaluate(overflow) <= 0


def test_the_theme_reaches_the_canvas(book):
    page = book(INDEX, color_scheme="light")
    explorer = Driven(page, "explorer")
    corner = """(root) => [...root.querySelector(".rd-rows").getContext("2d")
        .getImageData(60, 60, 1, 1).data]"""
    light = explorer.root.evaluate(corner)
    explorer.moves(lambda: page.evaluate("document.documentElement.dataset.theme = 'dark'"))
    dark = explorer.root.evaluate(corner)
    assert sum(light[:3]) > 600
    assert sum(dark[:3]) < 300


def test_focus_is_visible(explorer):
    explorer.control("scheme").locator("input:checked").focus()
    explorer.press("scheme", "ArrowRight")
    option = explorer.control("scheme").locator("input:focus + span")
    assert option.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"
    explorer.page.keyboard.press("Tab")
    assert explorer.control("per").locator("input:focus").count() == 1


def test_a_redraw_reports_its_time(explorer):
    explorer.press("rate", "ArrowLeft")
    told = explorer.root.locator(".rd-clock").inner_text()
    assert re.fullmatch(r"Computed and redrawn in \d+\.\d ms in this page\.", told)


def test_without_javascript_text_and_figures_stay(book):
    page = book(INDEX, java_script_enabled=False)
    assert page.locator("noscript p", has_text="an explorer that needs JavaScript").is_visible()
    assert page.get_by_alt_text("Training and test accuracy on Temporal Order").is_visible()
    page = book(CHAPTER, java_script_enabled=False)
    told = (
        "getComputedStyle(document.querySelector('script[type*=widget-view]'), '::before').content"
    )
    assert "needs JavaScript" in page.evaluate(told)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 0}, "saved with a widget of version 0; its script expects version 1"),
        ({"networks": None}, "saved with a widget without networks"),
        ({"_esm": None}, "saved without the state of this widget"),
        ({"_esm": "export default 1 +"}, "This figure cannot be shown"),
    ],
)
def test_a_state_of_another_day_gets_a_message(watched, tmp_path, changes: dict, message: str):
    widget = MemoryExplorer()
    state = {k: getattr(widget, k) for k in ("_esm", "_css", "networks", "sequences", "version")}
    state |= {"sequence": widget.sequence, "scheme": "moon", "rate": 0.5} | changes
    models = json.dumps({"state": {"one": {"state": state}}}).replace("</", "<\\/")
    kind = "application/vnd.jupyter.widget-"
    path = tmp_path / "page.html"
    path.write_text(
        "<!doctype html><html lang=en><title>x</title><body>"
        f"<script type='{kind}state+json'>{models}</script>"
        f"<script type='{kind}view+json'>{json.dumps({'model_id': 'one'})}</script>"
        f"<script>{(ROOT / 'book/_static/widgets-boot.js').read_text()}</script>"
    )
    context = watched()
    alert = context.open(path.as_uri()).get_by_role("alert")
    alert.wait_for()
    assert message in alert.inner_text()
    assert "make notebooks" in alert.inner_text(), "the remedy"
    context.problems = []  # the console tells, too


def test_in_jupyterlab_torch_answers(lab):
    page = lab.open_notebook("02_memory_loss.ipynb")
    lab.run_all()
    explorer = Driven(page, "explorer")
    agreed = "([root, before]) => root.dataset.torch && root.recdrop.torch().key !== before"
    handle = explorer.root.element_handle()
    page.wait_for_function(agreed, arg=[handle, None])
    assert float(explorer.root.get_attribute("data-torch")) < 1e-6
    assert explorer.counted() == (
        explorer.root.evaluate("(root) => root.recdrop.torch().hits"), 400)  # fmt: skip
    assert explorer.root.locator(".rd-agrees").inner_text().startswith("torch 2.")
    assert explorer.root.locator(".rd-torch").count() == 1, "and is drawn"

    cells = page.locator(".jp-Notebook .jp-Cell").count()
    before = explorer.root.evaluate("(root) => root.recdrop.torch().key")
    explorer.press("rate", "ArrowLeft", "ArrowLeft")
    explorer.press("scheme", "ArrowRight")
    explorer.root.get_by_role("listbox").focus()
    for key in "abd":  # Lab's own: cell above, cell below, and twice to delete
        page.keyboard.press(key)
    page.keyboard.press("d")
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    page.wait_for_function(agreed, arg=[handle, before])
    page.wait_for_function(
        "(root) => root.querySelector('.rd-agrees') && root.recdrop.shown.setting.scheme === 'gal'",
        arg=handle,
    )
    assert float(explorer.root.get_attribute("data-torch")) < 1e-6

    cell = page.locator(".jp-CodeCell", has_text="found = explorer.torch()")
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    told = cell.locator(".jp-OutputArea-output", has_text="hidden=0.4, per='sequence'")
    told.wait_for(timeout=30_000)
