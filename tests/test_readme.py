"""The README says what is so: its tables, its figure and its commands."""

import re
from pathlib import Path

import pytest

from recdrop.study import tables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_tables_are_those_of_the_manifests(number: int):
    rows = [row for row in tables.table(number, ROOT / "book/results") if row["n"]]
    marker = f"<!-- made by: recdrop results --table {number} -->\n"
    assert README.partition(marker)[2].startswith(tables.markdown(rows) + "\n")


def test_figure_of_the_first_screen_is_that_of_the_manifests(tmp_path: Path):
    figures = pytest.importorskip("recdrop.figures", reason="figures need matplotlib")
    figures.save(figures.effect(ROOT / "book/results"), tmp_path / "effect.svg")
    committed = (ROOT / "book/_static/effect.svg").read_text()
    assert (tmp_path / "effect.svg").read_text() == committed, "run `make notebooks`"


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", README, re.M)
    named = ["".join(groups) for groups in named]
    assert named
    assert set(named) <= set(targets)


def test_linked_files_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_python_lines_run():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
