"""The claims and their verdicts, made from the manifests when the book is built.

``{claims}`` shows all of them, a column of verdicts for each protocol; ``{claims} paper`` the
comparisons of each at one protocol, under a heading of its own.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

LINK = "[{claim}](../notebooks/{chapter}.ipynb)"


class Claims(SphinxDirective):
    """``{claims} [PROTOCOL]``."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        from recdrop.study import claims

        self.env.note_reread()  # it comes from files that Sphinx does not watch
        if not self.arguments:
            return self.parse_text_to_nodes(claims.summary(link=LINK))
        sections = []
        for entry in claims.ledger(protocol=self.arguments[0]):
            section = nodes.section(ids=[f"claim-{entry['number']}"])
            section += nodes.title("", f"{entry['number']}. {entry['claim']}")
            where = f"[its chapter](../notebooks/{entry['chapter']}.ipynb)"
            text = f"**{entry['verdict'].capitalize()}.** Discussed in {where}."
            section += self.parse_text_to_nodes(f"{text}\n\n{claims.details(entry)}")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict:
    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True}
