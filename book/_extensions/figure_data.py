"""Below each figure, its data as CSV.

A figure in a notebook carries them beside its picture (recdrop/drawing.py), and one in a file of
its own has a file of the same name beside it. A diagram has none.
"""

import os
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def _link_all(app: Sphinx, doctree: nodes.document) -> None:
    page = Path(app.env.doc2path(app.env.docname))
    if page.suffix == ".ipynb":
        cells = nbformat.read(page, 4).cells
        for cell in doctree.findall(lambda node: _of(node, "nb_element") == "cell_code"):
            for output in cells[cell["cell_index"]].outputs:
                for figure in cell.findall(nodes.figure):
                    if data := output.get("data", {}).get("text/csv"):
                        _link(app, figure, _file(app, f"{page.stem}-{figure['ids'][0]}.csv", data))
    else:
        for figure in doctree.findall(nodes.figure):
            for image in figure.findall(nodes.image):
                if (file := (Path(app.srcdir) / image["uri"]).with_suffix(".csv")).exists():
                    _link(app, figure, file)


def _of(node: nodes.Node, attribute: str) -> str | None:
    return node.get(attribute) if isinstance(node, nodes.Element) else None


def _file(app: Sphinx, name: str, data: str) -> Path:
    """A file that Sphinx copies among the downloads."""
    file = Path(app.doctreedir) / "figure_data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(data, encoding="utf-8", newline="\n")
    return file


def _link(app: Sphinx, figure: nodes.figure, file: Path) -> None:
    source = Path(os.path.relpath(file, app.srcdir)).as_posix()
    target = app.env.dlfiles.add_file(app.env.docname, source).as_posix()
    app.env.note_dependency(source)
    label = nodes.Text("data of this figure (CSV)")
    link = addnodes.download_reference("", "", label, filename=target, reftarget=source)
    figure += nodes.legend("", nodes.paragraph("", "", link))


def setup(app: Sphinx) -> dict:
    app.connect("doctree-read", _link_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
