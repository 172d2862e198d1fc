"""What the paper left untested: schemes combined, sequences longer than trained, where Moon's
failure sets in. Its networks lie in a folder of their own: they are in no table of the paper.
"""

import os
from dataclasses import replace
from pathlib import Path

from recdrop.study import memory, run
from recdrop.study.comparisons import BEYOND
from recdrop.study.conditions import grid
from recdrop.study.parameters import Parameters
from recdrop.study.training import train
from recdrop.tasks.temporal_order import TemporalOrder

LONGER = (15, 21, 30, 45, 60, 90, 120)
"""Lengths at which networks trained at 15 symbols are tested."""
LEARNED = 0.9
"""Training accuracy from which a network counts as having learned its task."""
HALFWAY = (1 + 0.25) / 2
"""Between a perfect accuracy and chance."""


def apart(p: Parameters) -> Parameters:
    """The same parameters with the results in this chapter's folder."""
    return replace(p, results_dir=str(Path(p.results_dir) / BEYOND))


def longer(p: Parameters) -> list[dict]:
    """Chapter 2's networks: every scheme at 15 symbols, their weights beside the manifests."""
    return run.temporal_order(replace(p, lengths=[LONGER[0]], forward=[False]))


def accuracies(
    manifests: list[dict], results_dir: str | os.PathLike, lengths: tuple[int, ...] = LONGER
) -> dict[str, list[float]]:
    """By the name of a manifest, its network's accuracy in evaluation at each length."""
    return {
        m["name"]: [
            memory.accuracy(memory.network(m, results_dir), length, masked=False)
            for length in lengths
        ]
        for m in manifests
    }


def fading(p: Parameters) -> list[dict]:
    """Moon's per sequence at each of ``p.lengths`` and ``p.fading_rates``; and without dropout,
    which tells lengths that the recipe does not learn from memories that fade.
    """
    found = []
    for length in p.lengths:
        task = TemporalOrder(p.profile, length)
        task.keeps_weights = False  # nobody looks into these, and they are many
        conditions = grid(
            task.name, task.settings, ["moon"], [0.0, *p.fading_rates], ["sequence"], seeds=p.seeds
        )
        found += train(task, conditions, p.results_dir, p.fresh, at_once=p.at_once, device=p.device)
    return found


def factors(length: int) -> float:
    """How often evaluation scales the first symbol's trace, in the mean over sequences.

    The symbol stands anywhere in the first third; Eq. 13 counts from its own step to the last one.

    >>> factors(15)
    13.0
    """
    return length - (length // 3 - 1) / 2


def left(rate: float, length: int) -> float:
    """Eq. 13: what evaluation leaves of the first symbol's trace, with all gates open.

    >>> left(0.5, 9)
    0.00390625
    """
    return (1 - rate) ** factors(length)
