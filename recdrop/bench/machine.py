"""The machine a measurement was made on: what it is, what it can do at best, who else used it."""

import os
import platform
import time
from pathlib import Path
from types import TracebackType

import torch

import recdrop
from recdrop.bench.measure import interleaved
from recdrop.study.results import commit, processor

BUSY = 0.1
"""Cores' worth of other processes' work from which on a measurement is flagged."""


def describe(threads: int) -> dict:
    """Processor, cores, versions, instruction set, and the backend that recdrop takes."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available(),
        "mkl": torch.backends.mkl.is_available(),
        "recdrop": recdrop.__version__,
        "commit": commit(),
        "backend": backend(),
    }


def backend() -> str:
    """What recdrop runs an LSTM on the CPU with."""
    return getattr(recdrop, "backend", lambda: "reference: plain PyTorch")()


def ceilings(seconds: float = 2.0, size: int = 1024, megabytes: int = 128) -> dict[str, float]:
    """The best of this machine, now and with these threads: products and copies, per second.

    Floating point operations in a product of square matrices, by whichever library is faster, in
    ``fp32`` and ``bf16``; bytes read and written by a copy that no cache holds, ``bandwidth``.
    """
    a, source = torch.rand(size, size), torch.rand(megabytes << 18)
    low, target = a.bfloat16(), torch.empty_like(source)
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    calls = {"fp32": lambda: a @ a.T, "bf16": lambda: low @ low.T}
    calls["bandwidth"] = lambda: target.copy_(source)
    if linear is not None:
        calls["fp32, oneDNN"] = lambda: linear(a, a, None, "none", [], "")
    times = {name: min(values) for name, values in interleaved(calls, 60, seconds).items()}
    best = min(times["fp32"], times.get("fp32, oneDNN", times["fp32"]))
    return {
        "fp32": 2 * size**3 / best,
        "bf16": 2 * size**3 / times["bf16"],
        "bandwidth": 2 * source.nbytes / times["bandwidth"],
    }


class Others:
    """What other processes do meanwhile, in cores: a with statement around what is measured.

    ``found`` has the load averages before and after, ``others``, and whether that is ``busy``;
    where the system does not say, None.
    """

    def __enter__(self) -> "Others":
        self._start = _load(), time.perf_counter(), _used()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before, begin, used = self._start
        now, others = _used(), None
        if used is not None and now is not None:
            others = max(0.0, (now - used) / (time.perf_counter() - begin))
        self.found = {
            "load_before": before,
            "load_after": _load(),
            "others": None if others is None else round(others, 3),
            "busy": None if others is None else others > BUSY,
        }


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _used() -> float | None:
    """Seconds of processor time that all processes but this one have used since the start."""
    try:
        user, nice, system, _, _, interrupts, soft, *_ = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        )
    except (OSError, ValueError):
        return None
    own = os.times()
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft) / ticks - own.user - own.system
