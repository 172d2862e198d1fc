"""A notebook's parameters: what is accepted, and what is said of everything else."""

import re
from pathlib import Path

import chapters
import pytest
from hypothesis import given
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from recdrop.study import files, parameters, run
from recdrop.study.conditions import SCHEMES
from recdrop.study.parameters import ParameterError

GOOD = dict(
    profile="quick", schemes=["semeniuta", "gal"], rates=[0.25], samplings=["step"],
    forward=[False], seeds=[0], device="cpu", data_dir=None, results_dir="book/results",
    fresh=False,
)  # fmt: skip
anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(), st.none())),
    st.dictionaries(st.text(), st.integers(), max_size=2),
)  # fmt: skip


def read(**changes) -> parameters.Parameters:
    return parameters.read(GOOD | changes)


def injected(values: dict, **cells) -> parameters.Parameters:
    """As papermill does it: a cell of assignments, after the notebook's own."""
    cell = PythonTranslator.codify(values)
    return parameters.read(GOOD | values | {"In": ["", "rates = [0.25]", cell, "read()"]} | cells)


def test_a_gpu_must_be_there(monkeypatch):
    monkeypatch.setattr(parameters.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match="device='cuda', but torch finds no GPU here"):
        read(device="cuda")
    monkeypatch.setattr(parameters.torch.cuda, "is_available", lambda: True)
    assert read(device="cuda").device == "cuda"


def test_good_values_are_taken_as_they_are():
    p = read()
    assert (p.profile, p.schemes, p.rates) == ("quick", ["semeniuta", "gal"], [0.25])
    assert (p.samplings, p.forward, p.seeds, p.lengths) == (["step"], [False], [0], [15])
    assert (p.device, p.data_dir, p.fresh) == ("cpu", None, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schemes", "gal"), ("rates", 0.5), ("samplings", "sequence"), ("forward", True),
        ("seeds", 3), ("lengths", 30),
    ],
)  # fmt: skip
def test_a_scalar_becomes_a_list_of_one(name, value):
    assert getattr(read(**{name: value}), name) == [value]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("schemes", '["gal", "moon"]', ["gal", "moon"]),
        ("rates", "[0, 0.25]", [0.0, 0.25]),
        ("rates", "  [0.5]  ", [0.5]),
        ("forward", "[true, false]", [True, False]),
        ("seeds", "[0, 1, 2]", [0, 1, 2]),
        ("lengths", "[15, 30]", [15, 30]),
    ],
)
def test_a_list_may_be_json_text(name, text, expected):
    assert getattr(read(**{name: text}), name) == expected


def test_whole_numbers_are_rates_and_become_floats():
    rates = read(rates=[0, 0.5]).rates
    assert rates == [0.0, 0.5]
    assert all(type(r) is float for r in rates)


def test_tuples_are_lists():
    assert read(seeds=(0, 1)).seeds == [0, 1]


@pytest.mark.parametrize("value", [None, ""])
def test_no_folder_of_data_is_none(value):
    assert read(data_dir=value).data_dir is None


def test_folders_may_be_paths(tmp_path):
    p = read(data_dir=tmp_path, results_dir=tmp_path)
    assert p.data_dir == p.results_dir == str(tmp_path)


# wrong values: each names the parameter, the value and a remedy


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("profile", "fast", "choose from ['smoke', 'quick', 'reduced', 'paper']"),
        ("profile", ["quick"], "is not a string"),
        ("profile", None, "is not a string"),
        ("device", "tpu", "choose from ['cpu', 'cuda']"),
        ("fresh", "yes", "is not True or False"),
        ("fresh", 1, "is not True or False"),
        ("results_dir", None, "is not a string"),
        ("data_dir", 3, "is not a string"),
        ("schemes", [], 'give for example schemes=["gal"]'),
        ("schemes", None, 'give for example schemes=["gal"]'),
        ("schemes", [0.5], 'give for example schemes=["gal"]'),
        ("samplings", True, 'give for example samplings=["step"]'),
        ("rates", "much", "give for example rates=[0.25]"),
        ("rates", "0.5", "give for example rates=[0.25]"),
        ("rates", [True], "give for example rates=[0.25]"),
        ("rates", [[0.5]], "give for example rates=[0.25]"),
        ("rates", [0.5, None], "give for example rates=[0.25]"),
        ("rates", "[0.5", "give for example rates=[0.25]"),
        ("rates", {0.5: 1}, "give for example rates=[0.25]"),
        ("seeds", 1.0, "give for example seeds=[0, 1, 2]"),
        ("seeds", [0, True], "give for example seeds=[0, 1, 2]"),
        ("seeds", [0, 0.5], "give for example seeds=[0, 1, 2]"),
        ("lengths", "15", "give for example lengths=[15]"),
        ("forward", "no", "give for example forward=[False]"),
        ("forward", 0, "give for example forward=[False]"),
    ],
)
def test_a_wrong_value_is_named_with_a_remedy(name, value, remedy):
    with pytest.raises(ParameterError) as caught:
        read(**{name: value})
    said = str(caught.value)
    assert said.startswith(f"{name}={value!r}")
    assert remedy in said


@pytest.mark.parametrize(
    ("name", "values", "bad"),
    [
        ("schemes", ["gal", "gall"], "'gall'"),
        ("schemes", "[gal]", "'[gal]'"),
        ("samplings", ["step", "steps"], "'steps'"),
    ],
)
def test_the_unknown_one_of_a_list_is_named(name, values, bad):
    with pytest.raises(ParameterError, match=rf"{name}={re.escape(bad)} is unknown; choose from"):
        read(**{name: values})


@pytest.mark.parametrize("rate", [1.0, -0.1, 1.5, float("nan"), float("inf"), 0.999999])
def test_a_rate_out_of_range_is_named(rate):
    with pytest.raises(ParameterError, match=rf"rates={re.escape(repr(rate))} .*0\."):
        read(rates=[0.25, rate])


@pytest.mark.parametrize("seed", [2**64, -(2**64), 10**30])
def test_a_seed_that_no_generator_takes_is_named(seed):
    with pytest.raises(ParameterError, match=f"seeds={seed}"):
        read(seeds=[0, seed])


@pytest.mark.parametrize("length", [0, -15, 7, 16])
def test_a_length_without_thirds_is_named(length):
    with pytest.raises(ParameterError, match=f"lengths={length}"):
        read(lengths=[15, length])


def test_an_empty_results_folder_is_not_the_projects_root():
    with pytest.raises(ParameterError, match="results_dir=''"):
        read(results_dir="")


@given(st.sampled_from(sorted(GOOD)), anything)
def test_any_value_is_taken_or_refused_by_its_name(name, value):
    try:
        p = read(**{name: value})
    except ParameterError as error:
        said = str(error)
    else:
        assert set(p.schemes) <= set(SCHEMES)
        assert all(0 <= rate < 1 for rate in p.rates)
        assert all(type(seed) is int for seed in p.seeds)
        return
    assert said.startswith(f"{name}=")
    assert re.search(r"; |is not", said)


# misspelt names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("rate", "rates"), ("Rates", "rates"), ("seed", "seeds"), ("scheme", "schemes"),
        ("result_dir", "results_dir"), ("length", "lengths"), ("profil", "profile"),
    ],
)  # fmt: skip
def test_an_unknown_name_gets_a_suggestion(name, meant):
    with pytest.raises(ParameterError, match=f"unknown parameter '{name}'; did you mean '{meant}'"):
        injected({name: 1})


def test_a_name_like_none_gets_the_list():
    with pytest.raises(ParameterError, match="unknown parameter 'xyzzy'; the parameters are"):
        injected({"xyzzy": 1})


def test_known_names_pass_as_papermill_writes_them():
    values = {"rates": [0, 0.5], "data_dir": None, "fresh": True, "seeds": "[1, 2]"}
    p = injected(values)
    assert (p.rates, p.data_dir, p.fresh, p.seeds) == ([0.0, 0.5], None, True, [1, 2])


def test_a_wrong_name_among_right_ones_is_found():
    with pytest.raises(ParameterError, match="'sampling'; did you mean 'samplings'"):
        injected({"rates": [0.5], "sampling": "step"})


def test_the_notebooks_other_variables_are_its_own():
    read(model="anything", rate="a variable of the notebook's", np=None)


def test_what_a_notebook_imports_is_no_parameter_of_it():
    """Chapter 1 imports a module `cells`, which is a parameter elsewhere."""
    own = 'profile = "quick"\nrates = [0.25]'
    p = injected({"rates": [0.5]}, In=["", own, "# Parameters\nrates = [0.5]"], cells=parameters)
    assert p.cells == parameters.OPTIONAL["cells"]
    assert read(cells=parameters).cells == parameters.OPTIONAL["cells"], "a kernel without history"
    own += '\ncells = ["gru"]'
    assert injected({"rates": [0.5]}, In=["", own], cells=["gru"]).cells == ["gru"]


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("at_once", 0, "give 1 or more, or None"), ("at_once", "two", "not a whole number"),
        ("cells", ["lstn"], "choose from"), ("vectors", 3, "not a string"),
    ],
)  # fmt: skip
def test_parameters_of_some_notebooks_are_checked_too(name, value, remedy):
    with pytest.raises(ParameterError, match=f"{name}=.*{remedy}"):
        read(**{name: value})
    assert read(at_once=2, vectors="a.bin", cells="rnn").at_once == 2


def test_a_refusal_is_a_value_error():
    assert issubclass(ParameterError, ValueError)


# folders


def test_folders_start_at_the_projects_root_wherever_a_kernel_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.from_root("book/results") == files.ROOT / "book" / "results"
    p = read(data_dir="corpora", results_dir="runs/results")
    assert files.from_root(p.results_dir) == files.ROOT / "runs" / "results"
    assert Path(p.data_dir) == files.ROOT / "corpora"


def test_absolute_and_home_folders_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.from_root(tmp_path) == tmp_path
    assert files.from_root("~/results") == tmp_path / "results"


def test_a_notebooks_parameters_reach_the_training(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "train", lambda *a, **k: seen.append((a, k)) or [])
    p = chapters.parameters(tmp_path, fresh=True, at_once=2, seeds=[0, 5], forward=[False, True])
    run.word_lm(p)
    ((task, asked, folder, fresh), options) = seen[0]
    assert (folder, fresh, options) == (str(tmp_path), True, {"at_once": 2, "device": "cpu"})
    assert {(c.seed, c.forward) for c in asked} == {(0, False), (0, True), (5, False), (5, True)}
    run.temporal_order(chapters.parameters(tmp_path), inverted=[("moon", "sequence")])
    asked = seen[1][0][1]
    assert [(c.scheme, c.per, c.scaling) for c in asked] == [
        ("gal", "step", "paper"), ("moon", "sequence", "inverted"),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [-1, 2**63])
def test_a_seed_out_of_range(value):
    with pytest.raises(ParameterError, match=f"seeds={value}"):
        read(seeds=[0, value])


def test_a_fading_rate_out_of_range():
    with pytest.raises(ParameterError, match="fading_rates=1.5 is outside"):
        read(fading_rates=[0.5, 1.5])


def test_a_rate_larger_than_any_float_is_refused():
    with pytest.raises(ParameterError, match="rates holds a number larger than any float"):
        read(rates=[10**400])
