"""The paper's claims, and what our own runs say of each: supported, contradicted, undecided."""

import os
from dataclasses import dataclass

from recdrop.study import tables
from recdrop.study.comparisons import (
    ALIKE,
    AT_LEAST,
    CONTRADICTED,
    MARGINS,
    NO_BETTER,
    SEEDS,
    SUPPORTED,
    UNDECIDED,
    Comparison,
    Level,
    compare,
    manifests,
    ours,
    papers,
)  # fmt: skip

NONE = {"scheme": "none"}
OWN, GAL, MOON = ({"scheme": s} for s in ("semeniuta", "gal", "moon"))
BOTH = {"scheme": "semeniuta+gal"}
PLAIN, FORWARD = {"forward": False}, {"forward": True}
STEP, SEQUENCE = {"per": "step"}, {"per": "sequence"}
HALF = {"rate": 0.5}
SOLVED, CHANCE = 99.0, 30.0
"""Accuracies in %: from the first a task counts as solved, up to the second as guessed (at 25)."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper on one of its tables; it is supported where all its comparisons are."""

    number: int
    table: int
    text: str
    comparisons: tuple[Comparison | Level, ...]


def _better(left: dict, *rights: dict) -> tuple[Comparison, ...]:
    return tuple(Comparison(left, right) for right in rights)


def _solved(side: dict) -> tuple[Level, ...]:
    return tuple(Level(side | HALF, split, "above", SOLVED) for split in ("train", "test"))


def _guessed(side: dict, *splits: str) -> tuple[Level, ...]:
    return tuple(Level(side | HALF, split, "below", CHANCE) for split in splits)


def _order(span: str) -> tuple[Level, ...]:
    """Table 1's pattern: Moon's fails at the test per sequence, and per step learns nothing but
    short sequences."""
    at = {"span": span}
    step = MOON | STEP | at
    return (
        *(level for s in (OWN, GAL) for per in (STEP, SEQUENCE) for level in _solved(s | per | at)),
        *(_solved(step) if span == "short" else _guessed(step, "train", "test")),
        Level(MOON | SEQUENCE | at | HALF, "train", "above", SOLVED),
        *_guessed(MOON | SEQUENCE | at, "test"),
    )


CLAIMS = (
    Claim(1, 1, "Own and Gal's solve Temporal Order; Moon's per sequence fails at the test, "
          "per step it learns only short sequences", (*_order("short"), *_order("medium"))),
    Claim(2, 2, "The own scheme beats Gal's and Moon's",
          (*_better(OWN | PLAIN, GAL | PLAIN, MOON | PLAIN),
           *_better(OWN | FORWARD, GAL | FORWARD, MOON | FORWARD))),
    Claim(3, 2, "Moon's is better per step than per sequence",
          (*_better(MOON | STEP | PLAIN, MOON | SEQUENCE | PLAIN),
           *_better(MOON | STEP | FORWARD, MOON | SEQUENCE | FORWARD))),
    Claim(4, 2, "The own scheme: step and sequence alike",
          (Comparison(OWN | STEP, OWN | SEQUENCE, ALIKE),)),
    Claim(5, 2, "Forward dropout alone beats any recurrent dropout alone",
          _better(NONE | FORWARD, OWN | PLAIN, GAL | PLAIN, MOON | PLAIN)),
    Claim(6, 2, "Own and Gal both help on top of forward dropout, own more",
          (*_better(OWN | FORWARD, NONE | FORWARD, GAL | FORWARD),
           *_better(GAL | FORWARD, NONE | FORWARD))),
    Claim(7, 3, "Recurrent dropout alone (own, Gal) beats forward dropout alone",
          (*_better(OWN | PLAIN, NONE | FORWARD), *_better(GAL | PLAIN, NONE | FORWARD))),
    Claim(8, 3, "Only the own scheme improves on forward dropout",
          (*_better(OWN | FORWARD, NONE | FORWARD),
           Comparison(GAL | FORWARD, NONE | FORWARD, NO_BETTER),
           Comparison(MOON | FORWARD, NONE | FORWARD, NO_BETTER))),
    Claim(9, 3, "Best of all: own, 0.25 per step without forward dropout",
          _better(OWN | STEP | PLAIN | {"rate": 0.25}, GAL, MOON, NONE, OWN | FORWARD,
                  OWN | SEQUENCE | PLAIN, OWN | STEP | PLAIN | HALF)),
    Claim(10, 4, "Forward dropout helps (far) more than recurrent dropout",
          _better(NONE | FORWARD, OWN | PLAIN, GAL | PLAIN, MOON | PLAIN)),
    Claim(11, 4, "Own and Gal alike, both above Moon",
          (Comparison(OWN, GAL, ALIKE), *_better(OWN, MOON), *_better(GAL, MOON))),
    Claim(12, 4, "All three above no recurrent dropout",
          (*_better(OWN, NONE), *_better(GAL, NONE), *_better(MOON, NONE))),
    *(Claim(13, table, "The own scheme: per step at least as good as per sequence",
            (Comparison(OWN | STEP, OWN | SEQUENCE, AT_LEAST),))
      for table in (2, 3, 4)),
    *(Claim(14, table, "Moon's helps without forward dropout, no longer with it",
            (*_better(MOON | PLAIN, NONE | PLAIN),
             Comparison(MOON | FORWARD, NONE | FORWARD, NO_BETTER)))
      for table in (2, 3, 4)),
    Claim(15, 1, "Sequences of more than 30 symbols behave like those of 30", _order("longer")),
    Claim(16, 2, "Own and Gal combined is the best (a conjecture)",
          (*_better(BOTH | PLAIN, OWN | PLAIN, GAL | PLAIN),
           *_better(BOTH | FORWARD, OWN | FORWARD, GAL | FORWARD))),
)  # fmt: skip

UNITS = {1: "points of accuracy", 2: "perplexity", 3: "bits per character", 4: "points of F1"}
CHAPTERS = {
    1: "02_memory_loss", 2: "03_word_language_model", 3: "04_character_language_model",
    4: "05_named_entities",
}  # fmt: skip
"""Where a table is discussed."""
CONJECTURED = "07_beyond_the_paper"
"""Where the paper's conjecture is discussed, claim 16."""
OWN_VECTORS = "paper-own-vectors"
"""What ``paper`` means for Table 4 where the paper's word vectors cannot be had."""


def ledger(results_dir: str | os.PathLike = "book/results", protocol: str = "paper") -> list[dict]:
    """What the networks of a protocol say of the 16 claims: one object for each.

    number, claim, tables, protocol, verdict, and comparisons, of which each has table, protocol,
    comparison, effect, unit, low and high (the 95 % bootstrap interval, paired), drawn (what it was
    drawn from: "seeds", or "test items" where there is one seed), seeds, held of pairs, missing
    (settings of the paper's grid), verdict and the effect in the paper.

    Raises:
        ValueError: no network of the protocol is there, unless it is the paper's.
    """
    found = manifests(results_dir)
    known = {"paper", *(m["protocol"] for m in found)}
    if protocol not in known:
        raise ValueError(f"protocol={protocol!r} has no results here; choose from {sorted(known)}")
    return _ledger(found, protocol)


def protocols(found: list[dict]) -> list[str]:
    """Those of manifests, the paper's first; that of tests of the machinery left out."""
    others = {m["protocol"] for m in found} - {"paper", OWN_VECTORS, "smoke"}
    return ["paper", *sorted(others, key=lambda name: (name.startswith("quick"), name))]


def _ledger(known: list[dict], protocol: str) -> list[dict]:
    networks = {table: _networks(table, known, protocol) for table in UNITS}
    found: dict[int, dict] = {}
    for claim in CLAIMS:
        entry = found.setdefault(claim.number, _entry(claim, protocol))
        entry["tables"].append(claim.table)
        mine, actual = networks[claim.table]
        for comparison in claim.comparisons:
            entry["comparisons"].append(_compared(comparison, claim.table, mine, actual))
    for entry in found.values():
        entry["verdict"] = overall([c["verdict"] for c in entry["comparisons"]])
    return [found[number] for number in sorted(found)]


def overall(verdicts: list[str]) -> str:
    """A claim falls with one of its comparisons, and stands with all of them.

    >>> overall(["supported", "undecided"]), overall(["supported", "undecided", "contradicted"])
    ('undecided', 'contradicted')
    """
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else UNDECIDED


def _networks(table: int, known: list[dict], protocol: str) -> tuple[list[dict], str]:
    """A table's networks, and the one protocol that they are all of."""
    found = ours(table, known, protocol)
    if not found and (table, protocol) == (4, "paper"):
        return ours(table, known, OWN_VECTORS), OWN_VECTORS
    return found, protocol


def _entry(claim: Claim, protocol: str) -> dict:
    chapter = CHAPTERS[claim.table] if claim.number < 16 else CONJECTURED
    return {
        "number": claim.number, "claim": claim.text, "tables": [], "protocol": protocol,
        "verdict": UNDECIDED, "chapter": chapter, "comparisons": [],
    }  # fmt: skip


def _compared(comparison: Comparison | Level, table: int, mine: list[dict], protocol: str) -> dict:
    here, there = (compare(comparison, cells, table) for cells in (mine, papers(table)))
    low, high = here.interval or (None, None)
    return {
        "table": table, "protocol": protocol, "comparison": str(comparison),
        "effect": here.effect, "unit": UNITS[table], "low": low, "high": high,
        "drawn": here.drawn,
        "seeds": len(here.gains), "held": here.held, "pairs": here.pairs, "missing": here.missing,
        "verdict": here.verdict(comparison.relation, MARGINS[table]),
        "paper_effect": there.effect, "paper_held": there.held, "paper_pairs": there.pairs,
    }  # fmt: skip


# as text


def markdown(table: int, results_dir: str | os.PathLike, protocol: str) -> str:
    """A table of the paper's claims on one of its tables, in its figures and in ours."""
    rows = []
    for entry in _ledger(manifests(results_dir), protocol):
        mine = [c for c in entry["comparisons"] if c["table"] == table]
        for n, compared in enumerate(mine):
            head = [str(entry["number"]), entry["claim"]] if n == 0 else ["", ""]
            rows.append([*head, *_cells(compared)])
    return tables.of(["", "claim", *_header(protocol)], rows)


def details(entry: dict) -> str:
    """A claim's comparisons as a Markdown table."""
    return tables.of(_header(entry["protocol"]), [_cells(c) for c in entry["comparisons"]])


def summary(results_dir: str | os.PathLike = "book/results", link: str = "{claim}") -> str:
    """All claims in a Markdown table, with a column of verdicts for each protocol.

    ``link`` shows a claim, from its ``claim`` and its ``chapter``.
    """
    found = manifests(results_dir)
    names = protocols(found)
    columns = [_ledger(found, name) for name in names]
    rows = [
        [str(entries[0]["number"]), link.format(**entries[0]), *(_told(e) for e in entries)]
        for entries in zip(*columns, strict=True)
    ]
    return tables.of(["", "claim", *names], rows)


def _told(entry: dict) -> str:
    """The verdict; where there is none, how many comparisons have one."""
    verdicts = [c["verdict"] for c in entry["comparisons"]]
    decided = sum(v != UNDECIDED for v in verdicts)
    if all(c["effect"] is None for c in entry["comparisons"]):
        return "not yet run"
    if entry["verdict"] != UNDECIDED:
        return f"**{entry['verdict']}**"
    return f"{UNDECIDED} ({decided} of {len(verdicts)} comparisons decided)"


def _header(protocol: str) -> list[str]:
    effects = ["effect in the paper", f"effect here, {protocol}"]
    return ["comparison", *effects, "seeds", f"verdict, {protocol}"]


def _cells(c: dict) -> list[str]:
    digits = tables.DIGITS[c["table"]]
    theirs, mine = "untested", "not yet run"
    if c["paper_effect"] is not None:
        theirs = f"{c['paper_effect']:+.{digits}f} (in {c['paper_held']} of {c['paper_pairs']})"
    if c["effect"] is not None:
        mine = f"{c['effect']:+.{digits}f}"
        if c["low"] is not None:
            what = ", test items" if c["drawn"] != "seeds" else ""
            mine += f" ({c['low']:+.{digits}f} to {c['high']:+.{digits}f}{what})"
    verdict = c["verdict"]
    if c["missing"] and c["effect"] is not None:
        verdict += f": {c['missing']} settings lack {SEEDS} seeds"
    return [c["comparison"], theirs, mine, str(c["seeds"]), verdict]
