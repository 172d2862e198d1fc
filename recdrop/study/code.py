"""Code beside equations: the source that runs, shown in the notebook that explains it."""

import inspect
from collections.abc import Callable

from IPython.display import Markdown


def source(*functions: Callable) -> Markdown:
    """The functions' source as highlighted code."""
    blocks = [f"```python\n{inspect.getsource(f).rstrip()}\n```" for f in functions]
    return Markdown("\n\n".join(blocks))
