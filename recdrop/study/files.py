"""Files that are there whole or not at all. Nothing here needs torch, nor anything of ours."""

import errno
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The project's root in a checkout; relative folders given by a user start here."""


def named(path: str | os.PathLike) -> Path:
    """A path as somebody gave it.

    Raises:
        ValueError: it is empty, as a variable that is not set would be.
    """
    if not os.fspath(path):
        raise ValueError("'' names no folder; give a path, such as runs/results")
    return Path(path).expanduser()


def from_root(path: str | os.PathLike) -> Path:
    """A path as a notebook, papermill or a terminal means it: relative to the project's root.

    Raises ValueError as :func:`named` does.
    """
    path = named(path)
    return path if path.is_absolute() or not (ROOT / "pyproject.toml").exists() else ROOT / path


def writable(folder: str | os.PathLike, parameter: str = "results_dir") -> Path:
    """The folder, created and tried; ``parameter`` is the name of what gave it.

    Raises:
        OSError: it cannot be written to; before a run, and not after it.
    """
    folder = from_root(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"results folder {str(folder)!r} cannot be written to ({error.strerror}); "
            f"give another {parameter} or mend its permissions"
        ) from error
    return folder


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its name once it is whole and on disk.

    Raises:
        OSError: such as a full disk; what was at ``path`` before is there still.
    """
    part = part_of(path, os.getpid())
    try:
        with room_for(path):
            yield part
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
            _settle(path.parent)
    finally:
        part.unlink(missing_ok=True)


PART = re.compile(r"\.(0|[0-9]{6,})\.[0-9]+\.part$")
"""The end of the name of a temporary file: of processes, a process, and that it is one."""


def part_of(path: Path, pid: int) -> Path:
    """The temporary file beside ``path`` that a process here writes to."""
    return path.with_name(f"{path.name}.{socket.gethostname()}.{processes()}.{pid}.part")


def processes() -> str:
    """What tells containers of one name apart: a process is only known within its own."""
    try:
        return "".join(filter(str.isdecimal, os.readlink("/proc/self/ns/pid")))
    except OSError:  # not Linux
        return "0"


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """A full disk says for what it had no room, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        what = f"No space left for {path.name}; make room and run the same again"
        raise OSError(error.errno, what, str(path.parent)) from error


def _settle(folder: Path) -> None:
    """Have the new name on disk, too: a power cut then finds it or all that was before."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError:  # not every network file system knows how
            pass
        finally:
            os.close(opened)


def clear_parts(folder: Path) -> None:
    """Remove what processes that were killed while writing have left.

    Those of this machine can be asked for; those of another, and of another container, are dead
    when a day has passed.
    """
    mine = f".{socket.gethostname()}.{processes()}."
    for part in folder.rglob("*.part"):
        if not PART.search(part.name):  # somebody's own
            continue
        try:
            if mine not in part.name:
                if time.time() - part.stat().st_mtime > 86400:
                    part.unlink(missing_ok=True)
            elif os.name == "posix":  # elsewhere signal 0 is no harmless question
                os.kill(int(part.suffixes[-2][1:]), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (ValueError, IndexError, OSError):
            pass  # not ours to judge
