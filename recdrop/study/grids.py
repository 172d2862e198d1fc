"""The networks of a table of the paper, by task: what `recdrop train` is asked for."""

import os

from recdrop.study import parameters, precision
from recdrop.study.conditions import SCHEMES, grid
from recdrop.study.paper import TASKS
from recdrop.study.slices import Work
from recdrop.tasks.char_lm import CharacterLanguageModel
from recdrop.tasks.ner import NamedEntities
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel

AXES = {"schemes": str, "rates": float, "samplings": str, "forward": bool, "seeds": int,
        "lengths": int}  # fmt: skip
_ALL = {"schemes": [s for s in SCHEMES if s != "none"], "rates": [0.0, 0.25, 0.5],
        "samplings": ["step", "sequence"], "forward": [False, True], "seeds": [0],
        "lengths": [15, 30]}  # fmt: skip
GRIDS = {
    1: _ALL | {"rates": [0.5], "forward": [False]},
    **{n: {k: v for k, v in _ALL.items() if k != "lengths"} for n in (2, 3, 4)},
}
"""By table, what the paper has; one seed."""


def works(
    table: int,
    profile: str = "quick",
    axes: dict[str, str | list] | None = None,
    device: str = "cpu",
    arithmetic: str = "fp32",
    data_dir: str | os.PathLike | None = None,
    vectors: str | os.PathLike | None = None,
    scaling: str = "paper",
) -> list[Work]:
    """The table's tasks at a profile, each with its conditions.

    Args:
        axes: values in place of the table's own by the names in AXES, as lists or as text such as
            ``"0,0.25"``.
        arithmetic: precision of products, see :mod:`recdrop.study.precision`.
        scaling: ``"paper"`` for Eq. 3, ``"inverted"`` for Eq. 14.

    Raises:
        ParameterError: a value is unknown or outside its range, or there is no such device.
        ValueError: ``arithmetic`` or ``scaling`` is unknown, or the table has no such axis or
            profile, or no ``vectors``.

    >>> [(w.task.label, len(w.conditions)) for w in works(1, axes={"seeds": "0,1,2"})]
    [('Temporal Order', 18), ('Temporal Order', 18)]
    >>> len(works(2, "smoke")[0].conditions)
    26
    """
    axes = {name: _values(name, v) for name, v in (axes or {}).items()}
    if foreign := set(axes) - set(GRIDS[table]):
        raise ValueError(
            f"table {table} has no {sorted(foreign)}; choose from {list(GRIDS[table])}"
        )
    if vectors and table != 4:
        raise ValueError(
            f"vectors={str(vectors)!r} are for table 4; leave them out of table {table}"
        )
    values = GRIDS[table] | axes
    # The same checks, and the same messages, as for a notebook.
    p = parameters.read(
        {k: v for k, v in values.items()}
        | {"profile": profile, "device": device, "data_dir": data_dir, "fresh": False}
        | {"results_dir": parameters.BOOK, "vectors": vectors}
    )
    tasks = {
        1: lambda: [TemporalOrder(profile, length) for length in p.lengths],
        2: lambda: [WordLanguageModel(profile, p.data_dir)],
        3: lambda: [CharacterLanguageModel(profile, p.data_dir)],
        4: lambda: [NamedEntities(profile, p.data_dir, p.vectors)],
    }[table]()
    found = []
    for task in tasks:
        task.settings |= precision.settings(arithmetic, task.settings["protocol"])
        axes = p.schemes, p.rates, p.samplings, p.forward, p.seeds
        conditions = grid(TASKS[table], task.settings, *axes, scaling)
        found.append(Work(task, conditions))
    return found


def _values(name: str, given: str | list) -> list:
    if not isinstance(given, str):
        return given
    words = {"true": True, "yes": True, "false": False, "no": False}
    kinds = {str: str, float: float, int: int, bool: lambda w: words[w.lower()]}
    try:
        return [kinds[AXES[name]](word.strip()) for word in given.split(",")]
    except (ValueError, KeyError) as error:
        example = {str: "gal,moon", float: "0,0.25", int: "0,1,2", bool: "no,yes"}[AXES[name]]
        raise parameters.ParameterError(
            f"{name}={given!r} cannot be read ({error}); give for example {name}={example}"
        ) from error
