"""A page on paper: what is folded is not lost, nothing is cut, nothing is there to be pressed."""

import pytest

PAPER = {"width": 700, "height": 1000}  # what A4 leaves inside its margins, at 96 pixels an inch
WIDE = "article :is(table, img, mjx-container[display])"
CUT = """(all, width) => all
    .filter((e) => e.getClientRects().length && e.getBoundingClientRect().right > width + 1)
    .map((e) => e.outerHTML.slice(0, 150))"""


@pytest.fixture
def paper(book):
    def print_page(name: str):
        page = book(name, color_scheme="dark", viewport=PAPER)
        page.emulate_media(media="print")
        page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        return page

    return print_page


def test_a_page_reads_well_on_paper(paper, name: str):
    page = paper(name)
    for selector in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer", ".copybtn"):
        shown = page.locator(selector)
        assert not any(shown.nth(i).is_visible() for i in range(shown.count())), selector
    assert page.locator("details.sd-dropdown:not([open])").count() == 0
    assert page.locator(WIDE).evaluate_all(CUT, PAPER["width"]) == []


def test_tables_are_unfolded_without_their_code(paper):
    cell = paper("notebooks/02_memory_loss.html").locator(".tag_hide-cell")
    assert cell.locator("table").is_visible()
    assert not cell.locator(".cell_input").is_visible()


def test_what_is_to_be_moved_is_named_in_its_place(paper):
    page = paper("notebooks/02_memory_loss.html")
    assert not page.locator(".rd-explorer canvas").first.is_visible()
    told = "(e) => getComputedStyle(e, '::before').content"
    assert "to be moved by hand" in page.locator(".rd-explorer").evaluate(told)


def test_answers_fold_again_after_printing(paper):
    page = paper("notebooks/02_memory_loss.html")
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.sd-dropdown[open]").count() == 0
