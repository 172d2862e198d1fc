"""Wall times as a command line is given them."""

import re

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds(text: str, name: str) -> float:
    """A wall time such as ``9m``, ``90s``, ``1.5h``, or a plain number of seconds.

    >>> seconds("9m", "budget"), seconds("1.5h", "budget"), seconds("90", "budget")
    (540.0, 5400.0, 90.0)

    Raises:
        ValueError: it is none, or not above 0; ``name`` is what was given so.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found or not float(found[1]):
        raise ValueError(f"{name}={text!r} is no wall time; give for example 9m, 540s or 2h")
    return float(found[1]) * UNITS[found[2]]
