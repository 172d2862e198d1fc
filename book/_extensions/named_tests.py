"""Links to the tests, by name: ``{test}`test_equations::test_eq_13_...``` leads to its lines.

A name that no test has is a warning, with which the strict build fails.
"""

import ast
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

TESTS = Path(__file__).resolve().parents[2] / "tests"


@cache
def lines(file: str) -> dict[str, int]:
    """The line of each function in tests/FILE.py; empty where there is no such file."""
    path = TESTS / f"{file}.py"
    tree = ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")
    return {node.name: node.lineno for node in tree.body if isinstance(node, ast.FunctionDef)}


class Test(SphinxRole):
    """``FILE::FUNCTION``, shown as the function's name."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        file, _, name = self.text.partition("::")
        if name not in lines(file):
            message = f"no test is named {self.text!r}; write {{test}}`FILE::FUNCTION`"
            return [], [self.inliner.reporter.warning(message, line=self.lineno)]
        url = f"{self.config.repository_url}/blob/main/tests/{file}.py#L{lines(file)[name]}"
        link = nodes.reference("", "", nodes.literal("", name), refuri=url, internal=False)
        return [link], []


def setup(app: Sphinx) -> dict:
    app.add_config_value("repository_url", "", "env")
    app.add_role("test", Test())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
