"""A Python kernel that ends with the process that started it: ``python -m recdrop.batch.kernel``.

ipykernel looks for its parent as well, but does not find out if that died before it was looking and
something other than init takes in orphans, as systemd and some containers do.
"""

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from recdrop.study.files import processes

PARENT = "RECDROP_PARENT"
SECONDS = 0.5
SOCKETS = "recdrop-"
LONGEST = 59
"""Bytes of a folder's path that leave room for the socket's: 103 are allowed on macOS."""


def sockets() -> Path:
    """A new folder for a kernel's sockets, where paths are short, as they must be."""
    return Path(tempfile.mkdtemp(prefix=f"{_mine()}{os.getpid()}-", dir=_place()))


def _mine() -> str:
    """Where containers share the folder, each leaves the others' alone; short, as paths must be."""
    return f"{SOCKETS}{int(processes()) % 10_000:04}-"


def _place() -> str:
    """The folder of temporary files, but where its path is too long for sockets."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST or os.name != "posix" else "/tmp"


def clear_sockets() -> None:
    """Remove the sockets of kernels whose worker was killed on this host."""
    import psutil

    for folder in Path(_place()).glob(f"{_mine()}*-*"):
        owner = folder.name.removeprefix(_mine()).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def follow(parent: int) -> None:
    """End this process once its parent is another."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    if parent := os.environ.get(PARENT):
        follow(int(parent))
    from ipykernel import kernelapp  # it takes a moment: the parent is watched by then

    kernelapp.launch_new_instance()
