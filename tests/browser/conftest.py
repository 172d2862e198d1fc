"""A real browser on the built book and on JupyterLab.

    def test_something(book):
        page = book("notebooks/02_memory_loss.html", origin="file", color_scheme="dark")
        ...

``book`` opens a page from its file or from a local server. Whatever goes wrong on it in the eyes of
the browser (an error in the console, a failed request, a request to another host) fails the test.
``lab`` is a running JupyterLab, see lab.py. Pages are those of the last build: `make book-html`.
"""

import chromium
import pytest
from built import HTML, is_redirect, pages, serve
from lab import Lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``name`` runs for every page of the book."""
    if "name" in metafunc.fixturenames:
        names = [name for name in pages() if not is_redirect(name)]
        missing = pytest.mark.skip(reason=f"no book in {HTML}; build it: make book-html")
        metafunc.parametrize("name", names or [pytest.param(None, marks=missing, id="no-book")])


@pytest.fixture(scope="package")
def browser():
    pytest.importorskip("playwright.sync_api", reason="pages need playwright: make env")
    executable = chromium.find()
    if executable is None:
        pytest.skip(chromium.REMEDY)
    with chromium.launched(executable) as found:
        yield found


@pytest.fixture(scope="package")
def server():
    with serve() as address:
        yield address


@pytest.fixture
def watched(browser):
    """Contexts of the browser, closed after the test, which fails if anything went wrong there."""
    contexts: list[chromium.Watched] = []

    def new(**options) -> chromium.Watched:
        contexts.append(chromium.Watched(browser, **options))
        return contexts[-1]

    yield new
    for watched in contexts:
        watched.context.close()
    problems = [problem for watched in contexts for problem in watched.problems]
    assert not problems, "\n".join(problems)


@pytest.fixture
def book(watched, request):
    """Opens a page of the book: ``book(name, origin="file" | "localhost", **context options)``."""
    if not HTML.exists():
        pytest.skip(f"no book in {HTML}; build it: make book-html")

    def open_page(name: str, origin: str = "file", **options):
        root = HTML.as_uri() if origin == "file" else request.getfixturevalue("server")
        return watched(**options).open(f"{root}/{name}")

    return open_page


@pytest.fixture(scope="package")
def jupyter(browser, tmp_path_factory):
    """One JupyterLab for all tests that want one; its processes end with them."""
    with Lab.started(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def lab(jupyter, watched):
    """JupyterLab in a fresh browser context: ``lab.open_notebook(name)``, ``lab.run_all()``."""
    jupyter.attach(watched(viewport={"width": 1400, "height": 1000}))
    yield jupyter
    jupyter.shut_kernels()
