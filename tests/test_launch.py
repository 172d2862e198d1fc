"""A notebook that is opened on Colab, where there is nothing but the notebook, fetches the rest."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def first_code(path: Path) -> nbformat.NotebookNode:
    return next(cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")


CELL = first_code(NOTEBOOKS[0])


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """What the cell would run; it is not run."""
    found: list[list[str]] = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, check: found.append([str(word) for word in words])
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    return found


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_same_cell_that_the_book_hides(path: Path):
    assert first_code(path).source == CELL.source, "copy the cell of chapter 1"
    assert first_code(path).metadata["tags"] == ["remove-cell"]


def test_it_does_nothing_elsewhere(commands, monkeypatch):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(CELL.source, {})
    assert commands == []


@pytest.mark.usefixtures("colab")
def test_it_does_nothing_on_colab_where_recdrop_is_there(commands):
    exec(CELL.source, {})
    assert commands == []


@pytest.mark.usefixtures("colab")
def test_on_colab_the_repository_comes_along(commands, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(CELL.source, {})
    (url,) = re.findall('^repository_url = "(.*)"', (ROOT / "book/conf.py").read_text(), re.M)
    folder = str(tmp_path / "recdrop-main")  # named recdrop it would hide the package it holds
    clone, install = commands
    assert clone == ["git", "clone", "-q", "--depth=1", url, folder]
    assert install[:5] == [sys.executable, "-m", "pip", "install", "-q"]
    assert install[-2:] == ["-e", folder]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {re.split("[>=~]", name)[0] for name in project["optional-dependencies"]["study"]}
    assert set(install[5:-2]) <= known
    assert sys.path[0] == folder
