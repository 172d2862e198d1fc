"""The points of a sweep: a notebook with parameters, checked before anything starts."""

import ast
import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdrop.study.files import ROOT

WORDS = {"True": True, "False": False, "None": None}
"""Python's; JSON has its own, and ``none`` is a scheme."""
LONGEST = 100
"""Characters of a point's name before its digest."""


class GridError(ValueError):
    """A notebook or a parameter cannot be used; says which, and what to do."""


@dataclass(frozen=True)
class Point:
    """A notebook to be executed with these parameters; ``name`` is that of its files."""

    name: str
    notebook: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Notebook:
    """What is executed: the text as it was when the sweep began, without outputs.

    ``defaults`` are what the cell tagged ``parameters`` assigns.
    """

    path: Path
    text: str
    defaults: dict[str, Any]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def notebooks(given: str) -> list[Notebook]:
    """The notebook at a path, or every chapter for ``all``.

    Raises:
        GridError: there is none, or it cannot be read.
    """
    chapters = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if given == "all":
        if not chapters:
            raise GridError(f"all: no chapters in {ROOT / 'notebooks'}; run it in a checkout")
        return [_notebook(path) for path in chapters]
    for path in (Path(given).expanduser(), ROOT / given):
        if path.is_file():
            return [_notebook(path.resolve())]
    close = difflib.get_close_matches(Path(given).name, [p.name for p in chapters], 1)
    hint = f"did you mean notebooks/{close[0]}?" if close else "give a path, or `all`"
    raise GridError(f"no notebook {given!r}; {hint}")


def _notebook(path: Path) -> Notebook:
    try:
        nb = json.loads(path.read_text(encoding="utf-8"))
        if nb["nbformat"] != 4:
            raise ValueError(f"of format {nb['nbformat']}, not 4")
        nb["metadata"].pop("widgets", None)
        for cell in nb["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        tagged = [c["source"] for c in nb["cells"] if "parameters" in c["metadata"].get("tags", [])]
        own = _assigned("".join(tagged[0])) if tagged else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise GridError(f"{path} is no notebook that can be run ({error}); give another") from error
    return Notebook(path, json.dumps(nb), own)


def _assigned(source: str) -> dict[str, Any]:
    """The literals that a cell assigns, read and not executed.

    >>> _assigned("%matplotlib inline\\na, b = 1, [2]\\nc: float = 0\\nd = e = 2 * a")
    {'a': 1, 'b': [2], 'c': 0.0, 'd': None, 'e': None}
    """
    found: dict[str, Any] = {}

    def assign(target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            found[target.id] = _literal(value)
        elif isinstance(target, ast.Tuple | ast.List):
            n = len(target.elts)
            unpacked = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == n
            for one, its in zip(target.elts, value.elts if unpacked else [None] * n, strict=True):
                assign(one, its)

    for statement in _statements(source):
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                assign(target, statement.value)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            assign(statement.target, statement.value)
            name, kind = (getattr(e, "id", None) for e in (statement.target, statement.annotation))
            if kind == "float" and type(found.get(name)) is int:
                found[name] = float(found[name])
    return found


def _statements(source: str) -> list[ast.stmt]:
    for text in (source, re.sub(r"^([ \t]*)[%!].*", r"\1pass", source, flags=re.M)):  # magics
        try:
            return ast.parse(text).body
        except SyntaxError:
            pass
    return []


def _literal(value: ast.expr | None) -> Any:
    """Its value; None for an expression, which may be given as anything."""
    try:
        return None if value is None else ast.literal_eval(value)
    except (ValueError, TypeError):
        return None


def points(
    notebook: Notebook,
    fixed: Iterable[tuple[str, str]] = (),
    grid: Iterable[str] = (),
    elsewhere: bool = False,
) -> list[Point]:
    """The distinct points of a product, each checked.

    Args:
        fixed: names and values, as ``-p NAME VALUE`` gives them.
        grid: texts such as ``rates=0,0.25``; the product of all is taken.
        elsewhere: another machine will execute them, so that this one needs no GPU.

    Raises:
        GridError: a name is unknown or given twice, or a value is of the wrong kind or range.

    >>> nb = Notebook(Path("train.ipynb"), "", {"rate": 0.5, "seed": 0})
    >>> [p.parameters for p in points(nb, [("rate", "0.25")], ["seed=0,1"])]
    [{'rate': 0.25, 'seed': 0}, {'rate': 0.25, 'seed': 1}]
    """
    axes: dict[str, list] = {}
    for name, values in [*((k, [value(v)]) for k, v in fixed), *(_axis(text) for text in grid)]:
        if name in axes:
            raise GridError(f"{name!r} is given twice; give it once, in -p or in --grid")
        axes[name] = values
    found = {}
    for values in itertools.product(*axes.values()):
        given = dict(zip(axes, values, strict=True))
        checked = check(notebook, given, elsewhere)
        point = Point(_name(notebook.path.stem, checked), str(notebook.path), checked)
        found.setdefault(point.name, point)
    return list(found.values())


def _axis(text: str) -> tuple[str, list]:
    name, equals, values = text.partition("=")
    if not equals or not name.strip() or not values.strip():
        raise GridError(f"--grid {text!r} is no axis; give for example --grid rates=0,0.25")
    try:
        listed = json.loads(f"[{values}]")
    except (ValueError, RecursionError):
        if any(c in values for c in '"[]{}'):  # commas in it may be no commas of the list
            raise GridError(
                f"--grid {text!r} is neither plain words nor JSON throughout; quote each text, as "
                'in name=["a","b"],["c"]'
            ) from None
        listed = [value(word) for word in values.split(",")]
    return name.strip(), listed


def value(text: str) -> Any:
    """A value as a shell passes it: JSON, or True, False, None, or else the text itself.

    Nothing is ever executed, and there is none of YAML's guessing, which reads ``no`` as False.

    >>> value("0.25"), value("[0, 1]"), value("True"), value("gal"), value("no"), value("none")
    (0.25, [0, 1], True, 'gal', 'no', 'none')
    """
    text = text.strip()
    if text in WORDS:
        return WORDS[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def check(notebook: Notebook, given: dict[str, Any], elsewhere: bool = False) -> dict[str, Any]:
    """The parameters as the notebook will have them, or an error that says what to give instead."""
    own = notebook.defaults
    for name in given:
        if name not in own:
            close = difflib.get_close_matches(name, own, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"its parameters are {list(own)}"
            raise GridError(f"{notebook.path.name} has no parameter {name!r}; {hint}")
        try:
            json.dumps(given[name], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            what = f"{name}={given[name]!r}"
            raise GridError(f"{what} holds what UTF-8 cannot; give it without") from None
    if {"profile", "schemes", "results_dir"} <= set(own):  # one of the study's
        from recdrop.study import parameters  # not above: it loads torch

        try:
            read = parameters.read(own | given, elsewhere)
        except parameters.ParameterError as error:
            raise GridError(f"{notebook.path.name}: {error}") from error
        known = {*parameters.LISTS, *parameters.SCALARS}
        given = {k: getattr(read, k) if k in known else v for k, v in given.items()}
    else:
        known = set()
    return {k: v if k in known else _like(k, v, own[k]) for k, v in given.items()}


def _like(name: str, given: Any, default: Any) -> Any:
    """The value where it is of the default's type; a default of None has none."""
    if isinstance(default, list | tuple) and not isinstance(given, list):
        given = [given]
    kind = type(default)
    number = isinstance(given, int) and not isinstance(given, bool)
    if kind is float and number:
        try:
            given = float(given)
        except OverflowError:
            raise GridError(f"{name}={given!r} is larger than any float") from None
    like = default is None or type(given) is (list if kind is tuple else kind)
    if not like:
        raise GridError(
            f"{name}={given!r} is not of the notebook's type, {kind.__name__}; "
            f"give for example {name}={default!r}"
        )
    return given


def _name(stem: str, parameters: dict[str, Any]) -> str:
    """A file name on any system: readable, and with a digest of all parameters at its end.

    >>> _name("train", {"rates": [0.25], "seeds": [0, 1]})
    'train-rates=0.25-seeds=0+1-33a75a81c1'
    """
    parts = [re.sub(r"[^\w.]+", "_", stem, flags=re.ASCII)]
    if not parameters and len(parts[0]) <= LONGEST:
        return parts[0]
    for k, v in parameters.items():
        values = [str(x) for x in (v if isinstance(v, list) else [v])]
        if not any("/" in x or "\\" in x for x in values):  # folders are long and say little
            parts.append(f"{k}={'+'.join(values)}")
    text = re.sub(r"[^\w.=+-]+", "_", "-".join(parts), flags=re.ASCII)[:LONGEST].rstrip("-_.")
    content = json.dumps(parameters, sort_keys=True)
    return f"{text}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"
