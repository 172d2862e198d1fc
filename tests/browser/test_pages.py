"""Every page of the book as a reader has it: on a desk and on a phone, by day and by night."""

import os

import pytest
from barriers import barriers
from built import ROOT

SCREENSHOTS = ROOT / "runs/screenshots"
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 700}}
MEGABYTES = 5
TRANSFERRED = """() => performance.getEntries()
    .filter((entry) => "transferSize" in entry)
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""
# By day and on a desk axe looks for everything, elsewhere for what is other there: colours and the
# pictures that a theme chooses, boxes that scroll and targets for fingers.
ONLY = {
    ("desk", "light"): None,
    ("desk", "dark"): ["color-contrast", "link-in-text-block", "image-alt", "svg-img-alt"],
    ("phone", "light"): ["scrollable-region-focusable", "target-size"],
}
# The widest thing on the page, to say what to mend.
WIDEST = """() => [...document.querySelectorAll("body *")]
    .map((e) => [e.getBoundingClientRect().right, e.tagName + "." + e.className])
    .sort((a, b) => b[0] - a[0])[0]"""


def missing(page) -> list[str]:
    """The fixture looks for errors, here are the things that need no error to be missing."""
    pictures = "() => [...document.images].filter((i) => !i.naturalWidth).map((i) => i.src)"
    return page.evaluate(pictures) + page.locator("mjx-merror").all_inner_texts()


def test_loads_from_a_server(book, name: str):
    page = book(name, "localhost")
    assert missing(page) == []
    assert page.evaluate(TRANSFERRED) < MEGABYTES * 1e6


@pytest.mark.parametrize("size", SIZES)
def test_reads_well(book, name: str, size: str):
    """From its file. A ruler and axe look; SCREENSHOTS=1 leaves pictures for eyes besides."""
    page = book(name, color_scheme="light", viewport=SIZES[size], reduced_motion="reduce")
    assert missing(page) == []
    width = page.evaluate("() => document.scrollingElement.scrollWidth")
    assert width <= SIZES[size]["width"], page.evaluate(WIDEST)
    for theme in ("light", "dark") if os.environ.get("SCREENSHOTS") else ():
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        show(page, theme)
        file = f"{name.removesuffix('.html').replace('/', '-')}-{size}-{theme}.png"
        page.screenshot(path=SCREENSHOTS / file, full_page=True, animations="disabled")
    for (where, theme), only in ONLY.items():
        if where == size:
            show(page, theme)
            assert (theme, barriers(page, only)) == (theme, [])


def show(page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)
    page.locator(f"html[data-theme={theme}]").wait_for()


def test_reads_without_scripts(book, name: str):
    if name == "search.html":
        pytest.skip("searching is done by a script")
    page = book(name, java_script_enabled=False)
    article = page.locator("article")
    assert article.locator("h1").is_visible()
    assert len(article.inner_text().split()) > 100
    figures = article.locator("img")
    for index in range(figures.count()):
        assert figures.nth(index).bounding_box()["width"] > 200


def test_the_book_is_searched_without_a_network(book):
    """From a file it finds the same, without the lines around what was found."""
    found = book("search.html?q=forgets", "localhost").locator("#search-results li a")
    found.first.wait_for()
    pages = {found.nth(i).get_attribute("href").split("?")[0] for i in range(found.count())}
    assert any(page.endswith("notebooks/01_recurrent_dropout.html") for page in pages)
