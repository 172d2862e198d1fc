"""The paper's tables from our own manifests, ours beside the paper's."""

import math
import os
from statistics import mean, stdev

from recdrop.study import paper, results

# Student's t, two-sided 95 %, by degrees of freedom; 1.96 beyond.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def interval(values: list[float]) -> float | None:
    """Half the width of the 95 % confidence interval of the mean; None for fewer than two values.

    >>> round(interval([1.0, 2.0, 3.0]), 2)
    2.48
    """
    n = len(values)
    if n < 2:
        return None
    t = _T[n - 2] if n - 2 < len(_T) else 1.96
    return t * stdev(values) / math.sqrt(n)


def table(number: int, results_dir: str | os.PathLike = "book/results") -> list[dict]:
    """One row for each condition of the paper and protocol; figures are null where none was run.

    Table 1: accuracies in % after the last epoch. The others: figures of the epoch that was best in
    validation, and beside them, as ``valid_last`` and ``test_last``, those of the last epoch.
    """
    manifests = [
        m
        for m in results.read_all(results_dir, paper.TASKS[number])
        if m["condition"]["scaling"] == "paper"  # Eq. 3, as in the paper
    ]
    protocols = sorted({"paper", *(m["protocol"] for m in manifests)})
    rows = [
        _row(condition, protocol, [m for m in manifests if m["protocol"] == protocol])
        for protocol in protocols
        for condition in paper.table(number)
    ]
    return [row for row in rows if row["n"] or row["protocol"] == "paper"]


def _row(condition: dict, protocol: str, manifests: list[dict]) -> dict:
    mine = [m for m in manifests if _matches(condition, m)]
    shown = {k: v for k, v in condition.items() if not k.startswith("paper_")}
    row = shown | {"protocol": protocol, "n": len(mine)}
    if condition["table"] == 1:
        columns = {k: ("last", k, 100) for k in ("train", "test")}
    else:
        columns = {k: ("best", k, 1) for k in ("valid", "test")}
        columns |= {f"{k}_last": ("last", k, 1) for k in ("valid", "test")}
    for column, (which, key, factor) in columns.items():
        values = [factor * m["final"][which][key] for m in mine if m["final"][which]]
        row[column] = mean(values) if values else None
        row[f"{column}_ci"] = interval(values)
    return row | {k: v for k, v in condition.items() if k.startswith("paper_")}


def _matches(row: dict, manifest: dict) -> bool:
    condition = manifest["condition"]
    scheme = condition["scheme"] if condition["rate"] else row["scheme"]
    wanted = [row["scheme"], row["rate"], row["per"], row["forward"], row.get("length")]
    return wanted == [
        scheme, condition["rate"], condition["per"], condition["forward"],
        condition["settings"].get("length"),
    ]  # fmt: skip


def markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table; ``27.1 ± 3.0 (3)`` is mean, 95 % interval and seeds."""
    first, second = ("train", "test") if rows and rows[0]["table"] == 1 else ("valid", "test")
    length = "length" in rows[0] if rows else False
    header = ["scheme", "rate", "per", *(["length"] if length else ["forward"]), "protocol"]
    header += [f"{first}", f"{second}", f"paper's {first}", f"paper's {second}"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [row["scheme"] if row["rate"] else "none", f"{row['rate']:g}", row["per"]]
        cells += [str(row["length"])] if length else ["yes" if row["forward"] else "no"]
        cells += [row["protocol"], *(_figure(row, k) for k in (first, second))]
        cells += [f"{row[f'paper_{k}']:g}" for k in (first, second)]
        line = "| " + " | ".join(cells) + " |"
        if line not in lines:  # the row without dropout is the same under each scheme
            lines.append(line)
    return "\n".join(lines)


def _figure(row: dict, key: str) -> str:
    if row[key] is None:
        return "not yet run"
    ci = row[f"{key}_ci"]
    return f"{row[key]:.1f}" + ("" if ci is None else f" ± {ci:.1f}") + f" ({row['n']})"
