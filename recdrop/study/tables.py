"""The paper's tables from our own manifests, ours beside the paper's."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist, mean, stdev

from recdrop.dropout import Scaling
from recdrop.study import paper, results
from recdrop.study.files import from_root

# Student's t, two-sided 95 %, by degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


DIGITS = {1: 1, 2: 1, 3: 3, 4: 2}
"""Decimals of a table's figures, as the paper prints them."""


COMPARABLE = ("paper", "paper-own-vectors")
"""Protocols whose figures can be set against the paper's."""


def interval(values: list[float]) -> float | None:
    """Half the width of the 95 % confidence interval of the mean; None for fewer than two values.

    >>> round(interval([1.0, 2.0, 3.0]), 2)
    2.48
    """
    n = len(values)
    if n < 2:
        return None
    return _student(n - 1) * stdev(values) / math.sqrt(n)


def _student(nu: int) -> float:
    """The 97.5 % quantile of Student's t with ``nu`` degrees of freedom."""
    if nu <= len(_T):
        return _T[nu - 1]
    z = NormalDist().inv_cdf(0.975)  # and the Cornish-Fisher terms of Abramowitz and Stegun 26.7.5
    return z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)


def table(
    number: int,
    results_dir: str | os.PathLike = "book/results",
    beyond: bool = False,
    scaling: Scaling = "paper",
) -> list[dict]:
    """One row for each condition of the paper and protocol; figures are null where none was run.

    ``beyond`` adds rows for conditions that were run and that the paper's table does not have.
    Networks of ``scaling`` "inverted", Eq. 14, stand beside no figures of the paper's.
    Networks that diverged are counted apart and have no part in the means.
    Table 1: accuracies in % after the last epoch. The others, perplexities, bits per character and
    F1 in %: figures of the epoch that was best in validation, and beside them, as ``valid_last``
    and ``test_last``, those of the last epoch.
    """
    conditions = list(paper.table(number))
    if scaling != "paper":
        conditions = [c | {k: None for k in c if k.startswith("paper_")} for c in conditions]
    manifests = [
        m
        for m in results.read_all(results_dir, paper.TASKS[number])
        if m["condition"]["scaling"] == scaling
        and "cell" not in m["condition"]["settings"]  # an LSTM, as in the paper
    ]
    if beyond:
        for m in manifests:
            if not any(_matches(condition, m) for condition in conditions):
                conditions.append(_beyond(number, m["condition"]))
    protocols = sorted({"paper", *(m["protocol"] for m in manifests)})
    rows = [
        _row(condition, protocol, [m for m in manifests if m["protocol"] == protocol])
        for protocol in protocols
        for condition in conditions
    ]
    run = [r for r in rows if r["n"] or r["diverged"]]
    papers = [r for r in rows if r["protocol"] == "paper" and any(map(r.get, _PAPERS))]
    return [r for r in rows if r in run or r in papers]


_PAPERS = ("paper_train", "paper_valid", "paper_test")


def _beyond(number: int, condition: dict) -> dict:
    """A row of the paper's kind for a condition that the paper does not have."""
    row = {"table": number} | {k: condition[k] for k in ("scheme", "rate", "per", "forward")}
    if number == 1:
        row["length"] = condition["settings"]["length"]
    first = "paper_train" if number == 1 else "paper_valid"
    return row | {first: None, "paper_test": None}


def _row(condition: dict, protocol: str, manifests: list[dict]) -> dict:
    mine = [m for m in manifests if _matches(condition, m)]
    if any(m["condition"]["settings"] != mine[0]["condition"]["settings"] for m in mine):
        names = sorted(m["name"] for m in mine)
        raise ValueError(
            f"one cell of table {condition['table']} has results of protocol {protocol!r} with "
            f"different settings: {names}; move those that are not meant to another folder"
        )
    diverged = sum(m["status"] == "diverged" for m in mine)
    names = [m["name"] for m in _by_seed(mine)]
    mine = [m for m in mine if m["status"] == "finished"]
    shown = {k: v for k, v in condition.items() if not k.startswith("paper_")}
    row = shown | {"protocol": protocol, "n": len(mine), "diverged": diverged}
    row["manifests"] = names
    if condition["table"] == 1:
        columns = {k: ("last", k, 100) for k in ("train", "test")}
    else:
        factor = 100 if condition["table"] == 4 else 1
        columns = {k: ("best", k, factor) for k in ("valid", "test")}
        columns |= {f"{k}_last": ("last", k, factor) for k in ("valid", "test")}
    for column, (which, key, factor) in columns.items():
        values = [factor * m["final"][which][key] for m in mine]
        row[column] = mean(values) if values else None
        row[f"{column}_ci"] = interval(values)
    return row | {k: v for k, v in condition.items() if k.startswith("paper_")}


def _by_seed(manifests: list[dict]) -> list[dict]:
    return sorted(manifests, key=lambda m: m["condition"]["seed"])


def _matches(row: dict, manifest: dict) -> bool:
    condition = manifest["condition"]
    scheme = condition["scheme"] if condition["rate"] else row["scheme"]
    wanted = [row["scheme"], row["rate"], row["per"], row["forward"], row.get("length")]
    return wanted == [
        scheme, condition["rate"], condition["per"], condition["forward"],
        condition["settings"].get("length"),
    ]  # fmt: skip


def markdown(rows: list[dict], results_dir: str | os.PathLike | None = None) -> str:
    """The rows as a Markdown table; ``27.1 ± 3.0 (3)`` is mean, 95 % interval and seeds.

    Where a row's protocol is the paper's, its difference from the paper stands there, too; ours are
    in italics where it is not. Beside a smoke run, which proves that the machinery works, the
    paper's figures are left out. With ``results_dir`` a last column leads to the manifests.
    """
    if not rows:
        return "Nothing has been run yet."
    first, second = ("train", "test") if rows[0]["table"] == 1 else ("valid", "test")
    length = "length" in rows[0]
    header = ["scheme", "rate", "per", *(["length"] if length else ["forward"]), "protocol"]
    differs = any(_difference(row, key) != "–" for row in rows for key in (first, second))
    columns = ("paper", "difference") if differs else ("paper",)
    header += [first, *columns, second, *columns]
    header += [] if results_dir is None else ["manifests"]
    lines: list[list[str]] = []
    for row in rows:
        cells = [row["scheme"] if row["rate"] else "none", f"{row['rate']:g}", row["per"]]
        cells += [str(row["length"])] if length else ["yes" if row["forward"] else "no"]
        cells += [row["protocol"]]
        for key in (first, second):
            cells += [_figure(row, key), _papers_figure(row, key)]
            cells += [_difference(row, key)] if differs else []
        cells += [] if results_dir is None else [links(row["manifests"], results_dir)]
        if cells not in lines:  # the row without dropout is the same under each scheme
            lines.append(cells)
    return of(header, lines)


def of(header: list[str], rows: list[list[str]]) -> str:
    """Any Markdown table.

    >>> print(of(["rate", "test"], [["0.5", "96.8"]]))
    | rate | test |
    |---|---|
    | 0.5 | 96.8 |
    """
    lines = [header, *rows]
    lines = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def links(names: list[str], results_dir: str | os.PathLike) -> str:
    """Links to manifests, each by its number, as a page in notebooks/ or runs/ reaches them.

    The book keeps copies of the files, JupyterLab opens them.
    """
    folder = Path(os.path.relpath(from_root(results_dir), from_root("notebooks"))).as_posix()
    found = [f"[{at}]({folder}/{name}.json)" for at, name in enumerate(names, 1)]
    return " ".join(found) or "–"


def label(manifest: dict) -> str:
    """A network in a few words, such as ``gal 0.5 per step, seed 0``."""
    return f"{_setting(manifest)}, seed {manifest['condition']['seed']}"


def _setting(manifest: dict) -> str:
    c = manifest["condition"]
    scheme = f"{c['scheme']} {c['rate']:g} per {c['per']}" if c["rate"] else "none"
    cell = f"{c['settings']['cell']}: " if "cell" in c["settings"] else ""
    return f"{cell}{scheme}{', forward' if c['forward'] else ''}"


def summary(
    manifests: list[dict], results_dir: str | os.PathLike, keys: tuple[str, ...],
    which: str = "last", factor: float = 1, digits: int = 1,
) -> str:  # fmt: skip
    """Networks of any kind, a row for each setting: mean, 95 % interval and seeds.

    ``which`` is ``"last"`` or ``"best"``, the epoch whose figures ``keys`` are shown, ``factor``
    times. Networks that diverged are counted apart. The last column leads to the manifests.
    """
    found: dict[str, list[dict]] = {}
    for m in manifests:
        found.setdefault(_setting(m), []).append(m)
    rows = []
    for setting, mine in found.items():
        finished = [m["final"][which] for m in mine if m["status"] == "finished"]
        cells = []
        for key in keys:
            values = [factor * e[key] for e in finished]
            spread = "" if len(values) < 2 else f" ± {interval(values):.{digits}f}"
            cells.append(f"{mean(values):.{digits}f}{spread}" if values else "–")
        counts = [str(len(finished)), str(len(mine) - len(finished))]
        names = [m["name"] for m in _by_seed(mine)]
        rows.append([setting, *cells, *counts, links(names, results_dir)])
    return of(["network", *keys, "seeds", "diverged", "manifests"], rows)


def profiles(named: dict[str, dict], keys: Sequence[str]) -> str:
    """What the profiles of a task fix, one in a row."""
    rows = [[name, *(_size(profile[key]) for key in keys)] for name, profile in named.items()]
    return of(["profile", *keys], rows)


def _size(value) -> str:
    return "all" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def gaps(manifests: list[dict], results_dir: str | os.PathLike) -> str:
    """Last epoch's perplexities, and how much worse unseen text is than the text trained on."""
    rows = []
    for m in manifests:
        if e := m["final"]["last"]:
            figures = [f"{e['train']:.1f}", f"{e['valid']:.1f}", f"{e['valid'] / e['train']:.2f}"]
            rows.append([label(m), *figures, links([m["name"]], results_dir)])
    header = ["network, last epoch", "training", "validation", "validation / training"]
    return of([*header, "manifest"], rows)


def _papers_figure(row: dict, key: str) -> str:
    figure = row[f"paper_{key}"]
    if figure is None or row["protocol"] == "smoke":
        return "–"
    below = key == "test" and paper.BELOW.items() <= row.items()
    return f"<{figure:g}" if below else f"{figure:g}"


def _difference(row: dict, key: str) -> str:
    """Ours less the paper's."""
    if row["protocol"] not in COMPARABLE or None in (row[key], row[f"paper_{key}"]):
        return "–"
    return f"{row[key] - row[f'paper_{key}']:+.{DIGITS[row['table']]}f}"


def _figure(row: dict, key: str) -> str:
    if row[key] is None:
        return f"diverged ({row['diverged']})" if row["diverged"] else "not yet run"
    ci, digits = row[f"{key}_ci"], DIGITS[row["table"]]
    interval = "" if ci is None else f" ± {ci:.{digits}f}"
    count = f"{row['n']}; {row['diverged']} diverged" if row["diverged"] else row["n"]
    text = f"{row[key]:.{digits}f}{interval} ({count})".replace(" ", "\N{NO-BREAK SPACE}")
    return text if row["protocol"] in COMPARABLE else f"*{text}*"
