"""Citations as plain paragraphs to a screen reader.

docutils calls their box a list, of which they are no items: with that role alone gone, each is
still announced as an entry of a bibliography.
"""

from sphinx.application import Sphinx


def _without_role(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", _without_role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
