"""Every page of the book as a reader has it: on a desk and on a phone, by day and by night."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from built import ROOT

SCREENSHOTS = ROOT / "runs/screenshots"
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 700}}
MEGABYTES = 5
TRANSFERRED = """() => performance.getEntries()
    .filter((entry) => "transferSize" in entry)
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""
# Style sheets are not fetched anew, which a page from a file may not do.
AXE = {"resultTypes": ["violations"], "preload": False}
# The widest thing on the page, to say what to mend.
WIDEST = """() => [...document.querySelectorAll("body *")]
    .map((e) => [e.getBoundingClientRect().right, e.tagName + "." + e.className])
    .sort((a, b) => b[0] - a[0])[0]"""


@pytest.mark.parametrize("origin", ["file", "localhost"])
def test_loads_with_nothing_missing(book, name: str, origin: str):
    """The fixture looks for errors, here are the things that need no error to be missing."""
    page = book(name, origin)
    pictures = "() => [...document.images].filter((i) => !i.naturalWidth).map((i) => i.src)"
    assert page.evaluate(pictures) == []
    assert page.locator("mjx-merror").count() == 0
    if origin == "localhost":
        assert page.evaluate(TRANSFERRED) < MEGABYTES * 1e6


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_reads_well(book, name: str, size: str, theme: str):
    """Leaves a screenshot in runs/screenshots, for eyes; axe and a ruler look here."""
    page = book(name, color_scheme=theme, viewport=SIZES[size], reduced_motion="reduce")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    file = f"{name.removesuffix('.html').replace('/', '-')}-{size}-{theme}.png"
    page.screenshot(path=SCREENSHOTS / file, full_page=True, animations="disabled")

    width = page.evaluate("() => document.scrollingElement.scrollWidth")
    assert width <= SIZES[size]["width"], page.evaluate(WIDEST)
    found = Axe().run(page, options=AXE).response["violations"]
    barriers = [
        f"{v['id']} ({v['impact']}): {v['help']}\n    "
        + "\n    ".join(f"{' '.join(n['target'])}: {n['html'][:150]}" for n in v["nodes"][:5])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert not barriers, "\n".join(barriers)


def test_reads_without_scripts(book, name: str):
    page = book(name, java_script_enabled=False)
    article = page.locator("article")
    assert article.locator("h1").is_visible()
    assert len(article.inner_text().split()) > 100 or name == "search.html"
    figures = article.locator("img")
    for index in range(figures.count()):
        assert figures.nth(index).bounding_box()["width"] > 200
