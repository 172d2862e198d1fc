"""What the paper claims of its Tables 2 to 4, as comparisons that figures can decide.

A comparison sets the networks on its left against those on its right. Each side is represented by
its best setting, the one with the best mean validation figure, as whoever tunes a rate would choose
it; the gain is the difference of the two settings' test figures, seed by seed. How far it depends
on that choice is told by the pairs: networks that differ in nothing but what is compared. The
paper's printed figures pass through the same comparisons; they come without an interval.
"""

import os
from dataclasses import dataclass
from statistics import mean

from recdrop.study import paper, results, tables

SETTING = ("scheme", "rate", "per", "forward")
MARGINS = {2: 1.0, 3: 0.01, 4: 0.1}
"""By table, in its unit: networks that differ by less count as alike."""

NONE = {"scheme": "none"}
OWN, GAL, MOON = ({"scheme": s} for s in ("semeniuta", "gal", "moon"))
PLAIN, FORWARD = {"forward": False}, {"forward": True}
STEP, SEQUENCE = {"per": "step"}, {"per": "sequence"}


RELATIONS = ("better than", "no better than", "at least as good as", "as good as")


@dataclass(frozen=True)
class Comparison:
    """``left`` is ``better than`` ``right``, or another of RELATIONS."""

    left: dict
    right: dict
    relation: str = "better than"

    def __str__(self) -> str:
        return f"{_words(self.left)} {self.relation} {_words(self.right)}"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper; it holds where all its comparisons do."""

    number: int
    table: int
    text: str
    comparisons: tuple[Comparison, ...]


def _better(left: dict, *rights: dict) -> tuple[Comparison, ...]:
    return tuple(Comparison(left, right) for right in rights)


CLAIMS = (
    Claim(2, 2, "The own scheme beats Gal's and Moon's",
          (*_better(OWN | PLAIN, GAL | PLAIN, MOON | PLAIN),
           *_better(OWN | FORWARD, GAL | FORWARD, MOON | FORWARD))),
    Claim(3, 2, "Moon's is better per step than per sequence",
          (*_better(MOON | STEP | PLAIN, MOON | SEQUENCE | PLAIN),
           *_better(MOON | STEP | FORWARD, MOON | SEQUENCE | FORWARD))),
    Claim(4, 2, "The own scheme: step and sequence alike",
          (Comparison(OWN | STEP, OWN | SEQUENCE, "as good as"),)),
    Claim(5, 2, "Forward dropout alone beats any recurrent dropout alone",
          _better(NONE | FORWARD, OWN | PLAIN, GAL | PLAIN, MOON | PLAIN)),
    Claim(6, 2, "Own and Gal both help on top of forward dropout, own more",
          (*_better(OWN | FORWARD, NONE | FORWARD, GAL | FORWARD),
           *_better(GAL | FORWARD, NONE | FORWARD))),
    Claim(7, 3, "Recurrent dropout alone (own, Gal) beats forward dropout alone",
          (*_better(OWN | PLAIN, NONE | FORWARD), *_better(GAL | PLAIN, NONE | FORWARD))),
    Claim(8, 3, "Only the own scheme improves on forward dropout",
          (*_better(OWN | FORWARD, NONE | FORWARD), *_better(NONE | FORWARD, GAL | FORWARD),
           *_better(NONE | FORWARD, MOON | FORWARD))),
    Claim(9, 3, "Best of all: own, 0.25 per step without forward dropout",
          _better(OWN | STEP | PLAIN | {"rate": 0.25}, GAL, MOON, NONE, OWN | FORWARD)),
    Claim(10, 4, "Forward dropout helps (far) more than recurrent dropout",
          _better(NONE | FORWARD, OWN | PLAIN, GAL | PLAIN, MOON | PLAIN)),
    Claim(11, 4, "Own and Gal alike, both above Moon",
          (Comparison(OWN, GAL, "as good as"), *_better(OWN, MOON), *_better(GAL, MOON))),
    Claim(12, 4, "All three above no recurrent dropout",
          (*_better(OWN, NONE), *_better(GAL, NONE), *_better(MOON, NONE))),
    *(Claim(13, table, "The own scheme: per step at least as good as per sequence",
            (Comparison(OWN | STEP, OWN | SEQUENCE, "at least as good as"),))
      for table in (2, 3, 4)),
    *(Claim(14, table, "Moon's helps without forward dropout, no longer with it",
            (*_better(MOON | PLAIN, NONE | PLAIN),
             Comparison(MOON | FORWARD, NONE | FORWARD, "no better than")))
      for table in (2, 3, 4)),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """How much better left was, in the table's unit; positive where the claim is right.

    ``gain`` and its 95 % ``interval`` are over ``seeds``; of ``pairs``, left is better in ``held``.
    None where a side has not been run.
    """

    gain: float | None = None
    interval: float | None = None
    seeds: int = 0
    held: int = 0
    pairs: int = 0

    def verdict(self, relation: str, margin: float) -> str:
        """``holds``, ``fails`` or ``open``, at the 95 % level.

        ``margin`` is how far networks may lie apart and still count as alike.
        """
        if self.gain is None or self.interval is None:
            return "open"
        low, high = self.gain - self.interval, self.gain + self.interval
        holds, fails = {
            "better than": (low > 0, high < 0),
            "no better than": (high < margin, low > margin),
            "at least as good as": (low > -margin, high < -margin),
            "as good as": (-margin < low and high < margin, low > margin or high < -margin),
        }[relation]
        return "holds" if holds else "fails" if fails else "open"


def compare(comparison: Comparison, networks: list[dict], lower_is_better: bool) -> Finding:
    """Decide a comparison.

    Args:
        comparison: what is set against what.
        networks: scheme, rate, per, forward, seed, ``valid`` and ``test`` of each.
        lower_is_better: perplexities and bits, not F1.
    """
    sign = 1 if lower_is_better else -1
    sides = comparison.left, comparison.right
    left, right = (_by_setting([n for n in networks if s.items() <= n.items()]) for s in sides)
    if not left or not right:
        return Finding()
    best_left, best_right = (
        min(side.values(), key=lambda seeds: sign * mean(n["valid"] for n in seeds.values()))
        for side in (left, right)
    )
    seeds = sorted(best_left.keys() & best_right.keys())
    if not seeds:
        return Finding()
    gains = [sign * (best_right[s]["test"] - best_left[s]["test"]) for s in seeds]
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
    return Finding(mean(gains), tables.interval(gains), len(seeds), sum(pairs), len(pairs))


def _by_setting(networks: list[dict]) -> dict[tuple, dict[int, dict]]:
    """Networks by setting, then by seed; settings with fewer seeds than others are left out."""
    found: dict[tuple, dict[int, dict]] = {}
    for n in networks:
        found.setdefault(tuple(n[key] for key in SETTING), {})[n["seed"]] = n
    most = max(map(len, found.values()), default=0)
    return {setting: seeds for setting, seeds in found.items() if len(seeds) == most}


def _mean(seeds: dict[int, dict]) -> float:
    return mean(n["test"] for n in seeds.values())


def ours(table: int, results_dir: str | os.PathLike, protocol: str) -> list[dict]:
    """The networks of a table from our manifests, with figures of the epoch best in validation."""
    factor = 100 if table == 4 else 1
    found = []
    for m in results.read_all(results_dir, paper.TASKS[table]):
        c = m["condition"]
        if (m["protocol"], m["status"], c["scaling"]) == (protocol, "finished", "paper"):
            if "cell" not in c["settings"]:
                figures = {k: factor * m["final"]["best"][k] for k in ("valid", "test")}
                found.append({k: c[k] for k in (*SETTING, "seed")} | figures)
    return found


def papers(table: int) -> list[dict]:
    """The same from the paper's printed figures, as if of one seed."""
    found = {}
    for row in paper.table(table):
        setting = {k: row[k] for k in SETTING}
        if not row["rate"]:
            setting |= {"scheme": "none", "per": "none"}
        figures = {"seed": 0, "valid": row["paper_valid"], "test": row["paper_test"]}
        found.setdefault(tuple(setting.values()), setting | figures)
    return list(found.values())


def markdown(table: int, results_dir: str | os.PathLike, protocol: str) -> str:
    """A table of the paper's claims on one of its tables, in its figures and in ours."""
    mine, theirs, rows = ours(table, results_dir, protocol), papers(table), []
    for claim in (c for c in CLAIMS if c.table == table):
        for n, comparison in enumerate(claim.comparisons):
            here, there = (compare(comparison, cells, table != 4) for cells in (mine, theirs))
            digits = tables.DIGITS[table]
            told = f"{there.gain:+.{digits}f} (in {there.held} of {there.pairs})"
            found = "not yet run"
            if here.gain is not None:
                spread = "" if here.interval is None else f" ± {here.interval:.{digits}f}"
                found = f"{here.gain:+.{digits}f}{spread} ({here.seeds})"
            verdict = (
                here.verdict(comparison.relation, MARGINS[table])
                if protocol in tables.COMPARABLE
                else "open"
            )
            head = [str(claim.number), claim.text] if n == 0 else ["", ""]
            rows.append([*head, str(comparison), told, found, verdict])
    header = ["", "claim", "comparison", "gain in the paper", f"gain here, {protocol}", "verdict"]
    return tables.of(header, rows)


def _words(side: dict) -> str:
    names = {"semeniuta": "own", "gal": "Gal", "moon": "Moon", "none": "no recurrent dropout"}
    words = [names[side["scheme"]]]
    words += [f"{side['rate']:g}"] if "rate" in side else []
    words += [f"per {side['per']}"] if "per" in side else []
    if "forward" in side:
        words += ["with forward dropout" if side["forward"] else "without forward dropout"]
    return " ".join(words)
