"""One point, on a worker: papermill, a kernel on local sockets, and what can end it."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nbformat
import papermill
import psutil
from jupyter_client import AsyncKernelManager
from traitlets.config import Config

from recdrop.batch import claims, kernel
from recdrop.batch.folder import Folder, Outcome, with_error, write
from recdrop.batch.task import Task
from recdrop.study.files import atomic

warnings.filterwarnings("ignore", message="The specified file .* does not end in one of")
logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the sweep tells what failed


class Watch:
    """What can end a kernel from outside; ``reason`` says what did."""

    def __init__(self, sweep: str):
        self.sweep, self.reason, self._process = sweep, None, None
        self._lock = threading.Lock()

    def started(self, process: int) -> None:
        with self._lock:
            self._process = process
        if self.reason:
            self.end(self.reason)

    def end(self, reason: str) -> None:
        """Kill the kernel and what it has started; one that starts later ends at once."""
        with self._lock:
            self.reason = self.reason or reason
            process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.name == "posix":  # a kernel leads a group of its own
                os.killpg(process, signal.SIGKILL)
            else:
                psutil.Process(process).kill()


_running: set[Watch] = set()
_stopped: set[str] = set()


def stop(sweep: str) -> None:
    """End what this process executes for a sweep, and whatever it is still given."""
    _stopped.add(sweep)
    for watch in list(_running):
        if watch.sweep == sweep:
            watch.end("stopped")


class _Unpublished(Exception):
    """The notebook is not to be kept: its sweep was stopped, or another process has its claim."""


def run(task: Task) -> Outcome:
    """Execute a point; a notebook that fails is an outcome and no exception.

    Raises:
        OSError: the folder is not there or cannot be written to; nothing half written is left.
    """
    name, folder, watch = task.point.name, Folder(task.out), Watch(task.sweep)
    if not folder.control.is_dir():
        raise OSError(
            f"host {socket.gethostname()} does not see {task.out}; give --out in a folder that all "
            "hosts of the cluster share"
        )
    claim = claims.acquire(folder.control, name, lost=lambda: watch.end("elsewhere"))
    if claim is None:
        return Outcome(name, "elsewhere")
    with claim:
        there = folder.outcome(name)
        if there is not None and there.status == "finished":  # another sweep has since
            return there
        _running.add(watch)
        try:
            if task.sweep in _stopped:
                return Outcome(name, "stopped")
            with atomic(folder.notebook(name)) as part:
                outcome = _execute(task, part, watch)
                if watch.reason in ("stopped", "elsewhere") or not claim.held():
                    raise _Unpublished
            return outcome
        except _Unpublished:
            return Outcome(name, watch.reason or "elsewhere")
        finally:
            _running.remove(watch)


def _execute(task: Task, part: Path, watch: Watch) -> Outcome:
    """The notebook executed into ``part``, with its outcome in its metadata."""
    began, kind, message = time.time(), None, ""
    timer = task.timeout and threading.Timer(task.timeout, watch.end, ["timeout"])
    if timer:
        timer.daemon = True
        timer.start()
    kernel.clear_sockets()
    sockets = kernel.sockets()
    try:
        papermill.execute_notebook(
            nbformat.reads(task.text, as_version=4),
            str(part).replace("{", "{{").replace("}", "}}"),  # papermill formats it
            task.point.parameters,
            kernel_name="python3",
            progress_bar=False,
            start_timeout=300,  # a shared folder, or a busy machine, may take its time
            config=config(sockets),
            kernel_manager_class=_kernels(task, watch.started),
        )
    except papermill.PapermillExecutionError as error:  # its notebook says so already
        kind, message = error.ename, error.evalue
    except Exception as error:  # the kernel died, the disk is full: the notebook knows of nothing
        kind, message = _said(task, watch, error)
    finally:
        if timer:
            timer.cancel()
        shutil.rmtree(sockets, ignore_errors=True)
    nb = _read(part, task.text)
    outputs = [o for cell in nb["cells"] for o in cell.get("outputs", [])]
    if kind and not any(o["output_type"] == "error" for o in outputs):
        nb = with_error(nb, kind, message)
    first = f"{kind}: {message}".strip().splitlines()[0] if kind else None
    status = "failed" if kind else "finished"
    ended = time.time()
    outcome = Outcome(task.point.name, status, first, ended - began, ended, task.digest)
    write(part, nb, outcome, task.point)
    return outcome


def _said(task: Task, watch: Watch, error: Exception) -> tuple[str, str]:
    """What kind of error ended a notebook, and what to say of it."""
    if watch.reason == "timeout":
        return "TimeoutError", f"not done after {task.timeout:.0f} s; give a longer --timeout"
    if type(error).__name__ == "DeadKernelError":
        return "DeadKernelError", "the kernel died; if memory ran out, give fewer --jobs"
    return type(error).__name__, str(error)


def _read(part: Path, otherwise: str) -> dict:
    """What papermill has written; the notebook itself where a full disk let it write nothing."""
    try:
        return json.loads(part.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return json.loads(otherwise)


def config(sockets: Path) -> Config:
    """Of a kernel, for papermill. Over TCP, parallel runs can collide on a port."""
    transport = "tcp" if sys.platform == "win32" else "ipc"
    kernel = {"transport": transport, "connection_file": str(sockets / "kernel.json")}
    return Config({"KernelManager": kernel})


def _kernels(task: Task, started: Callable[[int], None]) -> type[AsyncKernelManager]:
    environment = dict(task.environment) | {kernel.PARENT: str(os.getpid())}
    if task.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = task.gpus[_number() % len(task.gpus)]

    class Kernels(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            arguments = [sys.executable, "-m", "recdrop.batch.kernel", "-f", self.connection_file]
            return arguments + (extra_arguments or [])

        async def start_kernel(self, **options) -> None:
            silent = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)  # cells are not meant
            await super().start_kernel(env=os.environ | environment, **options, **silent)
            started(self.provisioner.pid)

    return Kernels


def _number() -> int:
    """Of this worker in an embedded cluster, whose names are 0, 1, ..."""
    from distributed import get_worker

    return int(get_worker().name)
