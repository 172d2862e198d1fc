"""A widget on a page that is no notebook, its state made when the book is built.

:::{widget} MemoryExplorer
What stands here in place of the widget where JavaScript is off.
:::
"""

import json

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SCRIPT = '<script type="application/vnd.jupyter.widget-{}+json">{}</script>'


class Widget(SphinxDirective):
    """``{widget} NAME``: a class of recdrop.widgets with its first settings."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        from ipywidgets.embed import dependency_state

        from recdrop import widgets

        shown = getattr(widgets, self.arguments[0])()
        models = dependency_state([shown], drop_defaults=False)
        state = {"version_major": 2, "version_minor": 0, "state": models}
        self.env.note_reread()  # its figures come from files that Sphinx does not watch
        return [
            self._raw("<noscript>"),
            *self.parse_content_to_nodes(),
            self._raw("</noscript>"),
            self._raw(_script("state", state) + _script("view", {"model_id": shown.model_id})),
        ]

    def _raw(self, text: str) -> nodes.raw:
        return nodes.raw("", text, format="html")


def _script(what: str, content: dict) -> str:
    return SCRIPT.format(what, json.dumps(content).replace("</", "<\\/"))


def setup(app: Sphinx) -> dict:
    app.add_directive("widget", Widget)
    return {"parallel_read_safe": True}
