"""Times that can be compared, and the memory that a call needs."""

import ctypes
import time
import warnings
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.profiler import ProfilerActivity, profile

PAUSE = 0.01


class Spread(NamedTuple):
    """A median between its quartiles."""

    low: float
    median: float
    high: float


def spread(values: list[float]) -> Spread:
    """
    >>> spread([1.0, 2.0, 3.0, 4.0, 100.0])
    Spread(low=2.0, median=3.0, high=4.0)
    """
    return Spread(*np.quantile(values, (0.25, 0.5, 0.75)).tolist())


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int = 15, seconds: float = 10.0
) -> dict[str, list[float]]:
    """Seconds of each call, round by round: all of them in turn, so that what disturbs the machine
    disturbs all alike. A pause before each lets the threads of the last one come to rest.

    A first round warms up and is left out. Rounds end after ``seconds``, but three are measured.
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, call in calls.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return times


def ratios(times: Mapping[str, list[float]], denominator: str) -> dict[str, Spread]:
    """Each call's time over the denominator's of the same round.

    >>> ratios({"a": [2.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0]}, "b")["a"]
    Spread(low=2.0, median=2.0, high=2.5)
    """
    base = np.array(times[denominator])
    return {name: spread((np.array(values) / base).tolist()) for name, values in times.items()}


def peak_allocated(call: Callable[[], object]) -> int:
    """The most bytes that torch's allocations of one call hold at once, its results included.

    Counted, not sampled: it does not depend on the machine's state. What was allocated before does
    not count, nor what other libraries allocate for themselves.
    """
    call()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            call()
    events = recorded.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate((n for _, n in changes), initial=0))


def peak_resident(call: Callable[[], object]) -> int | None:
    """By how many bytes one call makes the process grow at most, whoever allocates them.

    Linux says so; elsewhere None.
    """
    call()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else what an earlier call gave back would be taken again
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        call()
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError, TypeError):
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
