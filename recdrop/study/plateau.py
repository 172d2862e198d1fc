"""How long Temporal Order's networks guess before they begin to learn, and what tells it.

Gradients have nothing to work on where gates and masks bring nothing of a symbol to the end of the
sequence. So what reaches the end is measured in the *untrained* network, and set beside the epochs
that it then spends at chance.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import geometric_mean, linear_regression

import torch

from recdrop.data.temporal_order import sequences
from recdrop.study import comparisons, memory, tables
from recdrop.study.conditions import Condition, grid
from recdrop.tasks.temporal_order import TemporalOrder

BEGUN = 0.5
"""Training accuracy, twice that of guessing, from which a network has begun to learn."""


@torch.no_grad()
def trace(condition: Condition, count: int = 600) -> float:
    """What the untrained network's last state has of the last A or B, in the mean over masks.

    The length of ``E[h(B) - h(A)]`` (H,) over sequences that differ in that symbol alone, which
    stands at each place of the second third equally often. Masks that are drawn anew at each step
    are independent, and weights still small, so evaluation (Eq. 3) has their mean; masks of a
    sequence are drawn, the same for A and for B.
    """
    s = condition.settings
    task = TemporalOrder(s["protocol"], s["length"])
    network = task.network(condition.recurrent_dropout, condition.forward, condition.seed).double()
    network.train(condition.per == "sequence")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(condition.seed)
        x, _ = sequences(count, s["length"])  # (T, count): A and B are 0 and 1
        third = s["length"] // 3
        x[third : 2 * third].clamp_(min=2)
        place = (third + torch.arange(count) % third).unsqueeze(0)
        states = []
        for symbol in (0, 1):
            torch.manual_seed(condition.seed)  # of the masks
            states.append(network.recurrent(network.one_hot(x.scatter(0, place, symbol)))[0][-1])
    return float((states[1] - states[0]).mean(0).norm())


def plateau(manifest: dict) -> int | None:
    """The epoch in which a network has begun to learn, counted from 1; None if it never has."""
    found = (e["epoch"] for e in manifest["curve"] if (e["train"] or 0) >= BEGUN)
    return next(found, None)


@dataclass(frozen=True)
class Start:
    """The networks of one setting, of all seeds: their trace and the epochs of their plateaus."""

    scheme: str
    rate: float
    per: str
    length: int
    trace: float
    epochs: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.scheme} {self.rate:g} per {self.per}" if self.rate else "none"


def published(results_dir: str | os.PathLike) -> list[dict]:
    """The LSTMs of Table 1's recipe, of any length and scheme, that a folder has."""
    return [
        m
        for m in comparisons.manifests(results_dir)
        if (m["condition"]["task"], m["protocol"]) == ("temporal_order", "paper")
    ]


def starts(manifests: Iterable[dict]) -> list[Start]:
    """By setting; of networks that have begun to learn."""
    found: dict[tuple, list[tuple[float, int]]] = {}
    for m in manifests:
        c, epochs = memory.condition(m), plateau(m)
        if epochs is not None:
            key = (c.scheme, c.rate, c.per, c.settings["length"])
            found.setdefault(key, []).append((trace(c), epochs))
    return [
        Start(*key, geometric_mean(t for t, _ in mine), tuple(sorted(e for _, e in mine)))
        for key, mine in sorted(found.items())
    ]


def missing(known: Iterable[Start]) -> list[Start]:
    """Settings of Table 1 that are not among the known ones, without epochs."""
    have = {(s.scheme, s.rate, s.per, s.length) for s in known}
    found = []
    for length in (15, 30):
        settings = TemporalOrder("paper", length).settings
        for c in grid("temporal_order", settings, ["gal", "semeniuta", "moon"], [0.5]):
            key = (c.scheme, c.rate, c.per, length)
            found += [] if key in have else [Start(*key, trace(c))]
    return found


@dataclass(frozen=True)
class Law:
    """``epochs = scale * trace ** -power``."""

    power: float
    scale: float

    def __call__(self, trace: float) -> float:
        return self.scale * trace**-self.power


def law(known: Iterable[Start]) -> Law:
    """The line that is nearest in logarithms, by least squares; a setting counts once.

    >>> law([Start("gal", 0.5, "step", 9, 0.1, (3,)), Start("gal", 0.5, "step", 15, 0.01, (30,))])
    Law(power=1.0, scale=0.3)
    """
    points = [(math.log(s.trace), math.log(geometric_mean(s.epochs))) for s in known]
    slope, intercept = linear_regression(*zip(*points, strict=True))
    return Law(round(-slope, 10), round(math.exp(intercept), 10))


def table(known: list[Start], law: Law) -> str:
    """A Markdown table: a setting in a row, the longest trace first, the plateaus of its seeds and
    what the law has for it; rounded where there is nothing to set it beside."""
    rows = []
    for s in sorted(known, key=lambda s: -s.trace):
        epochs = ", ".join(map(str, s.epochs)) or "not yet run"
        trace = f"{s.trace:.1e}" if s.epochs else f"{s.trace:.0e}"
        expected = law(s.trace) if s.epochs else float(f"{law(s.trace):.2g}")
        rows.append([s.label, str(s.length), trace, epochs, f"{expected:,.0f}"])
    return tables.of(["scheme", "symbols", "trace", "epochs at chance", "by the law"], rows)
