"""The built book as these tests see it: its pages, and a server for it."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[2]
HTML = ROOT / "book/_build/html"


def pages() -> list[str]:
    """Every page of the book, as its path below HTML; none where the book is not built.

    The theme keeps templates for its own scripts among its files: those are no pages.
    """
    found = (path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
    return sorted(name for name in found if not name.startswith("_static/"))


def is_redirect(name: str) -> bool:
    """Whether a page only leads to another one, as the root does to the book's first page."""
    return 'http-equiv="Refresh"' in (HTML / name).read_text(encoding="utf-8")[:500]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@contextmanager
def serve(folder: Path = HTML) -> Iterator[str]:
    """Serve a folder on a free port of this machine alone; yields the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
