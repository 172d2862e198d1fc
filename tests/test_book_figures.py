"""Every figure of the book says what it shows and has its data beside it."""

import csv
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted((ROOT / "book").glob("*.md"))
DIAGRAMS = {"schemes"}
"""Drawings of what is no number."""


def shown(chapter: Path) -> list[tuple[dict, dict]]:
    """Metadata and output of each figure."""
    return [(cell.metadata, output.data)
            for cell in nbformat.read(chapter, 4).cells for output in cell.get("outputs", [])
            if "image/svg+xml" in output.get("data", {})]  # fmt: skip


FIGURES = [
    pytest.param(metadata, data, id=metadata.get("mystnb", {}).get("figure", {}).get("name"))
    for chapter in CHAPTERS for metadata, data in shown(chapter)
]  # fmt: skip


@pytest.mark.parametrize(("metadata", "data"), FIGURES)
def test_a_figure_has_a_caption_and_says_what_it_shows(metadata, data):
    figure, image = metadata["mystnb"]["figure"], metadata["mystnb"]["image"]
    assert len(figure["caption"].split()) >= 5
    assert len(image["alt"].split()) >= 12
    assert figure["name"]


def test_names_of_figures_are_unique():
    names = [figure.id for figure in FIGURES]
    for page in PAGES:
        names += re.findall(r"^:::\{figure\}.*?^:name: (\S+)", page.read_text(), re.M | re.S)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("metadata", "data"), FIGURES)
def test_a_figure_has_its_data(metadata, data):
    if metadata["mystnb"]["figure"]["name"] in DIAGRAMS:
        assert "text/csv" not in data
        return
    header, *lines = csv.reader(data["text/csv"].splitlines())
    assert header[0] == "panel"
    assert len(lines) > 1
    assert {len(line) for line in lines} == {len(header)}
    assert all(any(_is_number(cell) for cell in line) for line in lines)
    assert len(data["text/csv"]) < 100_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_figure_on_a_page_says_what_it_shows_and_has_its_data(page: Path):
    for file, options in re.findall(r"^:::\{figure\} (\S+)\n((?:^:.*\n)*)", page.read_text(), re.M):
        (alt,) = re.findall(r":alt: (.*)", options)
        assert len(alt.split()) >= 12
        assert Path(file).stem in DIAGRAMS or (page.parent / file).with_suffix(".csv").exists()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_begins_with_its_point_in_one_figure(chapter: Path):
    """Before the first of its sections."""
    for cell in nbformat.read(chapter, 4).cells:
        if any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", [])):
            return
        assert cell.cell_type == "code" or not re.search("^## ", cell.source, re.M)
    pytest.fail("no figure")


def _is_number(text: str) -> bool:
    try:
        return bool(float(text)) or True
    except ValueError:
        return False
