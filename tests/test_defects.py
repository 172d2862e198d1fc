"""Defects seen in other implementations of recurrent dropout, each tested not to be ours."""

import pytest
import torch
from reference import open_gates
from torch import Tensor

import recdrop
from recdrop import RecurrentDropout

UNITS = 24
SCHEMES = {
    "update": RecurrentDropout.semeniuta,
    "hidden": RecurrentDropout.gal,
    "cell": RecurrentDropout.moon,
}
PLACES = [(kind, site) for kind in ("LSTM", "GRU") for site in SCHEMES] + [("RNN", "hidden")]
every_place = pytest.mark.parametrize(("kind", "site"), PLACES)
every_sampling = pytest.mark.parametrize("per", ["step", "sequence"])


def layer(kind: str, site: str, rate: float = 0.5, per: str = "step", **options) -> torch.nn.Module:
    return getattr(recdrop, kind)(
        4, UNITS, recurrent_dropout=SCHEMES[site](rate, per=per), dtype=torch.float64, **options
    )


def data(T: int = 5, B: int = 3) -> Tensor:
    return torch.randn(T, B, 4, dtype=torch.float64)


def opened(drop: RecurrentDropout) -> recdrop.LSTM:
    lstm = recdrop.LSTM(
        UNITS, UNITS, recurrent_dropout=drop, activation="relu", dtype=torch.float64
    )
    open_gates(lstm)
    return lstm


def ones(T: int = 5, B: int = 40) -> Tensor:
    return torch.ones(T, B, UNITS, dtype=torch.float64)


# masks that gradients ignore


def test_gradients_see_the_update_mask():
    """A unit whose update is dropped for the whole sequence teaches its candidate nothing."""
    lstm = opened(RecurrentDropout.semeniuta(0.5, per="sequence"))
    h, _ = lstm(ones(B=1))
    dropped = h[-1, 0] == 0
    h.sum().backward()
    gradient = lstm.bias_ih_l0.grad[2 * UNITS : 3 * UNITS]
    assert dropped.any()
    assert not dropped.all()
    assert torch.equal(gradient == 0, dropped)


def test_gradients_see_the_hidden_mask():
    """A unit nobody reads gives its outgoing recurrent weights no gradient."""
    rnn = layer("RNN", "hidden", per="sequence")
    h0 = torch.ones(1, 1, UNITS, dtype=torch.float64, requires_grad=True)
    rnn(data(T=1, B=1), h0)[0].sum().backward()
    dropped = h0.grad[0, 0] == 0
    assert dropped.any()
    assert not dropped.all()
    assert torch.equal((rnn.weight_hh_l0.grad == 0).all(0), dropped)


def test_gradients_see_the_cell_mask():
    """A state that is dropped passes no gradient to the state before it."""
    lstm = opened(RecurrentDropout.moon(0.5, per="step"))
    c0 = torch.ones(1, 1, UNITS, dtype=torch.float64, requires_grad=True)
    h, _ = lstm(ones(T=1, B=1), (torch.zeros_like(c0), c0))
    h.sum().backward()
    dropped = h[0, 0] == 0
    assert dropped.any()
    assert not dropped.all()
    assert torch.equal(c0.grad[0, 0], 2.0 * ~dropped)


@every_place
@every_sampling
def test_gradients_equal_finite_differences_under_the_same_masks(kind: str, site: str, per: str):
    module = layer(kind, site, per=per)
    x = data(T=3, B=2).requires_grad_()

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        torch.manual_seed(4)
        named = dict(zip(dict(module.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(module, named, (x,))[0]

    assert torch.autograd.gradcheck(run, (x, *module.parameters()), fast_mode=True)


# masks broadcast over the batch


@every_place
@every_sampling
def test_each_row_has_its_own_mask(kind: str, site: str, per: str):
    x = data(B=1).expand(5, 6, 4)
    h, _ = layer(kind, site, per=per)(x)
    for row in range(1, 6):
        assert not torch.allclose(h[:, row], h[:, 0])


@pytest.mark.parametrize("scheme", ["semeniuta", "moon"])
def test_each_row_and_unit_is_dropped_by_itself(scheme: str):
    h, _ = opened(getattr(RecurrentDropout, scheme)(0.5, per="sequence"))(ones())
    dropped = (h[-1] == 0).double()
    for axis in (0, 1):
        assert 0 < dropped.mean(axis).min()
        assert dropped.mean(axis).max() < 1


# masks still on in evaluation


@every_place
@every_sampling
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
def test_evaluation_is_deterministic(kind: str, site: str, per: str, scaling: str):
    drop = SCHEMES[site](0.5, per=per, scaling=scaling)
    module = getattr(recdrop, kind)(4, UNITS, recurrent_dropout=drop).eval()
    x = torch.randn(5, 3, 4)
    state = torch.get_rng_state()
    first, second = module(x)[0], module(x)[0]
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state), "evaluation draws no random numbers"


@every_place
@every_sampling
def test_evaluation_is_the_plain_network(kind: str, site: str, per: str):
    module = layer(kind, site, per=per).eval()
    plain = getattr(torch.nn, kind)(4, UNITS, dtype=torch.float64)
    plain.load_state_dict(module.state_dict())
    x = data()
    assert torch.equal(module(x)[0], plain(x)[0])


@every_place
def test_train_switches_masks_back_on(kind: str, site: str):
    module, x = layer(kind, site), data()
    evaluated = module.eval()(x)[0]
    assert not torch.allclose(module.train()(x)[0], evaluated)


# dropped weights that never recover


@every_place
@every_sampling
def test_weights_are_never_masked_in_place(kind: str, site: str, per: str):
    module = layer(kind, site, per=per)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for _ in range(3):
        module(data())[0].sum().backward()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("scheme", ["semeniuta", "moon"])
def test_a_dropped_unit_returns_in_a_later_call(scheme: str):
    lstm = opened(getattr(RecurrentDropout, scheme)(0.5, per="sequence"))
    alive = torch.stack([lstm(ones(B=1))[0][-1, 0] > 0 for _ in range(40)])
    assert alive.any(0).all()
    assert not alive.all(0).any()


# mask not resampled


@every_place
@every_sampling
def test_each_call_draws_new_masks(kind: str, site: str, per: str):
    module, x = layer(kind, site, per=per), data()
    assert not torch.allclose(module(x)[0], module(x)[0])


@pytest.mark.parametrize("per", ["step", "sequence"])
def test_masks_change_with_the_step_or_stay_for_the_sequence(per: str):
    h, _ = opened(RecurrentDropout.semeniuta(0.5, per=per))(ones(T=6, B=4))
    kept = h.diff(dim=0, prepend=torch.zeros_like(h[:1])) > 0
    for t in range(1, 6):
        assert torch.equal(kept[t], kept[0]) == (per == "sequence")


# p silently ignored


@every_place
@every_sampling
def test_every_rate_has_its_own_effect(kind: str, site: str, per: str):
    x, outputs = data(), []
    for rate in (0.0, 0.25, 0.5, 0.75):
        torch.manual_seed(2)
        outputs.append(layer(kind, site, rate, per)(x)[0])
    for k, a in enumerate(outputs):
        for b in outputs[:k]:
            assert not torch.allclose(a, b)


@every_place
@every_sampling
def test_every_layer_and_direction_drops(kind: str, site: str, per: str):
    """Cut off from their inputs, all four still change from call to call: by their own masks."""
    module = layer(kind, site, per=per, num_layers=2, bidirectional=True)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("weight_ih"):
                parameter.zero_()
    first, second = module(data())[1], module(data())[1]
    if kind == "LSTM":
        first, second = first[0], second[0]
    for k in range(4):
        assert not torch.allclose(first[k], second[k])


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
@every_sampling
def test_the_dropped_share_is_p(rate: float, per: str):
    h, _ = opened(RecurrentDropout.semeniuta(rate, per=per))(ones(T=1, B=500))
    n = h.numel()
    assert abs((h == 0).sum() - n * rate) < 5 * (n * rate * (1 - rate)) ** 0.5


# a scheme cited but another implemented


def traces(scheme: str, T: int = 8) -> tuple[Tensor, Tensor]:
    """States with gates at 1, updates at 1 and no scale: (before, after) of each step."""
    drop = getattr(RecurrentDropout, scheme)(0.5, per="step", scaling="paper")
    start = torch.full((1, 40, UNITS), 3.0, dtype=torch.float64)
    h, _ = opened(drop)(ones(T), (start, start))
    return torch.cat([start, h[:-1]]), h


def test_semeniuta_drops_the_update_and_nothing_else():
    before, after = traces("semeniuta")
    assert set((after - before).unique().tolist()) == {0.0, 1.0}


def test_moon_drops_the_whole_state():
    before, after = traces("moon")
    kept = after > 0
    assert 0.4 < kept.double().mean() < 0.6
    assert torch.equal(after, kept * (before + 1))


def test_gal_drops_what_the_gates_read_and_nothing_else():
    before, after = traces("gal")
    assert torch.equal(after, before + 1)


@every_sampling
def test_gal_reads_one_mask_in_all_gates(per: str):
    """Eq. 7's tied variant: with equal recurrent matrices all four blocks recall the same sum."""
    lstm = layer("LSTM", "hidden", per=per)
    h0 = torch.ones(1, 1, UNITS, dtype=torch.float64)
    lstm(data(T=1, B=1), (h0, h0))[0].sum().backward()
    seen = lstm.weight_hh_l0.grad.view(4, UNITS, UNITS).abs().sum(1) > 0
    assert not seen.all()
    assert seen.any()
    assert torch.equal(seen, seen[:1].expand_as(seen))


# state scaled by 1/(1-p) at each step without anyone noticing


@pytest.mark.parametrize("scheme", ["semeniuta", "gal"])
@every_sampling
def test_a_stored_state_is_not_rescaled(scheme: str, per: str):
    lstm = opened(getattr(RecurrentDropout, scheme)(0.5, per=per))
    start = torch.rand(1, 40, UNITS, dtype=torch.float64)
    h, _ = lstm(0 * ones(T=50), (start, start))
    assert torch.equal(h, start.expand_as(h))


def test_a_gru_state_is_not_rescaled():
    gru = recdrop.GRU(
        UNITS, UNITS, recurrent_dropout=RecurrentDropout(0.5, 0.5), dtype=torch.float64
    )
    open_gates(gru)
    with torch.no_grad():
        gru.bias_ih_l0[UNITS : 2 * UNITS] = 40  # z = 1: hold
    start = torch.rand(1, 40, UNITS, dtype=torch.float64)
    h, _ = gru(ones(T=50), start)
    assert torch.equal(h, start.expand_as(h))


@pytest.mark.parametrize("scheme", ["semeniuta", "moon"])
def test_the_scale_is_applied_once(scheme: str):
    h, _ = opened(getattr(RecurrentDropout, scheme)(0.75, per="step"))(ones(T=1))
    assert set(h.unique().tolist()) == {0.0, 4.0}


# a rate that is changed and silently stays what it was


def test_a_new_rate_of_forward_dropout_counts():
    drop, x = recdrop.Dropout(0.5), torch.ones(100, 8)
    drop.p = 0.0
    assert torch.equal(drop(x), x)
    drop.p = 0.75
    assert set(drop(x).unique().tolist()) == {0.0, 4.0}
    with pytest.raises(ValueError, match=r"p=1.5 is outside \[0, 1\)"):
        drop.p = 1.5
    assert (drop.p, float(drop(x).max())) == (0.75, 4.0)
