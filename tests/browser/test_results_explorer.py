"""The results explorer shows the tables' rows, each under its own protocol."""

import pytest
from built import ROOT
from driving import Driven

from recdrop.study import tables

PAGE = "book/results_explorer.html"


@pytest.fixture
def results(book):
    return Driven(book(PAGE), "results-explorer")


def expected(number: int, **wanted) -> int:
    """How many distinct rows the tables have."""
    rows = tables.table(number, ROOT / "book/results", beyond=True)
    for row in rows:
        if not row["rate"]:
            row |= {"scheme": "none", "per": "none"}
    keys = ("protocol", "scheme", "rate", "per", "forward", "length")
    return len({tuple(map(r.get, keys)) for r in rows if wanted.items() <= r.items()})


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_row_is_there(results, number: int):
    label = {1: "1: Temporal Order", 2: "2: words", 3: "3: characters", 4: "4: entities"}[number]
    if number > 1:
        results.pick("table", label)
    assert int(results.root.get_attribute("data-rows")) == expected(number)
    assert results.root.locator("tbody tr").count() == expected(number)


def test_ours_stand_beside_the_papers(results):
    results.pick("table", "2: words")
    row = next(
        r for r in tables.table(2, ROOT / "book/results") if r["n"] and r["protocol"] == "paper"
    )
    line = results.root.locator("[data-protocol=paper] tr[data-scheme=none]").first
    assert f"{row['test']:.1f} ({row['n']})" in line.inner_text()
    assert f"{row['paper_test']:g}" in line.inner_text()


def test_protocols_are_apart_and_look_so(results):
    results.pick("table", "2: words")
    papers, quick = (results.root.locator(f"[data-protocol={p}]") for p in ("paper", "quick"))
    assert "not yet run" in papers.inner_text()
    assert "no reproduction" in quick.inner_text()
    style = "(e) => getComputedStyle(e.querySelector('.rd-scroll')).borderLeftStyle"
    assert (papers.evaluate(style), quick.evaluate(style)) == ("solid", "dashed")


def test_filters_by_mouse_and_keys(results):
    everything = results.root.locator("tbody tr").count()
    results.pick("scheme", "Moon")
    moon = results.root.locator("tbody tr")
    assert 0 < moon.count() < everything
    assert {r["scheme"] for r in results.shown("rows")} == {"moon"}
    results.press("per", "ArrowRight")
    assert {r["per"] for r in results.shown("rows")} == {"step"}
    results.pick("run", "not yet run")
    assert results.root.locator("tbody tr.rd-missing").count() == moon.count() > 0
    results.pick("protocol", "others")
    assert results.root.locator("tbody tr").count() == 0
    told = results.root.locator(".rd-summary").inner_text()
    assert told == "Table 1, Temporal Order: no row fits these filters."


def test_forward_dropout(results):
    results.pick("table", "3: characters")
    results.pick("forward", "with")
    assert {r["forward"] for r in results.shown("rows")} == {True}
