"""A study in slices of time: tables of networks, each as large as a given wall time lets finish.

Where a machine is lent for minutes, results should come back from each of them. So the networks
that are left are divided into chunks that will finish, by the pace of the first few updates. What
would not finish in the time that remains is begun all the same, up to a checkpoint, from which the
next slice goes on if it is given the folder with its checkpoints.
"""

import math
import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from recdrop.study import chunks, precision, results
from recdrop.study.conditions import Condition
from recdrop.study.replicas import Replicas
from recdrop.study.training import OutOfTime, begun, train

MARGIN = 1.25
"""An estimate of the remaining time is multiplied by it: epochs are evaluated, too."""
RATHER_STOP = 0.1
"""Of the budget: with less time left than this nothing new is begun."""
TRIAL = 6
"""Updates from which the pace is read, after as many that warm up."""


class Work(NamedTuple):
    """Networks of one task that are wanted."""

    task: object
    conditions: list[Condition]


class Outcome(NamedTuple):
    """What a slice has done: networks wanted, finished now or before, and seconds taken."""

    wanted: int
    finished: int
    seconds: float

    def __str__(self) -> str:
        left = self.wanted - self.finished
        rest = f"; {left} are left, run it again for them" if left else ""
        return f"{self.finished} of {self.wanted} networks finished in {self.seconds:.0f} s{rest}."


def run(
    works: list[Work],
    results_dir: str | os.PathLike,
    device: str = "cpu",
    budget: float | None = None,
    at_once: int | None = None,
    progress: bool = True,
    say: Callable = lambda text: print(text, file=sys.stderr),
) -> Outcome:
    """Train the networks that have no manifest yet; with a ``budget`` of seconds, as far as it
    lasts: first what was interrupted, as a table of the same size, then chunks that will finish,
    then as many as would in a whole budget, up to a checkpoint.

    At its end an epoch's evaluation is not broken off. Two processes at a time that are to train
    the same networks would go on from the same checkpoints: results stay right, time is lost.

    Args:
        at_once: networks in one chunk at most.
    """
    chunks.check(at_once)
    start = time.monotonic()
    end = math.inf if budget is None else start + budget

    def go(task, some: list[Condition], together: int | None) -> None:
        train(task, some, results_dir, False, progress, together, device=device, until=end)

    def without_result(conditions: list[Condition]) -> list[Condition]:
        return [c for c in conditions if results.read(results_dir, c) is None]

    try:
        if budget is None:
            for task, conditions in works:
                go(task, conditions, at_once)
            return _outcome(works, results_dir, start)
        for task, conditions in works:
            for some in begun(results_dir, conditions):
                if todo := without_result(some):
                    say(f"{task.label}: {len(todo)} networks go on from their checkpoint")
                go(task, some, len(some))
        for fully in (True, False):
            for task, conditions in works:
                while todo := without_result(conditions):
                    left = end - time.monotonic()
                    if left < RATHER_STOP * budget:
                        raise OutOfTime
                    size = _fitting(task, todo, device, left if fully else budget, at_once)
                    if fully and not size:
                        break
                    size = max(1, size)
                    kind = "networks in" if fully else "networks, up to a checkpoint, in"
                    say(f"{task.label}: {size} of {len(todo)} {kind} the {left:.0f} s left")
                    go(task, todo[:size], size)
    except OutOfTime:
        pass
    return _outcome(works, results_dir, start)


def _outcome(works: list[Work], results_dir: str | os.PathLike, start: float) -> Outcome:
    wanted = [c for work in works for c in work.conditions]
    finished = sum(results.read(results_dir, c) is not None for c in wanted)
    return Outcome(len(wanted), finished, time.monotonic() - start)


def _fitting(task, todo: list[Condition], device: str, seconds: float, at_once: int | None) -> int:
    """How many networks will all have finished in so many seconds.

    The time of an update is taken as linear in the number of networks, measured at both ends.
    """
    first = todo[0]
    network = task.network(first.recurrent_dropout, first.forward, first.seed)
    most = min(len(todo), chunks.fitting(task, network, device), at_once or len(todo))
    updates = task.settings["epochs"] * task.updates_per_epoch * MARGIN
    one = pace(task, todo[:1], device)
    if one * updates > seconds:
        return 0
    many = pace(task, todo[:most], device) if most > 1 else one
    if many * updates <= seconds:
        return most
    each = max(0.0, (many - one) / max(1, most - 1))
    return 1 + int((seconds / updates - one) / each)


class _Enough(Exception):
    pass


def pace(task, conditions: list[Condition], device: str, updates: int = TRIAL) -> float:
    """Seconds that an update of these networks together takes; what it trains is thrown away."""
    s, times = task.settings, []
    networks = [task.network(c.recurrent_dropout, c.forward, c.seed) for c in conditions]
    names, seeds = [c.name for c in conditions], [c.seed for c in conditions]
    table = Replicas(networks, names, seeds, s["optimiser"], s["lr"], s["clip"], device)

    def tick(*_, **__) -> None:
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        if len(times) > 2 * updates:
            raise _Enough

    with precision.arithmetic(s, device), table:
        try:
            task.train_epoch(table.train(), 0, tick)
        except _Enough:
            pass
    if len(times) < 2:
        return 0.0
    warm = min(updates, len(times) - 2)
    return (times[-1] - times[warm]) / (len(times) - 1 - warm)
