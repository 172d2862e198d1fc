"""Compiles cpu.cpp at first use and keeps the result in the user's cache.

The source has a plain C interface and needs no header of torch's, so that it takes seconds, any
C++17 compiler will do, and neither ninja nor Python's own headers are needed. ``CXX`` and
``CXXFLAGS`` are honoured.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
_STANDARD = ["-std=c++17", "-O3", "-fPIC", "-shared", "-Wno-psabi"]


class BuildError(RuntimeError):
    """The kernel cannot be compiled here; the message says why."""


def build() -> Path:
    """The kernel's shared library, compiled unless it is in the cache.

    Processes that come at once wait for the one that compiles.

    Raises BuildError where there is no compiler, the source does not compile or nothing can be
    written.
    """
    try:
        return _build()
    except (OSError, ImportError) as error:  # ImportError: Windows has no fcntl
        raise BuildError(str(error)) from error


def _build() -> Path:
    compiler = _compiler()
    folder = _cache() / _fingerprint()
    if compiler is None:
        ready = [made for made in sorted(folder.glob("cpu-*.so")) if _is_whole(made)]
        if not ready:
            raise BuildError("no C++ compiler was found (c++, g++ or clang++, or the CXX variable)")
        return ready[0]
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout
    made = folder / f"cpu-{_digest(*compiler, version, os.environ.get('CXXFLAGS', ''))}.so"
    if _is_whole(made):
        return made
    folder.mkdir(parents=True, exist_ok=True)
    import fcntl

    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it should this process die
        if not _is_whole(made):
            _compile(compiler, made)
    return made


def _is_whole(made: Path) -> bool:
    """Whether the library is there, to the byte: to load half a one ends the process."""
    try:
        return made.with_suffix(".sha256").read_text() == _content(made)
    except OSError:
        return False


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compile(compiler: list[str], made: Path) -> None:
    print("recdrop: compiling the CPU kernel, once for this machine ...", file=sys.stderr)
    start = time.monotonic()
    arm = platform.machine().lower() in ("aarch64", "arm64")
    native = "-mcpu=native" if arm else "-march=native"
    errors = []
    with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
        out = Path(scratch) / made.name
        for extra in ([native, "-fopenmp"], [native], []):  # without OpenMP: a single thread
            own = os.environ.get("CXXFLAGS", "").split()
            command = [*compiler, *own, *_STANDARD, *extra, str(MAIN), "-o", str(out)]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode == 0:
                content = _content(out)
                os.replace(out, made)  # whole or not at all
                made.with_suffix(".sha256").write_text(content)
                took = time.monotonic() - start
                print(f"recdrop: compiled in {took:.0f} s, kept in {made}", file=sys.stderr)
                return
            errors.append(run.stderr.strip() or f"exit status {run.returncode}")
    raise BuildError(f"{' '.join(compiler)} failed: {errors[-1][:2000]}")


MAIN = Path(__file__).with_name("cpu.cpp")


def _compiler() -> list[str] | None:
    own = os.environ.get("CXX", "").split()
    for name in [own] if own else (["c++"], ["g++"], ["clang++"]):
        if shutil.which(name[0]):
            return name
    return None


def _cache() -> Path:
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # a container's user may have no home
        raise BuildError("there is no home directory, nor XDG_CACHE_HOME, for a cache") from error
    return Path(base) / "recdrop" / "kernels"


def _fingerprint() -> str:
    """Torch's version, with which its OpenMP library comes, our source, and what this CPU can do:
    a home shared by unlike machines holds a build for each."""
    return (
        f"{torch.__version__}-{_digest(platform.machine(), _cpu(), *map(Path.read_text, SOURCES))}"
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
