"""Who executes a point: a lease on a file, which a process that dies cannot keep.

A claim is renewed every few seconds. It has ended when its process is gone, as far as that can be
asked for on this host, and when it has not been renewed for a minute, which holds on any host that
sees the folder. No lock of the file system is needed, which not every shared one has.

A claim's file bears a generation. Who finds the last one ended makes the next, which the file
system grants to one process alone; nobody ever removes the file of another's live claim.
"""

import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from recdrop.study.files import processes, room_for

BEAT, LEASE = 5.0, 60.0
"""Seconds between renewals, and without one until a claim has ended."""
SUFFIX = ".claim"
CLOCK = 5.0
"""Seconds by which the start of one process may be told differently: clocks are put right."""


class Claim:
    """A claim that this process holds; ``lost`` is called from a thread if another has taken it."""

    def __init__(self, path: Path, token: str, lost: Callable[[], None] = lambda: None):
        self.path, self._token, self._lost = path, token, lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                if not self.held():
                    self._lost()
                    return
                os.utime(self.path)
            except OSError:  # a network's hiccup; the next beat may get through
                pass

    def held(self) -> bool:
        """Whether it is still this process's, as far as the folder says."""
        name, _, generation = self.path.name.rpartition(SUFFIX)
        latest = max(_generations(self.path.parent, name), default=0)
        return latest == int(generation) and self._is_own()

    def _is_own(self) -> bool:
        """Generations begin anew once all have been released: another's may have this number."""
        try:
            return self._token in self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False

    def release(self) -> None:
        self._stop.set()
        self._thread.join()
        name, _, generation = self.path.name.rpartition(SUFFIX)
        if not self._is_own():  # lost, and so are the older ones, to whoever has it now
            return
        for older in sorted(_generations(self.path.parent, name)):
            if older <= int(generation):  # its own at last
                _path(self.path.parent, name, older).unlink(missing_ok=True)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_) -> None:
        self.release()


def acquire(folder: Path, name: str, lost: Callable[[], None] = lambda: None) -> Claim | None:
    """Claim a name; None where another process holds it.

    Raises:
        OSError: the folder cannot be written to.
    """
    latest = max(_generations(folder, name), default=0)
    if _holder(folder, name, latest) is not None:
        return None
    path = _path(folder, name, latest + 1)
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:  # another was faster
        return None
    me = psutil.Process()
    token = uuid.uuid4().hex
    content = {"host": socket.gethostname(), "processes": processes(), "pid": me.pid,
               "started": me.create_time(), "since": time.time(), "token": token}  # fmt: skip
    try:
        with room_for(path), open(file, "w", encoding="utf-8") as opened:
            json.dump(content, opened)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return Claim(path, token, lost)


def holder(folder: Path, name: str) -> dict | None:
    """Who holds a name: host, pid and since when; None where nobody does."""
    return _holder(folder, name, max(_generations(folder, name), default=0))


def _holder(folder: Path, name: str, generation: int) -> dict | None:
    path = _path(folder, name, generation)
    try:
        age = _now(folder) - path.stat().st_mtime
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        content = json.loads(content)
        _ = content["host"], content["pid"], content["since"]
    except (ValueError, TypeError, KeyError):  # it is being written, or its writer died over it
        content = {"host": "unknown", "pid": None, "since": time.time() - age}
    return content if age < LEASE and _may_live(content) else None


def held(folder: Path) -> set[str]:
    """All names that are claimed."""
    names = {entry.name.rpartition(SUFFIX)[0] for entry in os.scandir(folder)}
    return {name for name in names if name and holder(folder, name) is not None}


def tidy(folder: Path) -> None:
    """Remove the files of claims that have ended: by claiming their names, as anybody else would,
    so that no claim made meanwhile is removed.
    """
    for name in {entry.name.rpartition(SUFFIX)[0] for entry in os.scandir(folder)} - {""}:
        with suppress(OSError):  # as on a full disk; litter does no harm
            if claim := acquire(folder, name):
                claim.release()


def _may_live(content: dict) -> bool:
    """Whether its process lives; what runs elsewhere cannot be asked for and may."""
    if (content["host"], content.get("processes")) != (socket.gethostname(), processes()):
        return True
    try:
        apart = psutil.Process(content["pid"]).create_time() - content["started"]
        return abs(apart) < CLOCK  # which is counted from a start of the system that may be set
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _now(folder: Path) -> float:
    """By the clock that dates the folder's files, which need not be this host's."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # it may be read-only here
        return time.time()


def _path(folder: Path, name: str, generation: int) -> Path:
    return folder / f"{name}{SUFFIX}{generation}"


def _generations(folder: Path, name: str) -> list[int]:
    start = f"{name}{SUFFIX}"
    found = (entry.name.removeprefix(start) for entry in os.scandir(folder)
             if entry.name.startswith(start))  # fmt: skip
    return [int(end) for end in found if end.isdecimal()]
