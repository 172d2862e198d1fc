"""``{run-times}``: how long the networks of the book have trained, and on what, from manifests."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class RunTimes(SphinxDirective):
    """A row for each task, protocol and kind of machine."""

    def run(self) -> list[nodes.Node]:
        from recdrop.study import run_times

        self.env.note_reread()  # it comes from files that Sphinx does not watch
        return self.parse_text_to_nodes(run_times.markdown())


def setup(app: Sphinx) -> dict:
    app.add_directive("run-times", RunTimes)
    return {"parallel_read_safe": True}
