"""A Chromium of this machine, driven by playwright, in a context that watches every page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

# The first has no window to draw, and is a fifth faster for it.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable",
         "google-chrome", "chrome")  # fmt: skip
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
REMEDY = "no Chromium was found, so pages are not looked at; install it: apt-get install chromium"
FLAGS = [
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No name is resolved: whatever a page asks of the world outside fails, and is reported.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
HERE = {"", "127.0.0.1"}  # file, data and blob addresses name no host

# All that a reader waits for: pictures, fonts, mathematics.
READY = """async () => {
    await document.fonts.ready;
    await window.MathJax?.startup?.promise;
    await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
}"""


def find() -> str | None:
    """The path of a Chromium or Chrome, or None."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or (str(MAC) if MAC.exists() else None)


@contextmanager
def launched(executable: str) -> Iterator:
    """A headless browser with a profile of its own, closed at the end."""
    from playwright.sync_api import sync_playwright

    root = hasattr(os, "geteuid") and os.geteuid() == 0  # whom Chromium's sandbox refuses
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=FLAGS, headless=True, chromium_sandbox=not root
        )
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A browser context whose pages write down what went wrong on them.

    ``problems`` are console errors, uncaught exceptions, requests that failed or were answered
    with an error, and requests to other hosts. A test may take out what it has provoked itself.
    """

    def __init__(self, browser, **options) -> None:
        self.problems: list[str] = []
        self.context = browser.new_context(**options)
        self.scripts = options.get("java_script_enabled", True)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda e: self.problems.append(f"exception: {e.error}"))
        self.context.on("request", self._request)
        self.context.on("requestfailed", self._failed)
        self.context.on("response", self._response)

    def open(self, url: str):
        """A new page at ``url``, with its pictures, fonts and mathematics in place."""
        page = self.context.new_page()
        page.goto(url)
        if self.scripts:
            page.evaluate(READY)
        return page

    def _console(self, message) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location.get('url')})")

    def _request(self, request) -> None:
        if (urlsplit(request.url).hostname or "") not in HERE:
            self.problems.append(f"asks another host: {request.url}")

    def _failed(self, request) -> None:
        # The page itself gave up, or was closed; or a script was asked for where there are none.
        if request.failure not in ("net::ERR_ABORTED", "csp" if not self.scripts else ""):
            self.problems.append(f"failed: {request.url} ({request.failure})")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.problems.append(f"answered {response.status}: {response.url}")
