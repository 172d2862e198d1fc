"""Points of a sweep: what is accepted, what is refused, and how they are named."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdrop import cli
from recdrop.batch import grid
from recdrop.batch.grid import GridError, Notebook
from recdrop.study.files import ROOT

CHAPTER = "notebooks/03_word_language_model.ipynb"
OWN = Notebook(Path("own.ipynb"), "", {"n": 0, "x": 0.5, "s": "a", "b": False, "l": [0], "e": None})
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def chapter() -> Notebook:
    return grid.notebooks(CHAPTER)[0]


def write(folder: Path, *cells: dict, **other) -> str:
    nb = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)} | other
    path = folder / "a.ipynb"
    path.write_text(json.dumps(nb))
    return str(path)


def cell(source: str, *tags: str) -> dict:
    return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source,
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "old"}],
            "execution_count": 1}  # fmt: skip


# notebooks


def test_a_chapter_is_found_from_anywhere_without_what_it_has_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (found,) = grid.notebooks(CHAPTER)
    assert found.path == ROOT / CHAPTER
    assert found.defaults["profile"] == "quick"
    cells = json.loads(found.text)["cells"]
    assert not any(c["outputs"] for c in cells if c["cell_type"] == "code")


def test_all_is_every_chapter():
    found = grid.notebooks("all")
    assert [n.path.name for n in found] == sorted(p.name for p in (ROOT / "notebooks").iterdir()
                                                  if p.suffix == ".ipynb")  # fmt: skip
    names = {p.name for n in found for p in grid.points(n, [("profile", "smoke")])}
    assert len(names) == len(found)


@pytest.mark.parametrize(
    ("given_", "said"),
    [("notebooks/03_word_langage_model.ipynb", "did you mean notebooks/03_word_language_model"),
     ("xyzzy", "give a path, or `all`"), ("notebooks", "give a path")],
)  # fmt: skip
def test_a_notebook_that_is_not_there(given_, said):
    with pytest.raises(GridError, match=f"no notebook '{given_}'; {said}"):
        grid.notebooks(given_)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", "{}", '{"nbformat": 3, "worksheets": []}', "[" * 20000, "\x80",
     '{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code"}]}',
     '{"nbformat": 4, "metadata": [], "cells": 3}'],
)  # fmt: skip
def test_a_file_that_is_no_notebook(content, tmp_path):
    (tmp_path / "a.ipynb").write_bytes(content.encode("latin-1"))
    with pytest.raises(GridError, match="a.ipynb is no notebook that can be run .*; give another"):
        grid.notebooks(str(tmp_path / "a.ipynb"))


def test_a_parameters_cell_is_read_and_never_executed(tmp_path):
    """So that looking at a sweep of a notebook from someone else is safe."""
    marker = tmp_path / "executed"
    source = f"n = 1\nm = open({str(marker)!r}, 'w')\nx = __import__('os').getpid()\nl = [1, 2]"
    (found,) = grid.notebooks(write(tmp_path, cell(source, "parameters")))
    assert found.defaults == {"n": 1, "m": None, "x": None, "l": [1, 2]}
    assert not marker.exists()


def test_a_notebook_without_parameters_has_none(tmp_path):
    (found,) = grid.notebooks(write(tmp_path, cell("n = 1")))
    assert [p.name for p in grid.points(found)] == ["a"]
    with pytest.raises(GridError, match=r"a.ipynb has no parameter 'n'; its parameters are \[\]"):
        grid.points(found, [("n", "2")])


# values


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("0.5", 0.5), ("1e-3", 0.001), ("true", True), ("False", False), ("None", None),
     ("null", None), ("gal", "gal"), ('"1"', "1"), ("[0, 0.5]", [0, 0.5]), ("no", "no"), ("", ""),
     ("12:30:00", "12:30:00"), ("2016-03-16", "2016-03-16"), ("0x10", "0x10"), ("{", "{")],
)  # fmt: skip
def test_a_value_is_json_or_itself(text, expected):
    found = grid.value(text)
    assert (found, type(found)) == (expected, type(expected))


HOSTILE = [
    "!!python/object/apply:os.mkdir [executed]", "!!python/name:os.system", "&a [*a, *a]",
    "__import__('os').mkdir('executed')", "$(mkdir executed)", "`mkdir executed`", "{{7*7}}",
    "{x.__class__}", "%(n)s", "../../etc/passwd", "[" * 20000, "9" * 5000, "a\x00b", "'; import os",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert grid.value(text) == text or text.startswith("9")
    (point,) = grid.points(OWN, [("s", json.dumps(text))])
    assert point.parameters == {"s": text}
    assert re.fullmatch(r"[\w.=+-]{1,120}", point.name, re.ASCII)
    assert list(tmp_path.iterdir()) == []


@given(st.dictionaries(st.sampled_from([*OWN.defaults]), ANYTHING, max_size=3))
def test_any_value_is_taken_as_what_it_is_or_refused_by_its_name(values):
    fixed = [(name, json.dumps(value)) for name, value in values.items()]
    try:
        (point,) = grid.points(OWN, fixed)
    except GridError as error:
        said = str(error)
    else:
        for name, default in OWN.defaults.items():
            if default is not None and name in values:
                assert type(point.parameters[name]) is type(default)
        assert re.fullmatch(r"own[\w.=+-]{0,120}", point.name, re.ASCII)
        return
    assert re.match(r"\w+=.* is (not of the notebook's type|larger than)", said, re.S)


@given(st.text(max_size=30))
def test_any_grid_is_an_axis_or_refused(text):
    try:
        found = grid.points(OWN, (), [text])
    except GridError as error:
        said = str(error)
    else:
        assert found
        return
    assert re.search(r"; (give|quote|did you mean|its parameters are)|larger than", said)


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=9), ANYTHING, max_size=4))
def test_a_name_is_a_file_name_on_any_system(stem, parameters):
    assert re.fullmatch(r"[\w.=+-]{0,130}", grid._name(stem, parameters), re.ASCII)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
       st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)))  # fmt: skip
def test_two_points_share_a_name_only_if_they_are_the_same(a, b):
    assert (grid._name("x", a) == grid._name("x", b)) == (a == b or not (a or b))


# points


def test_a_grid_is_a_product_of_distinct_points(chapter):
    found = grid.points(chapter, [("profile", "smoke")], ["rates=0,0.25,0.0", "seeds=0,1"])
    assert [(p.parameters["rates"], p.parameters["seeds"]) for p in found] == [
        ([0.0], [0]), ([0.0], [1]), ([0.25], [0]), ([0.25], [1])
    ]  # fmt: skip
    assert found[0].name.startswith("03_word_language_model-profile=smoke-rates=0.0-seeds=0-")
    assert len({p.name for p in found}) == 4


def test_the_same_point_written_otherwise_has_the_same_name(chapter):
    ways = ["[0.25]", "0.25", "2.5e-1", "[0.250]"]
    names = {grid.points(chapter, [("rates", way)])[0].name for way in ways}
    assert len(names) == 1


def test_lists_may_be_values(chapter):
    found = grid.points(chapter, (), ["rates=[0,0.25],[0.5]"])
    assert [p.parameters["rates"] for p in found] == [[0.0, 0.25], [0.5]]


@pytest.mark.parametrize(
    ("fixed", "axes", "said"),
    [
        ([("rate", "0.5")], [], "has no parameter 'rate'; did you mean 'rates'?"),
        ([], ["rates=0.25,1.5"], "rates=1.5 is outside"),
        ([], ["rates=much"], "rates='much' is not a list of numbers; give for example"),
        ([("profile", "fast")], [], "is unknown; choose from ['smoke', 'quick', "),
        ([("seeds", "0")], ["seeds=1,2"], "'seeds' is given twice"),
        ([], ["seeds=1", "seeds=2"], "'seeds' is given twice"),
        ([], ["seeds"], "is no axis; give for example --grid rates=0,0.25"),
        ([], ["seeds="], "is no axis"),
        ([], ["=1"], "is no axis"),
        ([("fresh", "yes")], [], "fresh='yes' is not True or False"),
        ([("results_dir", "")], [], "results_dir='' names no folder"),
        ([("lengths", "15")], [], "has no parameter 'lengths'"),
    ],
)
def test_a_wrong_parameter_is_refused_and_nothing_starts(fixed, axes, said, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [word for name, value in fixed for word in ("-p", name, value)]
    arguments += [word for axis in axes for word in ("--grid", axis)]
    assert cli.main(["run", CHAPTER, *arguments, "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--jobs", "0"], "--jobs 0 executes nothing"), (["--timeout", "soon"], "540s or 2h"),
     (["--timeout", "0s"], "timeout='0s' is no wall time")],
)  # fmt: skip
def test_a_wrong_option_is_refused(options, said, tmp_path, capsys):
    assert cli.main(["run", CHAPTER, *options, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_gpu_is_asked_for_where_it_will_be_used(chapter, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(GridError, match="torch finds no GPU here; give device='cpu'"):
        grid.points(chapter, [("device", "cuda")])
    assert grid.points(chapter, [("device", "cuda")], elsewhere=True)


def test_a_dry_run_prints_the_points_and_does_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["run", CHAPTER, "--grid", "seeds=0,1", "--out", str(out), "--dry-run"]
    assert cli.main(arguments) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith('  {"seeds": [0]}')
    assert second.startswith("03_word_language_model-seeds=1-")
    assert cli.main([*arguments, "--json"]) == 0
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [p["parameters"] for p in points] == [{"seeds": [0]}, {"seeds": [1]}]
    assert not out.exists()


def test_status_of_no_sweep_is_an_error(tmp_path, capsys):
    assert cli.main(["status", str(tmp_path)]) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_none_is_a_scheme_and_the_nothing_of_python_is_written_as_there(chapter):
    assert [grid.value(text) for text in ("none", "None", "null")] == ["none", None, None]
    (point,) = grid.points(chapter, [("schemes", "none"), ("rates", "0")])
    assert point.parameters["schemes"] == ["none"]
    assert len(grid.points(chapter, grid=["schemes=none,gal,moon"])) == 3


def test_annotated_parameters_are_parameters(tmp_path):
    source = "rate: float = 0.5\nname: str\nseed = 0\nbox.x: int = 3"
    (found,) = grid.notebooks(write(tmp_path, cell(source, "parameters")))
    assert found.defaults == {"rate": 0.5, "seed": 0}


def test_parameters_beside_a_magic_and_several_at_once_are_parameters(tmp_path):
    source = "%matplotlib inline\n!date\na, (b, c) = 1, [2, x]\nd = e = 3\nf: float = 4\ng, h = i()"
    (found,) = grid.notebooks(write(tmp_path, cell(source, "parameters")))
    assert found.defaults == dict(a=1, b=2, c=None, d=3, e=3, f=4.0, g=None, h=None)
    assert grid.points(found, [("f", "0.5")])[0].parameters == {"f": 0.5}


def test_a_literal_that_python_refuses_is_an_expression(tmp_path):
    (found,) = grid.notebooks(write(tmp_path, cell("a = {[]: 1}\nb = 2", "parameters")))
    assert found.defaults == {"a": None, "b": 2}


@pytest.mark.parametrize("text", ['s=plain,"b,c"', "l=[gal,moon],[own]"])
def test_a_grid_that_is_half_json_is_refused_and_not_torn(text):
    with pytest.raises(GridError, match="neither plain words nor JSON throughout; quote each text"):
        grid.points(OWN, (), [text])


def test_what_utf_8_cannot_write_is_refused():
    with pytest.raises(GridError, match="holds what UTF-8 cannot"):
        grid.points(OWN, [("s", '"\\ud800"')])
