"""What the paper left untested: schemes combined, other lengths, Moon's failure and Eq. 13."""

from dataclasses import replace
from statistics import geometric_mean

import pytest

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


def test_they_stay_out_of_the_papers_tables(tmp_path):
    p = smoke(tmp_path)
    beyond.fading(beyond.apart(p))
    assert results.read_all(tmp_path) == []
    assert len(results.read_all(tmp_path / beyond.BEYOND)) == 3


# longer sequences


def test_trained_networks_are_tested_at_other_lengths(tmp_path):
    p = replace(smoke(tmp_path), schemes=["gal"])
    found = beyond.longer(p)
    lengths = (15, 21)
    accuracies = beyond.accuracies(found, p.results_dir, lengths)
    (values,) = accuracies.values()
    assert len(values) == len(lengths)
    assert all(0 <= v <= 1 for v in values)
