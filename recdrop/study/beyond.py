"""What the paper left untested: schemes combined, sequences longer than trained, where Moon's
failure sets in. Its networks lie in a folder of their own: they are in no table of the paper.
"""

import math
import os
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch

from recdrop.data.temporal_order import sequences
from recdrop.study import memory, results, run, tables
from recdrop.study.conditions import grid
from recdrop.study.parameters import Parameters
from recdrop.study.results import BEYOND
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


@torch.no_grad()
def symbols(manifests: list[dict], results_dir: str | os.PathLike, count: int = 2000) -> str:
    """A Markdown table: of each trained network's answers in evaluation, in % of ``count`` fixed
    sequences, which have the class right, and which its first and its second symbol. One that
    diverged in its first epoch has none.
    """
    rows = []
    for m in (m for m in manifests if m["final"]["last"]):
        model = memory.network(m, results_dir)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            x, y = sequences(count, m["condition"]["settings"]["length"])
        found = model(x).argmax(-1)
        right = (found == y, found // 2 == y // 2, found % 2 == y % 2)  # classes are AA, AB, BA, BB
        shares = [f"{100 * r.float().mean():.0f}" for r in right]
        rows.append([tables.label(m), f"{100 * m['final']['last']['train']:.0f}", *shares])
    header = ["network", "class, with masks", "class", "first symbol", "second symbol"]
    return tables.of(header, rows)


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


def published(results_dir: str | os.PathLike) -> list[dict]:
    """The networks of :func:`fading` at the quick profile that a folder has."""
    folder = Path(results_dir) / BEYOND
    return [
        m
        for m in results.read_all(folder, "temporal_order")
        if m["protocol"] == "quick" and m["condition"]["scheme"] in ("moon", "none")
    ]


@dataclass(frozen=True)
class Cell:
    """Moon's networks of one length and rate: the test accuracies of those that learned.

    Of one that does not know its task with masks on, the test says nothing.
    """

    length: int
    rate: float
    test: tuple[float, ...]
    trained: int

    @property
    def learned(self) -> bool:
        return bool(self.test)


def cells(manifests: list[dict]) -> list[Cell]:
    """The networks of :func:`fading` by length and rate; those without dropout have the rate 0."""
    found: dict[tuple, list[dict]] = {}
    for m in manifests:
        c = m["condition"]
        found.setdefault((c["settings"]["length"], c["rate"]), []).append(m["final"]["last"])
    return [
        Cell(*key, tuple(e["test"] for e in mine if e and e["train"] >= LEARNED), len(mine))
        for key, mine in sorted(found.items())
    ]


def onset(cells: list[Cell], length: int) -> tuple[float, float] | None:
    """The rate at which the test accuracy of one length falls to HALFWAY, and what Eq. 13 leaves
    of a trace there; None where it does not, or where the task was not learned.

    Between two rates the accuracy is taken as linear in the logarithm of the trace.

    >>> known = [Cell(9, rate, (test,), 1) for rate, test in ((0.1, 1.0), (0.5, 0.25))]
    >>> round(onset(known, 9)[0], 2)
    0.33
    """
    mine = [c for c in cells if c.length == length and c.learned and c.rate]
    for before, after in pairwise(mine):
        high, low = mean(before.test), mean(after.test)
        if high > HALFWAY >= low:
            share = (high - HALFWAY) / (high - low)
            logs = [math.log(left(c.rate, length)) for c in (before, after)]
            trace = math.exp(logs[0] + share * (logs[1] - logs[0]))
            return 1 - trace ** (1 / factors(length)), trace
    return None


def onsets(manifests: list[dict]) -> str:
    """A Markdown table of :func:`fading`'s networks: by length, where Moon's failure sets in and
    what is left there, of the mean accuracy and of each seed's.
    """
    together = cells(manifests)
    seeds = sorted({m["condition"]["seed"] for m in manifests})
    apart = [cells([m for m in manifests if m["condition"]["seed"] == s]) for s in seeds]
    rows = []
    for length in sorted({c.length for c in together}):
        found = onset(together, length)
        figures = ["–", "–"] if found is None else [f"{found[0]:.2f}", f"{found[1]:.4f}"]
        traces = [onset(mine, length) for mine in apart]
        each = ", ".join("–" if t is None else f"{t[1]:.4f}" for t in traces)
        mine = [c for c in together if c.length == length and c.rate]
        count = f"{sum(len(c.test) for c in mine)} of {sum(c.trained for c in mine)}"
        rows.append([str(length), f"{factors(length):g}", count, *figures, each])
    learned = "networks that learned"
    header = ["symbols", "factors of q", learned, "rate at onset", "trace left", "by seed"]
    return tables.of(header, rows)
