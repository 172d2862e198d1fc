"""No book without its results: a file that is missing or damaged stops the build, by its name.

Pages are not executed when the book is built. So that what they show still has its files behind it,
all files of results are read here, and every one that a notebook leads to has to be there.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from recdrop.bench import gpu_report, report
from recdrop.study import results

REQUIRED = ("bench/cpu.json",)
"""Shown without a link to it."""
NAMED = re.compile(r"\.\./book/results/([\w./+-]+)")


def problems(root: Path) -> Iterator[str]:
    """What is wrong with the results of a checkout, a line for each file."""
    folder = root / "book/results"
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        for name in sorted(_named(notebook) - _files(folder)):
            yield f"{folder / name} is missing, and {notebook.name} shows its figures"
    for name in REQUIRED:
        if not (folder / name).exists():
            yield f"{folder / name} is missing"
    for manifests in (folder, folder / results.BEYOND):
        try:
            results.read_all(manifests)
        except ValueError as error:
            yield str(error)
    for name in sorted(_files(folder)):
        if read := _reader(folder / name):
            try:
                read(folder / name)
            except ValueError as error:
                yield str(error)


def _reader(path: Path) -> Callable | None:
    """How to read what is no network's manifest."""
    if path.parent.name == "bench":
        return gpu_report.read if path.stem.startswith("cuda") else report.read
    return None if "-" in path.name else _read


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}


def _named(notebook: Path) -> set[str]:
    outputs = [cell.get("outputs", []) for cell in nbformat.read(notebook, 4).cells]
    return set(NAMED.findall(json.dumps(outputs)))


def _read(path: Path) -> None:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from error


def _stop(app: Sphinx) -> None:
    if found := list(problems(Path(app.srcdir))):
        raise ExtensionError("\n".join(["results that the book stands on:", *found]))


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", _stop)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
