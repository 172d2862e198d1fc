"""A real JupyterLab of this environment, as `make lab` starts it, and a hand on its notebooks."""

import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import nbformat
import psutil
from built import ROOT
from chromium import Watched

OPTIONS = [
    "--no-browser",
    "--allow-root",  # as in a container; it listens to this machine alone
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port_retries=50",
    "--LabApp.extension_manager=readonly",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=",
]
SETTINGS = {
    # Lab asks its makers for news, and its user whether it may.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Cells out of sight stay in the document, so that a test finds them.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
START, RUN = 60, 240  # seconds until a start or a whole notebook has failed

# The kernel has been started and rests; before, Lab calls a notebook without one idle too.
READY = """() => {
    const indicator = document.querySelector(".jp-Notebook-ExecutionIndicator");
    const kernel = document.querySelector(".jp-Toolbar-kernelName")?.textContent;
    return indicator?.dataset.status === "idle" && kernel && !kernel.startsWith("No Kernel");
}"""
# Every code cell that has something to run has run, and nothing is being run.
IDLE = r"""() => {
    const cells = [...document.querySelectorAll(".jp-Notebook .jp-CodeCell")];
    const ran = (cell) => /\[\d+\]/.test(cell.querySelector(".jp-InputPrompt")?.textContent);
    const indicator = document.querySelector(".jp-Notebook-ExecutionIndicator");
    const failed = document.querySelector('[data-mime-type="application/vnd.jupyter.error"]');
    return cells.length && (cells.every(ran) || failed) && indicator?.dataset.status === "idle";
}"""


class Lab:
    """A running server; ``page`` is the notebook that a test has opened in it."""

    def __init__(self, folder: Path, address: str, token: str) -> None:
        self.folder, self.address, self.token = folder, address, token
        self.watched: Watched | None = None
        self.page = None

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator["Lab"]:
        """A server on a free port, its settings, workspaces and notebooks all in ``folder``."""
        token, log = secrets.token_hex(16), folder / "lab.log"
        notebooks = folder / "notebooks"
        notebooks.mkdir()
        for name, values in SETTINGS.items():
            path = folder / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        places = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        environment = {name: str(folder / place) for name, place in places.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--ServerApp.root_dir={notebooks}"],
            env=os.environ | environment | {"JUPYTER_TOKEN": token},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            cwd=folder,
        )  # fmt: skip
        try:
            yield cls(notebooks, _address(process, log), token)
        finally:
            _end(process)

    def attach(self, watched: Watched) -> None:
        self.watched = watched

    def open_notebook(self, name: str):
        """Open a copy of ``notebooks/name``, without outputs, as a user does; returns the page."""
        notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, self.folder / name)
        self.page = self.watched.context.new_page()
        self.page.goto(f"{self.address}/lab/tree/{name}?token={self.token}&reset")
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=START * 1000)
        self.page.wait_for_function(READY, timeout=START * 1000)
        return self.page

    def run_all(self) -> None:
        """Run > Run All Cells, then `wait_until_idle`."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until every cell has run and the kernel rests. An error in a cell is raised."""
        self.page.wait_for_function(IDLE, timeout=RUN * 1000)
        errors = self.page.locator('[data-mime-type="application/vnd.jupyter.error"]')
        if errors.count():
            raise AssertionError(errors.first.inner_text())

    def shut_kernels(self) -> None:
        """End every kernel: the next test begins with none, and its memory is free."""
        for kernel in self._ask("GET", "sessions"):
            self._ask("DELETE", f"sessions/{kernel['id']}")

    def _ask(self, method: str, what: str):
        headers = {"Authorization": f"token {self.token}"}
        with urlopen(Request(f"{self.address}/api/{what}", headers=headers, method=method)) as a:
            return json.loads(a.read() or "null")


def _address(process: subprocess.Popen, log: Path) -> str:
    """Where the server says it listens; its log goes on to be written to a file."""
    found, written = threading.Event(), []

    def follow() -> None:
        with log.open("w", encoding="utf-8") as file:
            for line in process.stderr:
                file.write(line)
                file.flush()
                if match := re.search(r"http://127\.0\.0\.1:\d+", line):
                    written.append(match[0])
                    found.set()
        found.set()  # it has ended

    threading.Thread(target=follow, daemon=True).start()
    found.wait(START)
    if not written:
        raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}")
    return written[0]


def _end(process: subprocess.Popen) -> None:
    """End the server and all that it has started: kernels are no part of its process group."""
    family = [process] if process.poll() is not None else [
        psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)
    ]  # fmt: skip
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        pass
    for member in family[1:] + family[:1]:
        try:
            member.kill()
        except (psutil.NoSuchProcess, ProcessLookupError):
            pass
    process.wait(15)
