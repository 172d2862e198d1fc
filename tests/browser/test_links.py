"""The built pages as files: every link, anchor and picture of the book leads somewhere."""

import re
from collections.abc import Iterator
from functools import cache
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from bs4 import BeautifulSoup
from built import HTML, ROOT, is_redirect, pages

REPOSITORY = "recdrop/recdrop"
BINDER = f"https://mybinder.org/v2/gh/{REPOSITORY}/main?urlpath=lab/tree/"
COLAB = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/"
NAMES_OF_FILES = (".png", ".svg", ".jpg", ".jpeg")


@cache
def parsed(name: str) -> BeautifulSoup:
    return BeautifulSoup((HTML / name).read_text(encoding="utf-8"), "html.parser")


def references(name: str) -> Iterator[str]:
    for tag in parsed(name).find_all(True):
        for attribute in ("href", "src", "data", "poster"):
            if tag.name != "base" and (found := tag.get(attribute)):
                yield found


def anchors(name: str) -> set[str]:
    return {tag["id"] for tag in parsed(name).find_all(id=True)} | {""}


def test_no_reference_of_the_book_is_broken(name: str):
    broken = []
    for reference in references(name):
        url = urlsplit(urljoin(f"book:/{name}", reference))
        if url.scheme != "book":
            continue
        path = unquote(url.path).lstrip("/")
        target = HTML / path
        found = target.is_file() and target.resolve().is_relative_to(HTML)
        if not found or (path.endswith(".html") and unquote(url.fragment) not in anchors(path)):
            broken.append(reference)
    assert not broken


def test_a_page_loads_nothing_from_elsewhere(name: str):
    """Links may lead away; scripts, styles, pictures, fonts and frames may not."""
    page = parsed(name)
    loaded = [tag["src"] for tag in page.find_all(src=True)]
    loaded += [
        tag["href"] for tag in page.find_all("link", href=True) if "canonical" not in tag["rel"]
    ]
    assert not [url for url in loaded if urlsplit(url).netloc]


def test_every_picture_says_what_is_on_it(name: str):
    for image in parsed(name).find_all("img"):
        alt = image.get("alt", "")
        if alt == "" and "logo" in " ".join(image.get("class", [])):
            continue  # the title stands beside it
        assert len(alt.split()) >= 2, image
        assert not alt.endswith(NAMES_OF_FILES), image


def test_a_page_has_a_language_one_title_and_one_heading(name: str):
    page = parsed(name)
    assert page.html["lang"] == "en"
    assert len(page.select("h1:not(.onlyprint h1)")) == 1  # the theme has another for the printer
    assert page.title.get_text().strip()


def test_headings_descend_step_by_step(name: str):
    levels = [int(h.name[1]) for h in parsed(name).select("article :is(h1, h2, h3, h4, h5, h6)")]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_a_chapter_can_be_launched_and_downloaded(name: str):
    hrefs = [a["href"] for a in parsed(name).select(".article-header-buttons a[href]")]
    launched = [href for href in hrefs if re.search("binder|colab|deepnote|jupyterhub", href)]
    downloaded = [(HTML / name).parent / href for href in hrefs if "_sources/" in href]
    chapter = name.removesuffix(".html") + ".ipynb"
    if name.startswith("notebooks/"):
        assert launched == [BINDER + chapter, COLAB + chapter]
        assert [path.read_bytes() for path in downloaded] == [(ROOT / chapter).read_bytes()]
    else:
        assert launched == []


def test_a_page_leads_to_the_repository(name: str):
    hrefs = {a["href"] for a in parsed(name).select(".article-header-buttons a[href]")}
    assert f"https://github.com/{REPOSITORY}" in hrefs


@pytest.mark.skipif(not pages(), reason="the book is not built: make book-html")
def test_the_root_leads_to_the_first_page():
    assert [name for name in pages() if is_redirect(name)] == ["index.html"]
    target = parsed("index.html").find("meta", {"http-equiv": "Refresh"})["content"]
    assert (HTML / target.split("url=")[1]).is_file()
