"""How long Temporal Order's networks guess before they begin to learn, and what tells it.

Gradients have little to work on where gates and masks bring next to nothing of a symbol to the end
of the sequence. So what reaches the end, and how much an update can change that, is measured in
the *untrained* network, and gives the epochs that it will spend at chance.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import geometric_mean

import torch

from recdrop.data.temporal_order import sequences
from recdrop.study import comparisons, memory, tables
from recdrop.study.conditions import Condition, grid
from recdrop.tasks.temporal_order import TemporalOrder

BEGUN = 0.5
"""Training accuracy, twice that of guessing, from which a network has begun to learn."""


def measure(condition: Condition, count: int = 600) -> tuple[float, float]:
    """What the untrained network's last state has of the last A or B, in the mean over masks.

    The trace ``u``, the length of ``E[h(B) - h(A)]`` (H,) over sequences that differ in that symbol
    alone, which stands at each place of the second third equally often; and its sensitivity, the
    squared length of the gradient of ``log u`` with respect to the layer's weights. Masks that are
    drawn anew at each step are independent, and weights still small, so evaluation (Eq. 3) has
    their mean; masks of a sequence are drawn, the same for A and for B.
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
    trace = (states[1] - states[0]).mean(0).norm()
    trained = [v for v in network.recurrent.parameters() if v.requires_grad]
    gradients = torch.autograd.grad(trace.log(), trained)
    return trace.item(), sum(v.square().sum().item() for v in gradients)


def updates_at_chance(trace: float, sensitivity: float, lr: float) -> float:
    """After how many updates of gradient descent read-out and trace have made each other grow.

    While all classes have the same probability, the mean gradient of the cross-entropy leaves, for
    the read-out ``r`` along the trace ``u`` and a sensitivity ``k`` that stays as it is,

        dr/dt = lr u / 2,    du/dt = lr k r u**2 / 8,    r(0) = 0,

    so ``u = u(0) exp(k r**2 / 8)``, and both leave all bounds at ``2 sqrt(2 pi / k) / (lr u(0))``.
    """
    return 2 * math.sqrt(2 * math.pi / sensitivity) / (lr * trace)


def plateau(manifest: dict) -> int | None:
    """The epoch in which a network has begun to learn, counted from 1; None if it never has."""
    found = (e["epoch"] for e in manifest["curve"] if (e["train"] or 0) >= BEGUN)
    return next(found, None)


@dataclass(frozen=True)
class Start:
    """The networks of one setting, of all seeds: what was measured of them untrained, the epochs
    that this lets one expect at chance, and those that they spent there."""

    scheme: str
    rate: float
    per: str
    length: int
    trace: float
    sensitivity: float
    expected: float
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


def start(conditions: Iterable[Condition], epochs: Iterable[int] = ()) -> Start:
    """Of networks that differ in their seeds alone; what is measured in the geometric mean."""
    conditions = list(conditions)
    first, s = conditions[0], conditions[0].settings
    measured = [measure(c) for c in conditions]
    expected = [updates_at_chance(*m, s["lr"]) / s["batches"] for m in measured]
    means = (geometric_mean(v) for v in (*zip(*measured, strict=True), expected))
    epochs = tuple(sorted(epochs))
    return Start(first.scheme, first.rate, first.per, s["length"], *means, epochs)


def starts(manifests: Iterable[dict]) -> list[Start]:
    """By setting; of networks that have begun to learn."""
    found: dict[tuple, list[tuple[Condition, int]]] = {}
    for m in manifests:
        c, epochs = memory.condition(m), plateau(m)
        if epochs is not None:
            key = (c.scheme, c.rate, c.per, c.settings["length"])
            found.setdefault(key, []).append((c, epochs))
    return [start(*zip(*mine, strict=True)) for _, mine in sorted(found.items())]


def missing(known: Iterable[Start]) -> list[Start]:
    """Settings of Table 1 that are not among the known ones, without epochs."""
    have = {(s.scheme, s.rate, s.per, s.length) for s in known}
    found = []
    for length in (15, 30):
        settings = TemporalOrder("paper", length).settings
        for c in grid("temporal_order", settings, ["gal", "semeniuta", "moon"], [0.5]):
            found += [] if (c.scheme, c.rate, c.per, length) in have else [start([c])]
    return found


def table(starts: list[Start]) -> str:
    """A Markdown table: a setting in a row, the longest trace first; expected epochs rounded where
    there is nothing to set them beside."""
    rows = []
    for s in sorted(starts, key=lambda s: -s.trace):
        expected, epochs, ratio = float(f"{s.expected:.2g}"), "not yet run", "–"
        if s.epochs:
            expected, epochs = s.expected, ", ".join(map(str, s.epochs))
            ratio = f"{geometric_mean(s.epochs) / s.expected:.2f}"
        measured = [f"{s.trace:.1e}", f"{s.sensitivity:.0f}"]
        rows.append([s.label, str(s.length), *measured, f"{expected:,.0f}", epochs, ratio])
    columns = ["scheme", "symbols", "trace", "sensitivity", "expected", "epochs at chance", "ratio"]
    return tables.of(columns, rows)
