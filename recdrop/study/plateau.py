"""How long Temporal Order's networks guess before they begin to learn, and what tells it.

Gradients have little to work on where gates and masks bring next to nothing of a symbol to the end
of the sequence. So what reaches the end, and how much an update can change that, is measured in
the *untrained* network, and gives the epochs that it will spend at chance.
"""

import itertools
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import geometric_mean
from types import MappingProxyType

import torch
from torch import Tensor

from recdrop.data.temporal_order import CLASSES, sequences
from recdrop.study import memory, results, tables
from recdrop.study.conditions import Condition, grid
from recdrop.tasks.temporal_order import Classifier, TemporalOrder

BEGUN = 0.5
"""Training accuracy, twice that of guessing, from which a network has begun to learn."""

Kept = Mapping[str, Mapping[str, float]]
"""By :func:`setting` its ``trace``, ``sensitivity`` and, if it was, ``followed`` in epochs."""
NOTHING: Kept = MappingProxyType({})


def measure(condition: Condition, count: int = 600) -> tuple[float, float]:
    """What the untrained network's last state has of the last A or B, in the mean over masks.

    The trace ``u``, the length of ``E[h(B) - h(A)]`` (H,) over sequences that differ in that symbol
    alone, which stands at each place of the second third equally often; and its sensitivity, the
    squared length of the gradient of ``log u`` with respect to the layer's weights. Masks that are
    drawn anew at each step are independent, and weights still small, so evaluation (Eq. 3) has
    their mean; masks of a sequence are drawn, the same for A and for B.
    """
    network = _untrained(condition)
    trace = _change(network, condition, count, condition.seed).norm()
    gradients = torch.autograd.grad(trace.log(), _trained(network))
    return trace.item(), _square(gradients)


def _untrained(condition: Condition) -> Classifier:
    s = condition.settings
    task = TemporalOrder(s, s["length"])
    network = task.network(condition.recurrent_dropout, condition.forward, condition.seed).double()
    return network.train(condition.per == "sequence")


def _trained(network: Classifier) -> list[Tensor]:
    return [v for v in network.recurrent.parameters() if v.requires_grad]


def _square(tensors: Iterable[Tensor]) -> float:
    return sum(v.square().sum().item() for v in tensors)


def _change(network: Classifier, condition: Condition, count: int, seed: int) -> Tensor:
    """``E[h(B) - h(A)]`` (H,) over ``count`` sequences and their masks, drawn from ``seed``."""
    length = condition.settings["length"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, _ = sequences(count, length)  # (T, count): A and B are 0 and 1
        third = length // 3
        x[third : 2 * third].clamp_(min=2)
        place = (third + torch.arange(count) % third).unsqueeze(0)
        a, b = (x.scatter(0, place, symbol) for symbol in (0, 1))
        # Without masks at once; else one after the other, under the same.
        states = []
        for batch in (a, b) if network.training else (torch.cat([a, b], 1),):
            torch.manual_seed(seed)
            states.append(network.recurrent(network.one_hot(batch))[0][-1])
    h_a, h_b = torch.cat(states).chunk(2)
    return (h_b - h_a).mean(0)


def updates_at_chance(trace: float, sensitivity: float, lr: float) -> float:
    """After how many updates of gradient descent read-out and trace have made each other grow.

    While all classes have the same probability, the mean gradient of the cross-entropy leaves, for
    the read-out ``r`` along the trace ``u`` and a sensitivity ``k`` that stays as it is,

        dr/dt = lr u / 2,    du/dt = lr k r u**2 / 8,    r(0) = 0,

    so ``u = u(0) exp(k r**2 / 8)``, and both leave all bounds at ``2 sqrt(2 pi / k) / (lr u(0))``.
    """
    return 2 * math.sqrt(2 * math.pi / sensitivity) / (lr * trace)


def fading(
    network: Classifier, condition: Condition, w: Tensor, seed: int, count: int = 4
) -> Tensor:
    """What the noise of batches takes with each update from a difference ``w`` (H,) of the
    read-out's rows while a network guesses.

    A sequence's gradient then has the loss's curvature for its covariance, so with batches of N the
    layer's weights jitter until the mean loss lies higher by lr / (4 N) times the sum of the
    curvature's eigenvalues. They have ``E |d(w_k - mean(w)) h|**2 / 4``, summed over rows, of it:
    by ``J`` (H, weights), the gradients of the last state ``h``, it pulls ``w`` back by
    ``lr**2 / (8 N) E[J J'] w``. The
    mean is over ``count`` sequences and masks, drawn from ``seed``; ``J J' w`` is the change of
    ``h`` along the gradient of ``w h``, and taken as a difference.
    """
    s, weights, mode = condition.settings, _trained(network), network.training
    network.train()

    def last(n: int) -> Tensor:
        torch.manual_seed(masks[n])  # the same each time
        return network.recurrent(network.one_hot(x[:, n : n + 1]))[0][-1, 0]

    total = torch.zeros_like(w)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x, _ = sequences(count, s["length"])
        masks = torch.randint(2**31, (count,)).tolist()
        for n in range(count):
            along = torch.autograd.grad(last(n) @ w, weights)
            step = 1e-3 / math.sqrt(_square(along))
            with torch.no_grad():
                torch._foreach_add_(weights, along, alpha=step)
                total += last(n) / (2 * step)
                torch._foreach_add_(weights, along, alpha=-2 * step)
                total -= last(n) / (2 * step)
                torch._foreach_add_(weights, along, alpha=step)
    network.train(mode)
    return s["lr"] ** 2 / (8 * s["batch"]) * total / count


def followed(condition: Condition, step: float = 0.3) -> float:
    """The same number of updates, from equations of which :func:`updates_at_chance` solves the
    simplest case.

    They are followed, by the midpoint rule, from the untrained read-out ``w`` (H,), its rows for
    the classes that end in B less the others, and from the layer's weights ``p`` as they change,

        dw/dt = lr v / 2 - fading(w),    dp/dt = lr / 8 d(w v)/dp,    v = E[h(B) - h(A)] (H,),

    until ``w v = 1``. Left out is that probabilities move, and what noise does to the layer's own
    weights. In ``v`` masks of steps are in their mean. Sequences, masks of sequences and what fades
    are a few draws, new ones whenever slopes are taken: the many steps take the mean.
    """
    lr, length = condition.settings["lr"], condition.settings["length"]
    count = 20 if condition.per == "sequence" else length // 3
    network = _untrained(condition)
    weights = _trained(network)
    signs = torch.tensor([1.0 if name[1] == "B" else -1.0 for name in CLASSES]).double()
    w = (signs @ network.readout.weight).detach()
    updates = time = before = 0.0
    # Always the same few would leave w a way around what they tell.
    draws = itertools.count(10**6 * condition.seed)

    def slopes() -> tuple[Tensor, list[Tensor], float, float]:
        """dw/dt, dp/dt, ``w v``, and its relative change."""
        seed = next(draws)
        v = _change(network, condition, count, seed)
        dp = [lr / 8 * g for g in torch.autograd.grad(w @ v, weights)]
        v, fades = v.detach(), fading(network, condition, w, seed)
        product = v.norm() * w.norm()
        # Each part counts, whatever its sign: time steps are to follow all of them.
        rate = (lr / 2 * v @ v + 8 / lr * _square(dp)) / product + fades.norm() / w.norm()
        return lr / 2 * v - fades, dp, (w @ v).item(), rate.item()

    @torch.no_grad()
    def move(to_w: Tensor, to_weights: list[Tensor], time: float) -> None:
        w.add_(to_w, alpha=time)
        torch._foreach_add_(weights, to_weights, alpha=time)

    dw, dp, signal, rate = slopes()
    while signal < 1:
        time = step / rate  # nothing changes by more than a share
        move(dw, dp, time / 2)
        mid_w, mid_p, *_ = slopes()
        move(dw, dp, -time / 2)
        move(mid_w, mid_p, time)
        updates, before = updates + time, signal
        dw, dp, signal, rate = slopes()
    return updates - time * (signal - 1) / (signal - before)


def plateau(manifest: dict) -> int | None:
    """The epoch in which a network has begun to learn, counted from 1; None if it never has."""
    found = (e["epoch"] for e in manifest["curve"] if (e["train"] or 0) >= BEGUN)
    return next(found, None)


@dataclass(frozen=True)
class Start:
    """The networks of one setting, of all seeds: what was measured of them untrained, the epochs
    that this lets one expect at chance (``followed`` of the first seed alone, and None where it is
    not known), and those that they spent there."""

    scheme: str
    rate: float
    per: str
    scaling: str
    length: int
    trace: float
    sensitivity: float
    expected: float
    followed: float | None
    epochs: tuple[int, ...] = ()
    precision: str = "fp32"

    @property
    def label(self) -> str:
        kind = f"{self.scheme} {self.rate:g} per {self.per}" if self.rate else "none"
        kind += ", Eq. 14" * self.is_scaled
        return kind if self.precision == "fp32" else f"{kind}, {self.precision}"

    @property
    def longer(self) -> float:
        """By what share its networks guess longer than expected, in the geometric mean."""
        return geometric_mean(self.epochs) / self.expected - 1

    @property
    def is_scaled(self) -> bool:
        """Whether kept units are scaled in training."""
        return self.scaling == "inverted"


def published(results_dir: str | os.PathLike) -> list[dict]:
    """The LSTMs of Table 1's recipe that a folder has: of any length, scheme and scaling, and of
    operands in float32 or bfloat16."""
    return [
        m
        for m in results.read_everything(results_dir)
        if m["condition"]["task"] == "temporal_order"
        and m["protocol"] in ("paper", "paper-bf16")
        and "cell" not in m["condition"]["settings"]
    ]


def setting(c: Condition) -> str:
    """The untrained network's name, of whatever precision it will be trained in."""
    per, length = f"per {c.per}", c.settings["length"]
    return f"{c.scheme} {c.rate:g} {per}, {c.scaling}, {length} symbols, seed {c.seed}"


def measured(c: Condition, kept: Kept) -> tuple[float, float]:
    """Trace and sensitivity, measured unless they are kept."""
    known = kept.get(setting(c), {})
    return (known["trace"], known["sensitivity"]) if "trace" in known else measure(c)


def start(
    conditions: Iterable[Condition], epochs: Iterable[int] = (), kept: Kept = NOTHING
) -> Start:
    """Of networks that differ in their seeds alone; what is measured in the geometric mean."""
    conditions = list(conditions)
    first, s = conditions[0], conditions[0].settings
    found = [measured(c, kept) for c in conditions]
    expected = [updates_at_chance(*m, s["lr"]) / s["batches"] for m in found]
    means = [geometric_mean(v) for v in (*zip(*found, strict=True), expected)]
    known = first.scheme, first.rate, first.per, first.scaling, s["length"]
    fully = kept.get(setting(first), {}).get("followed")
    return Start(*known, *means, fully, tuple(sorted(epochs)), _precision(first))


def _precision(c: Condition) -> str:
    return c.settings.get("precision", "fp32")


def starts(manifests: Iterable[dict], kept: Kept = NOTHING) -> list[Start]:
    """By setting; of networks that have begun to learn. ``kept`` has what is known by
    :func:`setting`: see :mod:`recdrop.study.expected`."""
    return [start(*zip(*mine, strict=True), kept=kept) for mine in _begun(manifests)]


def _begun(manifests: Iterable[dict]) -> list[list[tuple[Condition, int]]]:
    """The conditions of each setting, by seed, with the epochs that they spent at chance."""
    found: dict[tuple, list[tuple[Condition, int]]] = {}
    for m in manifests:
        c, epochs = memory.condition(m), plateau(m)
        if epochs is not None:
            key = c.scheme, c.rate, c.per, c.scaling, c.settings["length"], _precision(c) != "fp32"
            found.setdefault(key, []).append((c, epochs))
    return [sorted(mine, key=lambda pair: pair[0].seed) for _, mine in sorted(found.items())]


def missing(known: Iterable[Start], kept: Kept = NOTHING) -> list[Start]:
    """Settings of Table 1 that are known in neither precision, without epochs."""
    have = {(s.scheme, s.rate, s.per, s.length) for s in known if not s.is_scaled}
    return [
        start([c], kept=kept)
        for c in _of_table_1()
        if (c.scheme, c.rate, c.per, c.settings["length"]) not in have
    ]


def _of_table_1() -> list[Condition]:
    return [
        c
        for length in (15, 30)
        for c in grid("temporal_order", TemporalOrder("paper", length).settings,
                      ["gal", "semeniuta", "moon"], [0.5])
    ]  # fmt: skip


def to_measure(manifests: Iterable[dict]) -> list[Condition]:
    """The networks that have begun to learn, of any precision, and the first ones of Table 1."""
    begun = [c for mine in _begun(manifests) for c, _ in mine]
    return list({setting(c): c for c in begun + _of_table_1()}.values())


def to_follow(manifests: Iterable[dict], kept: Kept = NOTHING) -> list[Condition]:
    """The first seed of each setting that has begun to learn, and of those of Table 1, but where
    the formula alone exceeds the budget: there it would take an hour."""
    firsts = [mine[0][0] for mine in _begun(manifests)] + _of_table_1()
    return [c for c in firsts if _is_within(c, kept)]


def _is_within(c: Condition, kept: Kept) -> bool:
    s = c.settings
    return updates_at_chance(*measured(c, kept), s["lr"]) <= s["epochs"] * s["batches"]


def table(starts: list[Start]) -> str:
    """A Markdown table: a setting in a row, the longest trace first; expected epochs rounded where
    there is nothing to set them beside."""
    rows = []
    for s in sorted(starts, key=lambda s: -s.trace):
        expected = s.expected if s.epochs else float(f"{s.expected:.2g}")
        trace = f"{s.trace:.1e}".replace("-", "−")  # a hyphen would break the line
        rows.append([
            s.label, str(s.length), trace, f"{s.sensitivity:.0f}", f"{expected:,.0f}",
            "–" if s.followed is None else f"{s.followed:,.0f}",
            ", ".join(f"{e:,}" for e in s.epochs) or "not yet run",
            f"{100 * s.longer:.0f} %" if s.epochs else "–",
        ])  # fmt: skip
    columns = ["scheme", "symbols", "trace", "sensitivity", "t*", "followed", "epochs at chance"]
    columns += ["longer than t*"]
    return tables.of(columns, rows)
