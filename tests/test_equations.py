"""Eqs. 3 and 10-15 as theorems about the real layers.

All gates are forced to 1 and the candidate is the input, as the paper does by hand, so each scheme
has a closed form. State after n steps, q = 1 - p the keep probability, g_0 ... g_{n-1} the updates:

    Moon, evaluation       q^n h_0 + sum_i q^(n-i) g_i        Eq. 13: old updates fade
    Moon, inverted         q^-n h_0 + sum_i q^-(n-i) g_i      Eq. 14: kept states grow
    the paper's            h_0 + q sum_i g_i                  Eq. 15: neither
"""

import pytest
import torch
from reference import open_gates
from torch import Tensor

import recdrop
from recdrop import RecurrentDropout

T, UNITS = 12, 16
PROBABILITIES = [0.25, 0.5, 0.9]
SAMPLINGS = ["step", "sequence"]
SCALINGS = ["inverted", "paper"]


def quantised_keep(p: float) -> float:
    return 1 - round(65536 * p) / 65536


def open_lstm(drop: RecurrentDropout | None, training: bool) -> recdrop.LSTM:
    lstm = recdrop.LSTM(
        UNITS, UNITS, recurrent_dropout=drop, activation="relu", dtype=torch.float64
    )
    open_gates(lstm)
    return lstm.train(training)


def open_gru(drop: RecurrentDropout | None, training: bool) -> recdrop.GRU:
    gru = recdrop.GRU(UNITS, UNITS, recurrent_dropout=drop, activation="relu", dtype=torch.float64)
    open_gates(gru)
    return gru.train(training)


def updates(rows: int = 1) -> Tensor:
    return torch.rand(T, rows, UNITS, dtype=torch.float64) + 0.5


def start(rows: int = 1) -> Tensor:
    return torch.rand(1, rows, UNITS, dtype=torch.float64) + 0.5


def states(lstm: recdrop.LSTM, g: Tensor, h0: Tensor) -> Tensor:
    """h_1 ... h_T; as in the paper hidden and cell state start, and stay, equal."""
    h, (_, c) = lstm(g, (h0, h0))
    torch.testing.assert_close(h[-1], c[0])
    return h.detach()


def powers(base: float, g: Tensor, h0: Tensor) -> Tensor:
    """base^n h_0 + sum_i base^(n-i) g_i for n = 1 ... T, summed up term by term."""
    return torch.stack(
        [base**n * h0[0] + sum(base ** (n - i) * g[i] for i in range(n)) for n in range(1, T + 1)]
    )


def linear(factor: float, g: Tensor, h0: Tensor) -> Tensor:
    return h0 + factor * g.cumsum(0)


# Moon: memory loss


@pytest.mark.parametrize("p", PROBABILITIES)
@pytest.mark.parametrize("per", SAMPLINGS)
def test_eq_13_moon_fades_geometrically_in_evaluation(p: float, per: str):
    g, h0 = updates(), start()
    lstm = open_lstm(RecurrentDropout.moon(p, per=per, scaling="paper"), training=False)
    torch.testing.assert_close(states(lstm, g, h0), powers(quantised_keep(p), g, h0))


@pytest.mark.parametrize("p", PROBABILITIES)
def test_eqs_10_to_12_each_step_multiplies_the_state_once_more(p: float):
    g, h0 = updates(), start()
    lstm = open_lstm(RecurrentDropout.moon(p, scaling="paper"), training=False)
    h = states(lstm, g, h0)
    before = torch.cat([h0, h[:-1]])
    torch.testing.assert_close(h, quantised_keep(p) * (before + g))


@pytest.mark.parametrize("p", PROBABILITIES)
def test_eq_14_moon_per_sequence_grows_exponentially_in_training(p: float):
    g, h0 = updates(), start()
    lstm = open_lstm(RecurrentDropout.moon(p, per="sequence"), training=True)
    h = states(lstm, g, h0)
    kept = h[-1] > 0
    assert kept.any()
    assert not kept.all()
    torch.testing.assert_close(h, powers(1 / quantised_keep(p), g, h0) * kept)


@pytest.mark.parametrize("p", PROBABILITIES)
def test_eq_14_moon_per_step_is_lost_or_has_grown(p: float):
    """With no updates, each unit is either forgotten for good or q^-n times its start."""
    h0 = start(rows=200)
    lstm = open_lstm(RecurrentDropout.moon(p, per="step"), training=True)
    h = states(lstm, torch.zeros(T, 200, UNITS, dtype=torch.float64), h0)
    alive = torch.ones_like(h0[0], dtype=torch.bool)
    for n in range(T):
        survivors = h[n] > 0
        assert not (survivors & ~alive).any()
        expected = quantised_keep(p) ** -(n + 1) * h0[0] * survivors
        torch.testing.assert_close(h[n], expected)
        alive = survivors


@pytest.mark.parametrize("p", PROBABILITIES)
def test_moon_per_sequence_trains_on_other_states_than_it_is_evaluated_on(p: float):
    """Eq. 3: a kept unit never fades in training, yet q^n of it is left in evaluation."""
    g, h0 = updates(), start()
    drop = RecurrentDropout.moon(p, per="sequence", scaling="paper")
    h = states(open_lstm(drop, training=True), g, h0)
    kept = h[-1] > 0
    assert kept.any()
    assert not kept.all()
    torch.testing.assert_close(h, linear(1, g, h0) * kept)
    assert (states(open_lstm(drop, training=False), g, h0)[-1] < linear(1, g, h0)[-1]).all()


# the paper's own scheme: none


@pytest.mark.parametrize("p", PROBABILITIES)
@pytest.mark.parametrize("per", SAMPLINGS)
def test_eq_15_own_scheme_does_not_fade(p: float, per: str):
    """As printed, Eq. 15 has q h_0; by Eq. 9 h_0 is never dropped and stands whole."""
    g, h0 = updates(), start()
    lstm = open_lstm(RecurrentDropout.semeniuta(p, per=per, scaling="paper"), training=False)
    torch.testing.assert_close(states(lstm, g, h0), linear(quantised_keep(p), g, h0))


@pytest.mark.parametrize("p", PROBABILITIES)
@pytest.mark.parametrize("per", SAMPLINGS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_own_scheme_keeps_what_it_stored(p: float, per: str, scaling: str):
    """In training each step adds its update or nothing; what was there stays to the last bit."""
    g, h0 = updates(rows=5), start(rows=5)
    h = states(
        open_lstm(RecurrentDropout.semeniuta(p, per=per, scaling=scaling), training=True), g, h0
    )
    before = torch.cat([h0, h[:-1]])
    kept = h != before
    assert kept.any()
    assert not kept.all()
    scale = 1 / quantised_keep(p) if scaling == "inverted" else 1
    torch.testing.assert_close(h, before + scale * g * kept)
    if per == "sequence":
        assert torch.equal(kept, kept[:1].expand_as(kept))


# Gal and vanilla networks: not concerned


@pytest.mark.parametrize("p", PROBABILITIES)
@pytest.mark.parametrize("per", SAMPLINGS)
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_gal_never_touches_the_cell_state(p: float, per: str, scaling: str, training: bool):
    g, h0 = updates(), start()
    lstm = open_lstm(RecurrentDropout.gal(p, per=per, scaling=scaling), training)
    torch.testing.assert_close(states(lstm, g, h0), linear(1, g, h0))


@pytest.mark.parametrize("p", PROBABILITIES)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_gal_in_evaluation_is_a_plain_network_with_smaller_recurrent_weights(p: float, kind: str):
    """One factor q per step, which the weights absorb: no power of q ever appears. For the vanilla
    RNN (Eq. 2) that is its only dropout, so Eq. 13 does not concern it."""
    drop = RecurrentDropout.gal(p, scaling="paper")
    ours = getattr(recdrop, kind)(3, UNITS, recurrent_dropout=drop, dtype=torch.float64).eval()
    plain = getattr(torch.nn, kind)(3, UNITS, dtype=torch.float64)
    plain.load_state_dict(ours.state_dict())
    with torch.no_grad():
        plain.weight_hh_l0 *= quantised_keep(p)
    x = torch.randn(T, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x)[0], plain(x)[0])


def test_vanilla_network_overwrites_its_state():
    """Without recurrent weights, nothing of h_0 is left to lose, dropped or not."""
    drop = RecurrentDropout.gal(0.5)
    rnn = recdrop.RNN(3, UNITS, recurrent_dropout=drop, dtype=torch.float64)
    with torch.no_grad():
        rnn.weight_hh_l0.zero_()
    x = torch.randn(T, 2, 3, dtype=torch.float64)
    zero, one = torch.zeros(1, 2, UNITS).double(), torch.ones(1, 2, UNITS).double()
    assert torch.equal(rnn(x, zero)[0], rnn(x, one)[0])


# GRU: the same idea on the candidate


@pytest.mark.parametrize("p", PROBABILITIES)
@pytest.mark.parametrize(("scheme", "state", "update"), [("moon", True, True),
                                                         ("semeniuta", False, True),
                                                         ("gal", False, False)])  # fmt: skip
def test_gru_in_evaluation(p: float, scheme: str, state: bool, update: bool):
    """With z = 1/2: h = q^state h_{-1} / 2 + q^update g / 2. Only Moon fades faster."""
    g, h0 = updates(), start()
    drop = getattr(RecurrentDropout, scheme)(p, scaling="paper")
    h, _ = open_gru(drop, training=False)(g, h0)
    q = quantised_keep(p)
    before = torch.cat([h0, h[:-1]])
    torch.testing.assert_close(h, (q if state else 1) * before / 2 + (q if update else 1) * g / 2)


@pytest.mark.parametrize("per", SAMPLINGS)
def test_gru_own_scheme_keeps_the_gates_share(per: str):
    g, h0 = updates(rows=5), start(rows=5)
    h, _ = open_gru(RecurrentDropout.semeniuta(0.5, per=per), training=True)(g, h0)
    kept = h != torch.cat([h0, h[:-1]]) / 2
    assert kept.any()
    assert not kept.all()
    torch.testing.assert_close(h, torch.cat([h0, h[:-1]]) / 2 + 2 * g * kept / 2)


# Eqs. 3 and 14: evaluation stands for the mean of training


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(
    ("scheme", "per", "agrees"),
    [
        ("semeniuta", "step", True),
        ("semeniuta", "sequence", True),
        ("moon", "step", True),
        ("moon", "sequence", False),  # m * m = m: the mean of a product is not the product of means
    ],
)
def test_evaluation_is_the_mean_of_training(scheme: str, per: str, agrees: bool, scaling: str):
    """True of everything but Moon per sequence, which is where Table 1's failure comes from."""
    rows = 4000
    drop = getattr(RecurrentDropout, scheme)(0.25, per=per, scaling=scaling)
    g, h0 = updates().expand(T, rows, UNITS), start().expand(1, rows, UNITS)
    trained = states(open_lstm(drop, training=True), g, h0)
    evaluated = states(open_lstm(drop, training=False), g, h0)[:, 0]
    z = (trained.mean(1) - evaluated) / (trained.std(1) / rows**0.5)
    after = slice(1, None)  # one step alone is always unbiased
    assert (z.abs() < 5).all() if agrees else (z[after].abs() > 5).all()


@pytest.mark.parametrize("scheme", ["semeniuta", "gal", "moon"])
def test_inverted_scaling_leaves_evaluation_alone(scheme: str):
    g, h0 = updates(), start()
    drop = getattr(RecurrentDropout, scheme)(0.5)
    torch.testing.assert_close(states(open_lstm(drop, training=False), g, h0), linear(1, g, h0))


@pytest.mark.parametrize("p", [0.3, 0.1, 1 / 3])
def test_scales_use_the_quantised_rate(p: float):
    """A mask keeps 1 - round(65536 p) / 65536 of the units; a scale by 1 - p would be biased."""
    g, h0 = updates(), start()
    q = quantised_keep(p)
    assert abs(q - (1 - p)) > 1e-7, "a rate that is no multiple of 1/65536"
    inverted = states(open_lstm(RecurrentDropout.semeniuta(p), training=True), g, h0)
    first = (inverted[0] - h0[0]) / g[0]
    torch.testing.assert_close(first, (first > 0).double() / q, rtol=1e-12, atol=1e-12)
    paper = states(open_lstm(RecurrentDropout.semeniuta(p, scaling="paper"), training=False), g, h0)
    torch.testing.assert_close(paper, linear(q, g, h0), rtol=1e-12, atol=1e-12)
