"""The book's sources: every page has its place, and what it says of the code is so."""

import re
from pathlib import Path

import pytest
import yaml

import recdrop

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))}
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text())
API = PAGES["api"] + PAGES["api_study"]
# Machinery that is called by what the reference lists, and by nobody else.
INTERNAL = ("__main__", "bench", "cli", "figures", "kernels", "layers", "layouts", "replicate",
            "seeds", "study.chunks", "study.code", "study.grids", "study.progress", "tasks.cells",
            "tasks.initialise", "widgets")  # fmt: skip


def chapters(toc: dict) -> list[str]:
    """The files that the table of contents names, in its order."""
    parts = toc.get("parts", [toc])
    return [toc["root"], *(c["file"] for part in parts for c in part["chapters"])]


def test_every_page_and_notebook_is_in_the_contents_once():
    files = [*BOOK.glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    found = sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in files)
    assert sorted(chapters(TOC)) == found


def test_the_reference_lists_every_public_name():
    directives = re.findall(r"auto(?:class|function):: (\w+)", PAGES["api"])
    assert set(recdrop.__all__) <= set(directives)


def test_the_reference_lists_every_module():
    files = (ROOT / "recdrop").rglob("*.py")
    names = (path.relative_to(ROOT / "recdrop").with_suffix("").as_posix() for path in files)
    names = {name.replace("/", ".") for name in names if "__init__" not in name}
    listed = set(re.findall(r"module:: recdrop\.([\w.]+)", API))
    missing = {n for n in names - listed if not any(f"{n}.".startswith(f"{i}.") for i in INTERNAL)}
    assert missing == set(), "add them to book/api.md or book/api_study.md"


@pytest.mark.parametrize("name", ["python", "torch", "others"])
def test_inventories_are_in_order(name: str):
    """Sphinx reads a malformed line as another, and then links lead elsewhere."""
    lines = (BOOK / f"inventories/{name}.txt").read_text().splitlines()
    assert lines[0] == "# Sphinx inventory version 1"
    for line in lines[3:]:
        assert re.fullmatch(r"[\w.]+ (class|exception|function|method) [\w./]+\.html", line), line
