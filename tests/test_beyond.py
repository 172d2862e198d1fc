"""What the paper left untested: schemes combined, other lengths, Moon's failure and Eq. 13."""

from dataclasses import replace
from statistics import geometric_mean

import pytest
import torch

from recdrop.dropout import RecurrentDropout
from recdrop.study import beyond, memory, parameters, results
from recdrop.study.conditions import COMBINED, Condition, dropout, grid

SMOKE = dict(
    profile="smoke", schemes=["semeniuta+gal"], rates=[0.5], samplings=["sequence"],
    forward=[False], seeds=[0], device="cpu", data_dir=None, fresh=False, lengths=[9],
    fading_rates=[0.1, 0.5],
)  # fmt: skip


def smoke(folder) -> parameters.Parameters:
    return parameters.read(SMOKE | {"results_dir": str(folder)})


# schemes combined


@pytest.mark.parametrize("scheme", COMBINED)
def test_a_combination_is_the_schemes_joined(scheme: str):
    joined = RecurrentDropout(scaling="paper")
    for name in scheme.split("+"):
        joined = joined | getattr(RecurrentDropout, name)(0.25, "step", "paper")
    assert dropout(scheme, 0.25, "step") == joined
    assert Condition("word_lm", scheme, 0.25, "step").recurrent_dropout == joined


@pytest.mark.parametrize("scheme", ["gal+semeniuta", "gal+gal", "none+gal", "", "+"])
def test_a_combination_has_one_name(scheme: str):
    """Else one network would have two names, and two results."""
    with pytest.raises(ValueError, match="unknown; choose one of"):
        Condition("word_lm", scheme, 0.25, "step")
    with pytest.raises(parameters.ParameterError, match="unknown; choose from"):
        parameters.read(SMOKE | {"results_dir": "runs", "schemes": [scheme]})


def test_without_a_rate_a_combination_is_the_network_without_dropout():
    (condition,) = grid("word_lm", {}, ["semeniuta+gal"], [0], ["step"])
    assert (condition.scheme, condition.recurrent_dropout.active) == ("none", False)


# where Moon's failure sets in


def test_the_trace_that_is_left_is_that_of_a_real_cell():
    """Eq. 13, from the symbol's own step to the last one, against an LSTM with open gates."""
    rate, length = 0.25, 9
    drop = RecurrentDropout.moon(rate, "sequence", "paper")
    lefts = [
        memory.fading(drop, length - written, updates=0.0)[-1].item()
        for written in range(length // 3)
    ]
    assert beyond.left(rate, length) == pytest.approx(geometric_mean(lefts), rel=1e-6)


def test_networks_of_each_length_and_rate_and_without_dropout(tmp_path):
    found = beyond.fading(smoke(tmp_path))
    assert [m["condition"]["rate"] for m in found] == [0.0, 0.1, 0.5]
    assert {m["condition"]["settings"]["length"] for m in found} == {9}
    assert not list(tmp_path.glob("*.npz")), "many networks, and nobody looks into them"


def network(rate: float, train: float, test: float, seed: int = 0) -> dict:
    condition = {"rate": rate, "seed": seed, "settings": {"length": 9}}
    return {"condition": condition, "final": {"last": {"train": train, "test": test}}}


def test_a_network_that_did_not_learn_says_nothing_of_the_test():
    made = [network(0.5, 1.0, 0.2), network(0.5, 0.5, 0.5), network(0.1, 0.3, 0.3)]
    low, high = beyond.cells(made)
    assert (low.rate, low.learned, low.trained) == (0.1, False, 1)
    assert (high.test, high.trained) == ((0.2,), 2)
    assert beyond.onset([low, high], 9) is None
    assert "| 9 | 8 | 1 of 3 | – | – | – |" in beyond.onsets(made)


def test_a_network_that_diverged_at_once_is_counted_and_has_no_figures():
    gone = network(0.5, 0, 0) | {"final": {"last": None, "best": None}}
    (cell,) = beyond.cells([gone, network(0.5, 1.0, 0.2)])
    assert (cell.test, cell.trained) == ((0.2,), 2)
    for table in (beyond.symbols([gone], "runs"), memory.phases([gone], "runs", None)):
        assert table.count("\n") == 1, "its head alone"


def test_the_table_of_onsets_has_each_seed_besides_their_mean():
    """Seed 0 falls at once and seed 1 late: the mean lies between them."""
    tests = {0: (1.0, 0.0, 0.0), 1: (1.0, 1.0, 0.0)}
    made = [
        network(rate, 1.0, test, seed)
        for seed, mine in tests.items()
        for rate, test in zip((0.1, 0.3, 0.5), mine, strict=True)
    ]
    alone = [beyond.onset(beyond.cells(made[i : i + 3]), 9)[1] for i in (0, 3)]
    rate, mean = beyond.onset(beyond.cells(made), 9)
    assert alone[1] < mean < alone[0]
    expected = f"| 9 | 8 | 6 of 6 | {rate:.2f} | {mean:.4f} | {alone[0]:.4f}, {alone[1]:.4f} |"
    assert expected in beyond.onsets(made)


def test_the_onset_lies_where_the_accuracy_is_halfway():
    """At 62.5 %, linear in the logarithm of what Eq. 13 leaves."""
    made = [beyond.Cell(9, rate, (test,), 1) for rate, test in ((0.1, 1.0), (0.5, 0.25))]
    rate, trace = beyond.onset(made, 9)
    assert trace == pytest.approx((beyond.left(0.1, 9) * beyond.left(0.5, 9)) ** 0.5)
    assert beyond.left(rate, 9) == pytest.approx(trace)
    assert beyond.onset(made[:1], 9) is None


def test_they_stay_out_of_the_papers_tables(tmp_path):
    p = smoke(tmp_path)
    beyond.fading(beyond.apart(p))
    assert results.read_all(tmp_path) == []
    assert len(results.read_all(tmp_path / results.BEYOND)) == 3


# longer sequences


def test_accuracies_at_other_lengths_are_in_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "network", lambda *_: "model")
    monkeypatch.setattr(memory, "accuracy", lambda model, length, masked: (model, length, masked))
    found = beyond.accuracies([{"name": "a"}], tmp_path, (15, 21))
    assert found == {"a": [("model", 15, False), ("model", 21, False)]}


def test_the_symbols_of_an_answer(tmp_path, monkeypatch):
    """A network that knows the first symbol and takes the second for B is right in every other."""
    p = replace(smoke(tmp_path), schemes=["moon"])
    found = beyond.longer(p)

    def knows_the_first(x):
        first = (x[: len(x) // 3] == 1).any(0).long()
        return torch.nn.functional.one_hot(2 * first + 1, 4)

    monkeypatch.setattr(memory, "network", lambda *_: knows_the_first)
    *_, row = beyond.symbols(found, tmp_path).splitlines()
    _, share, first, second = [int(cell) for cell in row.split("|")[2:-1]]
    assert first == 100
    assert 45 < share == second < 55


def test_figures_show_what_was_measured(tmp_path):
    from recdrop import figures
    from recdrop.plotted import as_csv

    p = smoke(tmp_path)
    known = [beyond.Cell(9, 0.0, (1.0,), 1), beyond.Cell(9, 0.5, (0.2, 0.4), 3)]
    unknown = [beyond.Cell(15, 0.0, (1.0,), 1), beyond.Cell(15, 0.5, (), 3)]
    data = as_csv(figures.collapse(known + unknown))
    assert f"9 symbols,{beyond.left(0.5, 9):g},0.3" in data
    assert "0.3" in as_csv(figures.phase_diagram(known + unknown))
    found = beyond.longer(replace(p, schemes=["gal"]))
    measured = beyond.accuracies(found, p.results_dir, (15, 21))
    data = as_csv(figures.longer(found, measured, (15, 21)))
    assert all(f",{value:g}" in data for value in measured[found[0]["name"]])
