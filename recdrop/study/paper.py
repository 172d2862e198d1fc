"""The paper's own figures, Tables 1 to 4 (Semeniuta, Severyn and Barth, 2016)."""

import csv
from functools import cache
from importlib import resources

SCHEMES = ("moon", "gal", "semeniuta")
TASKS = {1: "temporal_order", 2: "word_lm", 3: "char_lm", 4: "ner"}
METRICS = {1: "accuracy, %", 2: "perplexity", 3: "bits per character", 4: "F1, %"}

# Table 1 by (sampling, length): Moon's training and test accuracy in %.
_TABLE_1_MOON = {
    ("step", 15): (100.0, 100.0),
    ("sequence", 15): (100.0, 25.0),
    ("step", 30): (25.0, 25.0),
    ("sequence", 30): (100.0, 25.0),
}

# The paper prints "<25" there.
BELOW = {"table": 1, "scheme": "moon", "per": "sequence", "length": 30}


@cache
def table(number: int) -> list[dict]:
    """The rows of a table: what was dropped, and the paper's figures for it.

    Raises:
        ValueError: the paper has no such table.

    >>> table(2)[12]["paper_valid"]
    137.7
    """
    if number not in TASKS:
        raise ValueError(f"table={number} is unknown; the paper has tables {list(TASKS)}")
    if number == 1:
        return [
            {
                "table": 1, "scheme": scheme, "rate": 0.5, "per": per, "forward": False,
                "length": length,
            }
            | dict(zip(("paper_train", "paper_test"),
                       _TABLE_1_MOON[per, length] if scheme == "moon" else (100.0, 100.0),
                       strict=True))
            for length in (15, 30) for scheme in SCHEMES for per in ("step", "sequence")
        ]  # fmt: skip
    text = resources.files("recdrop.study").joinpath("paper_tables.csv").read_text()
    return [
        {
            "table": number,
            "scheme": row["scheme"],
            "rate": float(row["rate"]),
            "per": row["per"],
            "forward": row["forward_dropout"] == "yes",
            "paper_valid": float(row["valid"]),
            "paper_test": float(row["test"]),
        }
        for row in csv.DictReader(text.splitlines())
        if int(row["table"]) == number
    ]
