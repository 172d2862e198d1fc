"""Comparisons that figures can decide: one side of a table against another, or against a level.

Each side is represented by its best setting, the one with the best mean validation figure, as
whoever tunes a rate would choose it; the effect is the difference of the two settings' test
figures, seed by seed. How far it depends on that choice is told by the pairs: networks that differ
in nothing but what is compared. The paper's printed figures pass through the same comparisons; they
come without an interval.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isclose
from statistics import mean

import numpy as np

from recdrop.study import items, paper, results, tables

SETTING = ("scheme", "rate", "per", "forward")
MARGINS = {1: 0.0, 2: 1.0, 3: 0.01, 4: 0.1}
"""By table, in its unit: networks that differ by less count as alike."""
SEEDS = 3
"""With fewer there is no verdict."""
RESAMPLES, LEVEL = 10_000, 0.95

BETTER, NO_BETTER, AT_LEAST, ALIKE = RELATIONS = (
    "better than", "no better than", "at least as good as", "as good as",
)  # fmt: skip
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class Comparison:
    """``left`` is ``better than`` ``right``, or another of RELATIONS."""

    left: dict
    right: dict
    relation: str = BETTER

    def __str__(self) -> str:
        return f"{_words(self.left)} {self.relation} {_words(self.right)}"

    @property
    def sides(self) -> tuple[dict, ...]:
        return self.left, self.right


@dataclass(frozen=True)
class Level:
    """The ``figure`` of ``side`` lies ``above`` or ``below`` a value."""

    side: dict
    figure: str
    relation: str
    value: float

    def __str__(self) -> str:
        return f"{_words(self.side)}: {self.figure} {self.relation} {self.value:g}"

    @property
    def sides(self) -> tuple[dict, ...]:
        return (self.side,)


@dataclass(frozen=True)
class Finding:
    """How much better left was, in the table's unit; negative where right was better.

    ``gains`` are those of each seed that both sides have; of ``pairs``, left is better in ``held``.
    ``missing`` settings of the paper's grid have fewer than SEEDS seeds on one of the sides.
    ``over_items`` is the interval over test items, for one seed alone.
    """

    gains: tuple[float, ...] = ()
    held: int = 0
    pairs: int = 0
    missing: int = 0
    over_items: tuple[float, float] | None = None

    @property
    def effect(self) -> float | None:
        """The mean gain, None where a side has not been run."""
        return mean(self.gains) if self.gains else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % of the means of seeds drawn with replacement; for one seed, of the gains in test
        items drawn with replacement, or None where they were not kept."""
        return bootstrap(self.gains) or self.over_items

    @property
    def drawn(self) -> str | None:
        """What the interval is drawn from: ``"seeds"``, ``"test items"``, None without one."""
        return "seeds" if len(self.gains) > 1 else "test items" if self.over_items else None

    def verdict(self, relation: str, margin: float) -> str:
        """``supported``, ``contradicted``, or ``undecided``, at the 95 % level.

        Both the bootstrap's interval and Student's must lie on one side. The bootstrap alone would
        be rash: three seeds of one sign give an interval without 0, which one time in four is
        chance.

        Args:
            relation: one of RELATIONS, or of a :class:`Level`, whose margin is 0.
            margin: how far networks may lie apart and still count as alike.
        """
        if len(self.gains) < SEEDS or self.missing:
            return UNDECIDED
        half = tables.interval(list(self.gains))
        student = self.effect - half, self.effect + half
        verdicts = {_verdict(*ends, relation, margin) for ends in (self.interval, student)}
        return verdicts.pop() if len(verdicts) == 1 else UNDECIDED


def _verdict(low: float, high: float, relation: str, margin: float) -> str:
    holds, fails = {
        BETTER: (low > 0, high < 0),
        NO_BETTER: (high < margin, low > margin),
        AT_LEAST: (low > -margin, high < -margin),
        ALIKE: (-margin < low and high < margin, low > margin or high < -margin),
    }.get(relation, (low > 0, high < 0))
    return SUPPORTED if holds else CONTRADICTED if fails else UNDECIDED


def bootstrap(gains: tuple[float, ...] | list[float]) -> tuple[float, float] | None:
    """The percentile interval of the mean (Efron, 1979), seeded; None for fewer than two values.

    >>> bootstrap([1.0, 2.0, 3.0])
    (1.0, 3.0)
    """
    if len(gains) < 2:
        return None
    draws = np.random.default_rng(0).choice(np.asarray(gains), (RESAMPLES, len(gains)))
    return _middle(draws.mean(1))


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def compare(comparison: Comparison | Level, networks: list[dict], table: int) -> Finding:
    """Decide a comparison.

    Args:
        comparison: what is set against what.
        networks: scheme, rate, per, forward, seed and the figures of each: ``valid`` and ``test``,
            in Table 1 ``train`` and ``test``.
        table: of the paper; perplexities and bits are better lower, accuracies and F1 higher.
    """
    sides = [
        _by_setting([n for n in networks if side.items() <= n.items()]) for side in comparison.sides
    ]
    if not all(sides):
        return Finding()
    if isinstance(comparison, Level):
        found = _level(comparison, sides[0], table)
    else:
        found = _difference(comparison, *sides, table)
    return replace(found, missing=_missing(comparison, sides, table))


def _difference(comparison: Comparison, left: dict, right: dict, table: int) -> Finding:
    sign = 1 if table in (2, 3) else -1
    best_left, best_right = (
        min(side.values(), key=lambda seeds: sign * mean(_chosen_by(n) for n in seeds.values()))
        for side in (left, right)
    )
    seeds = sorted(best_left.keys() & best_right.keys())
    gains = [sign * (best_right[s]["test"] - best_left[s]["test"]) for s in seeds]
    if not gains:
        return Finding()
    fixed = comparison.left | comparison.right
    free = [i for i, key in enumerate(SETTING) if key not in fixed]
    if "none" in (comparison.left["scheme"], comparison.right["scheme"]):
        free = [i for i in free if SETTING[i] not in ("rate", "per")]  # it has neither
    pairs = [
        sign * (_mean(b) - _mean(a)) > 0
        for key, a in left.items()
        for other, b in right.items()
        if all(key[i] == other[i] for i in free)
    ]
    # Of Temporal Order is known how many answers were right, but not which: they have no pairs.
    paired = len(seeds) == 1 and table != 1
    drawn = _resampled([best_left[seeds[0]], best_right[seeds[0]]], table) if paired else None
    spread = None if drawn is None else _spread(sign * (drawn[1] - drawn[0]))
    return Finding(tuple(gains), sum(pairs), len(pairs), over_items=spread)


def _level(level: Level, side: dict, table: int) -> Finding:
    """By the setting that is worst for the level: a claim of all of them falls with one."""
    sign = -1 if level.relation == "below" else 1

    def far(seeds: dict[int, dict]) -> list[float]:
        return [sign * (n[level.figure] - level.value) for n in seeds.values()]

    worst = min(side.values(), key=lambda seeds: mean(far(seeds)))
    held = sum(mean(far(seeds)) > 0 for seeds in side.values())
    known = len(worst) == 1 and level.figure == "test"
    drawn = _resampled(list(worst.values()), table) if known else None
    spread = None if drawn is None else _spread(sign * (drawn[0] - level.value))
    return Finding(tuple(far(worst)), held, len(side), over_items=spread)


def _resampled(networks: list[dict], table: int) -> list[np.ndarray] | None:
    """The test figures of networks over items drawn with replacement, the same for all of them.

    None where a network's are not known, or are another's: a manifest may have been copied
    without them to where older ones lay.
    """
    task, found = paper.TASKS[table], []
    for n in networks:
        kept = n["items"]() if n.get("items") else None
        if kept is None or not isclose(items.figure(task, kept), n["test"], abs_tol=1e-3,
                                       rel_tol=1e-4):  # fmt: skip
            return None
        found.append(items.resampled(task, kept))
    return found


def _spread(values: np.ndarray) -> tuple[float, float] | None:
    """None where all are equal, as when every answer is right: that would be no interval."""
    return _middle(values) if np.ptp(values) else None


def _chosen_by(network: dict) -> float:
    return network.get("valid", network["test"])  # Table 1 has no validation


def _missing(comparison: Comparison | Level, sides: list[dict], table: int) -> int:
    """Settings of the paper's grid that a side lacks, or has too few seeds of.

    The best of few settings is worse than the best of many: a verdict from half a grid would say
    more of what was run than of the schemes. Schemes the paper did not combine have the grid of its
    own; lengths beyond its Table 1 have no other.
    """
    lacking = 0
    for wanted, side in zip(comparison.sides, sides, strict=True):
        like = wanted | {"scheme": wanted["scheme"].split("+")[0]}
        like.pop("span", None)
        for n in {_setting(n): n for n in papers(table) if like.items() <= n.items()}.values():
            setting = _setting(n | {"scheme": wanted["scheme"]})
            seeds = [len(s) for key, s in side.items() if key[: len(setting)] == setting]
            lacking += max(seeds, default=0) < SEEDS
    return lacking


def _setting(network: dict) -> tuple:
    return tuple(network[key] for key in SETTING)


def _by_setting(networks: list[dict]) -> dict[tuple, dict[int, dict]]:
    """Networks by setting and length, then by seed; those of stray settings, with fewer seeds than
    others and than a verdict takes, not."""
    found: dict[tuple, dict[int, dict]] = {}
    for n in networks:
        found.setdefault((*_setting(n), n.get("length")), {})[n["seed"]] = n
    most = max(map(len, found.values()), default=0)
    enough = min(most, SEEDS)
    return {setting: seeds for setting, seeds in found.items() if len(seeds) >= enough}


def _mean(seeds: dict[int, dict]) -> float:
    return mean(n["test"] for n in seeds.values())


def manifests(results_dir: str | os.PathLike) -> list[dict]:
    """Those of LSTMs under Eq. 3, as in the paper, with those that are in none of its tables."""
    return [
        m | {"items": items.find(results_dir, m["name"])}
        for m in results.read_everything(results_dir)
        if m["condition"]["scaling"] == "paper" and "cell" not in m["condition"]["settings"]
    ]


def ours(table: int, found: list[dict], protocol: str) -> list[dict]:
    """The networks of a table and protocol among :func:`manifests`.

    In Table 1 with the figures of the last epoch, else with those of the epoch that was best in
    validation; accuracies and F1 in %.

    Raises:
        ValueError: networks of one protocol have different settings; one is named.
    """
    factor = 1 if table in (2, 3) else 100
    which, figures = ("last", ("train", "test")) if table == 1 else ("best", ("valid", "test"))
    networks, recipe = [], None
    for m in found:
        c = m["condition"]
        if (c["task"], m["protocol"], m["status"]) == (paper.TASKS[table], protocol, "finished"):
            settings = {k: v for k, v in c["settings"].items() if k != "length"}
            if settings != (recipe := recipe or settings):
                raise ValueError(
                    f"{m['name']} is of protocol {protocol!r} with other settings than those "
                    "before it; move those that are not meant to another folder"
                )
            network = {k: c[k] for k in (*SETTING, "seed")}
            network |= {k: factor * m["final"][which][k] for k in figures}
            network |= {"items": _items(m)} | _span(c["settings"].get("length"))
            networks.append(network)
    return networks


def _items(manifest: dict) -> Callable[[], np.ndarray] | None:
    """What gives a network's test items, None where they are not known."""
    if manifest["condition"]["task"] == "temporal_order":
        count = manifest["condition"]["settings"]["test"]
        return partial(items.of_accuracy, manifest["final"]["last"]["test"], count)
    path = manifest.get("items")
    return partial(items.load, path) if path else None


def papers(table: int) -> list[dict]:
    """The same from the paper's printed figures, as if of one seed."""
    found = {}
    for row in paper.table(table):
        setting = {k: row[k] for k in SETTING}
        if not row["rate"]:
            setting |= {"scheme": "none", "per": "none"}
        setting |= _span(row.get("length"))
        figures = {k.removeprefix("paper_"): v for k, v in row.items() if k.startswith("paper_")}
        found.setdefault(tuple(setting.values()), setting | {"seed": 0} | figures)
    return list(found.values())


SPANS = {15: "short", 30: "medium"}


def _span(length: int | None) -> dict:
    """Table 1's name for a length; those beyond it are ``longer``."""
    if length is None:
        return {}
    span = SPANS.get(length, "longer" if length > max(SPANS) else "other")
    return {"length": length, "span": span}


NAMES = {"semeniuta": "own", "gal": "Gal", "moon": "Moon", "none": "no recurrent dropout"}


def _words(side: dict) -> str:
    words = [" + ".join(NAMES[s] for s in side["scheme"].split("+"))]
    words += [f"{side['rate']:g}"] if "rate" in side else []
    words += [f"per {side['per']}"] if "per" in side else []
    words += [f"on {side['span']} sequences"] if "span" in side else []
    if "forward" in side:
        words += ["with forward dropout" if side["forward"] else "without forward dropout"]
    return " ".join(words)
