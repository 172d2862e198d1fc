"""The results explorer: Tables 1 to 4 from the manifests, ours beside the paper's."""

import os

import traitlets

from recdrop.study import paper, tables
from recdrop.study.conditions import COMBINED, SCHEMES
from recdrop.study.parameters import BOOK
from recdrop.widgets.part import Part, script, style

TASKS = {1: "Temporal Order", 2: "words", 3: "characters", 4: "entities"}
TOLD = {
    "paper": "the paper's set-up",
    "paper-bf16": "the paper's set-up, operands of products rounded to bfloat16",
    "paper-own-vectors": "the paper's set-up but for the word vectors, trained on the text itself",
    "reduced": "the paper's set-up, cut short: beside the paper's figures, no comparison",
    "quick": "a small network for a laptop, no reproduction: the paper's are for orientation",
    "smoke": "a test of the machinery: its figures mean nothing",
}
OTHER = "in other arithmetic, with other data or of another length: a protocol of its own"
SETTING = ("protocol", "scheme", "rate", "per", "forward", "length")
ORDER = ("none", "moon", "gal", "semeniuta", *COMBINED)
ALL = "all"


class ResultsExplorer(Part):
    """Every row of the paper's tables and every network run here, to be filtered.

    A protocol's figures stand in a table of their own and are never mixed. Every filter is a trait.

    Args:
        results_dir: folder of the manifests.
    """

    _esm = script("results.js")
    _css = style()

    tables = traitlets.Dict().tag(sync=True)
    table = traitlets.Enum(tuple(paper.TASKS), 1).tag(sync=True)
    scheme = traitlets.Enum((ALL, *SCHEMES, *COMBINED), ALL).tag(sync=True)
    per = traitlets.Enum((ALL, "step", "sequence"), ALL).tag(sync=True)
    forward = traitlets.Enum((ALL, "no", "yes"), ALL).tag(sync=True)
    protocol = traitlets.Enum((ALL, "comparable", "other"), ALL).tag(sync=True)
    run = traitlets.Enum((ALL, "run", "missing"), ALL).tag(sync=True)

    def __init__(self, results_dir: str | os.PathLike = BOOK, **settings):
        found = {str(number): _table(number, results_dir) for number in paper.TASKS}
        super().__init__(tables=found, **settings)

    def __repr__(self) -> str:
        return f"ResultsExplorer(table={self.table})"


def _table(number: int, results_dir: str | os.PathLike) -> dict:
    """A table as the page shows it: its rows by protocol, the paper's own first."""
    keys = ("train", "test") if number == 1 else ("valid", "test")
    groups: dict[str, list[dict]] = {}
    seen = set()
    for row in tables.table(number, results_dir, beyond=True):
        if not row["rate"]:  # one network, that the paper prints under each scheme
            row = row | {"scheme": "none", "per": "none"}
        setting = tuple(row.get(k) for k in SETTING)
        if setting not in seen:
            seen.add(setting)
            groups.setdefault(row["protocol"], []).append(_shown(row, keys))
    protocols = [
        {"name": name, "told": TOLD.get(name, OTHER), "comparable": name in tables.COMPARABLE,
         "rows": sorted(groups[name], key=_order)}
        for name in (*TOLD, *sorted(groups.keys() - TOLD)) if name in groups
    ]  # fmt: skip
    return {
        "task": TASKS[number], "metric": paper.METRICS[number], "digits": tables.DIGITS[number],
        "keys": keys, "protocols": protocols,
    }  # fmt: skip


def _shown(row: dict, keys: tuple[str, str]) -> dict:
    names = ("scheme", "rate", "per", "forward", "length", "n", "diverged")
    names += tuple(name for key in keys for name in (key, f"{key}_ci", f"paper_{key}"))
    shown = {name: row[name] for name in names if name in row}
    below = paper.BELOW.items() <= row.items()
    return shown | ({"below": "test"} if below else {})


def _order(row: dict) -> tuple:
    """As the paper orders its rows: without dropout first, then by rate, sampling and scheme."""
    place = ("none", "step", "sequence").index(row["per"]), ORDER.index(row["scheme"])
    return row["forward"], row.get("length", 0), row["rate"], *place
