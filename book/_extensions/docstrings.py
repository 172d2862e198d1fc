"""Colons in the one-line docstrings of constants and properties.

napoleon takes "Folder: of what" there for a type before a description, as Google's style has it;
ours are sentences. Their colons are hidden from it.
"""

from sphinx.application import Sphinx

LINES = ("attribute", "data", "property")
COLON = "\N{MODIFIER LETTER COLON}"


def _hide(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    if what in LINES:
        lines[:] = [line.replace(":", COLON) for line in lines]


def _show(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    if what in LINES:
        lines[:] = [line.replace(COLON, ":") for line in lines]


def setup(app: Sphinx) -> dict:
    app.connect("autodoc-process-docstring", _hide, priority=400)  # napoleon's is 500
    app.connect("autodoc-process-docstring", _show, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
