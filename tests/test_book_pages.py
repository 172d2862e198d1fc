"""The book's sources: every page has its place, and what it says of the code is so."""

import ast
import importlib.util
import pydoc
import re
from pathlib import Path

import nbformat
import pytest
import yaml

import recdrop

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
BUILT = BOOK / "_build/html"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))}
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text())
API = PAGES["api"] + PAGES["api_study"]
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def chapters(toc: dict) -> list[str]:
    """The files that the table of contents names."""
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


def test_every_page_and_notebook_is_in_the_contents_once():
    files = [*BOOK.glob("*.md"), *NOTEBOOKS]
    found = sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in files)
    assert sorted(chapters(TOC)) == found


def test_the_first_page_leads_to_every_other_but_the_second_half_of_the_reference():
    links = set(re.findall(r"\]\((\S+)\.(?:md|ipynb)[)#]", PAGES["index"]))
    found = {(BOOK / link).resolve().relative_to(ROOT).as_posix() for link in links}
    assert {*chapters(TOC)} - found == {"book/index", "book/api_study"}


def test_the_reference_lists_every_public_name():
    directives = re.findall(r"auto(?:class|function):: (\w+)", PAGES["api"])
    assert set(recdrop.__all__) <= set(directives)


def test_the_reference_lists_every_module_that_a_chapter_imports():
    listed = set(re.findall(r"module:: (recdrop[\w.]*)", API))
    assert imported() - listed == set(), "add them to book/api.md or book/api_study.md"


def imported() -> set[str]:
    """The modules of recdrop that the notebooks import, or import something from."""
    found = set()
    for cell in (cell for path in NOTEBOOKS for cell in nbformat.read(path, 4).cells):
        for node in ast.walk(ast.parse(cell.source if cell.cell_type == "code" else "")):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {n if is_module(n) else node.module for n in names}
    return {name for name in found if name.startswith("recdrop")}


def is_module(name: str) -> bool:
    """Whether a name is that of a module, and not of something in one."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", ["python", "torch", "others"])
def test_inventories_are_in_order(name: str):
    """Sphinx reads a malformed line as another, and then links lead elsewhere."""
    lines = (BOOK / f"inventories/{name}.txt").read_text().splitlines()
    assert lines[0] == "# Sphinx inventory version 1"
    for line in lines[3:]:
        assert re.fullmatch(r"[\w.]+ (class|exception|function|method) [\w./-]+\.html", line), line


def test_every_equation_leads_to_its_code_and_its_tests():
    sections = re.split(r"^### ", PAGES["equations"], flags=re.M)[1:]
    numbered = [s for s in sections if s.startswith("Eq. ")]
    assert [s.splitlines()[0] for s in numbered] == [f"Eq. {n}" for n in range(1, 16)]
    assert [re.findall(r"\\tag\{(\d+)\}", s) for s in numbered] == [[str(n)] for n in range(1, 16)]
    for section in sections:
        code, tests = re.findall(r"^- (Code|Tests): (.+(?:\n  .+)*)", section, re.M)
        names = re.findall(r"\{py:\w+\}`(recdrop[\w.]+)`", code[1])
        assert names, section
        for name in names:
            pydoc.locate(name) or pytest.fail(f"{name} does not exist")
        names = re.findall(r"\{test\}`(\w+)::(\w+)`", tests[1])
        assert names, section
        for file, name in names:
            assert re.search(rf"^def {name}\(", (ROOT / f"tests/{file}.py").read_text(), re.M), name


def test_the_python_of_a_page_runs():
    """One block after the other in one namespace, as a reader would paste them."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGES["use_it"], re.M | re.S)
    assert len(blocks) > 5
    namespace = {}
    for block in blocks:
        exec(compile(block, "book/use_it.md", "exec"), namespace)


def markdown(path: Path) -> list[str]:
    return [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown"]


@every_notebook
def test_a_chapter_says_what_it_is_for(path: Path):
    """What is learnt, what is needed and how long it takes, before anything else."""
    title, *rest = markdown(path)[0].split("\n\n")
    assert title.startswith("# ")
    assert len(rest[0].split()) > 30, "an overview"
    told = re.findall(r"^- \*\*(.+?)\*\*", rest[-1], re.M)
    assert told == ["You learn", "You need", "Time"]
    assert "to read" in rest[-1]


@every_notebook
def test_a_chapter_begins_with_its_point_in_one_figure(path: Path):
    cells = nbformat.read(path, 4).cells
    section = next(n for n, c in enumerate(cells) if c.source.startswith("## "))
    figures = [c.metadata.mystnb.figure for c in cells[:section] if "mystnb" in c.metadata]
    assert len(figures) == 1


@every_notebook
def test_a_chapter_ends_with_exercises_a_summary_and_what_next(path: Path):
    sections = re.split(r"^## ", "\n\n".join(markdown(path)), flags=re.M)[1:]
    titles = [section.splitlines()[0] for section in sections]
    assert titles[-3:] == ["Exercises", "Summary", "What next"]
    exercises, summary, after = sections[-3:]
    asked = len(re.findall(r"^\d+\. ", exercises, re.M))
    assert asked >= 2
    assert exercises.count(":::{dropdown} Answer") == asked
    assert len(re.findall(r"^- ", summary, re.M)) >= 2
    assert re.search(r"\]\(\S+\)", after)


@every_notebook
def test_terms_are_in_the_glossary(path: Path):
    """The strict build finds it, too, and later."""
    defined = {t.lower() for t in re.findall(r"^(\w.*)\n  \w", PAGES["glossary"], re.M)}
    used = re.findall(r"\{term\}`(?:[^`<]+<)?([^`<>]+)>?`", "\n".join(markdown(path)))
    assert {t.lower() for t in used} - defined == set()


@pytest.mark.skipif(not BUILT.exists(), reason="the book is not built: make book-html")
def test_no_page_names_a_folder_of_the_machine_it_was_built_on():
    """autodoc prints values, and some hold paths."""
    named = [page.name for page in BUILT.rglob("*.html") if f"{ROOT}/" in page.read_text("utf-8")]
    assert named == []
