"""A notebook's parameters, checked: papermill alone lets misspelt and mistyped ones pass."""

import ast
import difflib
import json
import os
from dataclasses import dataclass, field
from inspect import ismodule
from pathlib import Path
from typing import Any

import torch

from recdrop.dropout import SAMPLINGS, threshold
from recdrop.study import chunks
from recdrop.study.conditions import COMBINED, SCHEMES
from recdrop.study.files import from_root
from recdrop.tasks.cells import CELLS

PROFILES = ("smoke", "quick", "reduced", "paper")
LISTS = {"schemes": str, "rates": float, "samplings": str, "forward": bool, "seeds": int}
LISTS |= {"lengths": int, "cells": str, "fading_rates": float}
SCALARS = {"profile": str, "device": str, "data_dir": str, "results_dir": str, "fresh": bool}
SCALARS |= {"vectors": str, "at_once": int}
CHOICES = {
    "profile": PROFILES,
    "schemes": (*SCHEMES, *COMBINED),
    "samplings": SAMPLINGS,
    "device": ("cpu", "cuda"),
    "cells": tuple(CELLS),
}

EXAMPLES = {"schemes": '["gal"]', "cells": '["gru"]'}
OPTIONAL = {"lengths": [15], "cells": ["gru", "rnn"], "vectors": None, "at_once": None}
OPTIONAL |= {"fading_rates": [0.5]}
"""Parameters that not every notebook has."""

BOOK, SMOKE = "book/results", "runs/smoke"
"""Smoke runs test the machinery: where no folder is given they stay out of the book's."""


class ParameterError(ValueError):
    """A notebook was given a parameter that it does not have, or a value of the wrong kind."""


@dataclass(frozen=True)
class Parameters:
    """What a notebook is run with."""

    profile: str
    schemes: list[str]
    rates: list[float]
    samplings: list[str]
    forward: list[bool]
    seeds: list[int]
    device: str
    data_dir: str | None
    results_dir: str
    fresh: bool
    lengths: list[int]
    cells: list[str]
    vectors: str | None
    at_once: int | None
    fading_rates: list[float] = field(default_factory=lambda: [0.5])


def read(namespace: dict[str, Any], elsewhere: bool = False) -> Parameters:
    """The parameters that a notebook's first cells have set.

    A scalar given to a list parameter becomes a list of one; a list may come as JSON text, as
    ``papermill -p rates '[0, 0.5]'`` passes it.

    Args:
        namespace: the notebook's ``globals()``.
        elsewhere: they are meant for another machine, whose GPU cannot be asked for here.

    Raises:
        ParameterError: a parameter that papermill injected is unknown, or a value is of the wrong
            type or outside its range.

    >>> values = dict(profile="quick", schemes="gal", rates=0.5, samplings=["step"],
    ...               forward=False, seeds="[0, 1]", device="cpu", data_dir=None,
    ...               results_dir="book/results", fresh=False)
    >>> read(values).seeds
    [0, 1]
    >>> read(values | {"rates": "much"})
    Traceback (most recent call last):
    ...
    recdrop.study.parameters.ParameterError: rates='much' is not a list of numbers; \
give for example rates=[0.25]
    """
    own, injected = _assigned(namespace)
    known = own or [*LISTS, *SCALARS, *OPTIONAL]
    for name in injected:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"the parameters are {known}"
            raise ParameterError(f"unknown parameter {name!r}; {hint}")
    # Elsewhere a name such as `cells` may be something that the notebook has imported.
    foreign = {k for k in OPTIONAL if own and k not in own or ismodule(namespace.get(k))}
    namespace = OPTIONAL | {k: v for k, v in namespace.items() if k not in foreign}
    values = {name: _list(name, kind, namespace[name]) for name, kind in LISTS.items()}
    values |= {name: _scalar(name, kind, namespace[name]) for name, kind in SCALARS.items()}
    for name, choices in CHOICES.items():
        for value in values[name] if name in LISTS else [values[name]]:
            if value not in choices:
                raise ParameterError(f"{name}={value!r} is unknown; choose from {list(choices)}")
    if values["device"] == "cuda" and not elsewhere and not torch.cuda.is_available():
        raise ParameterError("device='cuda', but torch finds no GPU here; give device='cpu'")
    for name in ("rates", "fading_rates"):
        for rate in values[name]:
            try:
                threshold(rate, name)
            except ValueError as error:
                raise ParameterError(str(error)) from None
    for seed in values["seeds"]:
        if not 0 <= seed < 2**63:
            raise ParameterError(f"seeds={seed} is outside [0, 2**63); give for example seeds=[0]")
    for length in values["lengths"]:
        if length < 3 or length % 3:
            raise ParameterError(f"lengths={length} is not a positive multiple of 3; give [15, 30]")
    if not values["results_dir"]:
        raise ParameterError(f"results_dir='' names no folder; give for example {BOOK!r}")
    for name in ("data_dir", "vectors"):
        if values[name] is not None:
            values[name] = str(from_root(values[name]))
    try:
        chunks.check(values["at_once"])
    except ValueError as error:
        raise ParameterError(str(error)) from None
    values["results_dir"] = place(values["profile"], values["results_dir"])
    return Parameters(**values)


def place(profile: str, results_dir: str) -> str:
    """Where results of a profile go that were to go to ``results_dir``.

    >>> place("smoke", "book/results/beyond"), place("quick", "book/results")
    ('runs/smoke/beyond', 'book/results')
    """
    path = Path(results_dir)
    if profile == "smoke" and path.is_relative_to(BOOK):
        return str(Path(SMOKE) / path.relative_to(BOOK))
    return results_dir


def _assigned(namespace: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The names that the notebook's own parameters cell assigns, and those that papermill's does.

    Papermill's starts with a comment of its own; the notebook's is the first with a profile.
    """
    cells = [cell for cell in namespace.get("In", []) if "profile" in cell or "# Param" in cell]
    injected = [_names(cell) for cell in cells if cell.startswith("# Parameters")]
    own = [_names(cell) for cell in cells if not cell.startswith("# Parameters")]
    return next((names for names in own if "profile" in names), []), injected[
        -1
    ] if injected else []


def _names(cell: str) -> list[str]:
    try:
        statements = ast.parse(cell).body
    except SyntaxError:  # a cell with a magic: not one of parameters
        return []
    targets = [t for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    return [t.id for t in targets if isinstance(t, ast.Name)]


def _is(kind: type, value: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _list(name: str, kind: type, value: Any) -> list:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):  # such as brackets nested by the thousand
            pass  # refused below
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values or not all(_is(kind, v) for v in values):
        what, example = {
            str: ("strings", EXAMPLES.get(name, '["step"]')),
            float: ("numbers", "[0.25]"),
            int: ("whole numbers", "[15]" if name == "lengths" else "[0, 1, 2]"),
            bool: ("True and False", "[False]"),
        }[kind]
        raise ParameterError(
            f"{name}={value!r} is not a list of {what}; give for example {name}={example}"
        )
    try:
        return [kind(v) for v in values]
    except OverflowError:
        raise ParameterError(f"{name} holds a number larger than any float; give others") from None


def _scalar(name: str, kind: type, value: Any) -> Any:
    if name in ("data_dir", "vectors", "at_once") and value in (None, ""):
        return None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not _is(kind, value):
        what = {str: "a string", bool: "True or False", int: "a whole number"}[kind]
        raise ParameterError(f"{name}={value!r} is not {what}")
    return value
