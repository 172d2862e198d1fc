"""How long networks guess before they begin to learn, and what tells it before they do."""

import math
from dataclasses import replace
from statistics import geometric_mean

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recdrop import figures
from recdrop.plotted import as_csv
from recdrop.study import plateau, precision, results
from recdrop.study.conditions import Condition, grid
from recdrop.study.plateau import Start
from recdrop.study.replicas import Replicas
from recdrop.tasks.temporal_order import Classifier, TemporalOrder


def condition(
    scheme: str, per: str = "step", length: int = 3, seed: int = 0, scaling: str = "paper", **more
) -> Condition:
    settings = TemporalOrder("paper", length).settings | more
    rate = 0.0 if scheme == "none" else 0.5
    return Condition("temporal_order", scheme, rate, per, False, seed, scaling, settings)


def manifest(c: Condition, *train: float | None) -> dict:
    curve = [{"epoch": n, "train": value} for n, value in enumerate(train, 1)]
    return {
        "name": c.name,
        "protocol": c.settings["protocol"],
        "condition": vars(c),
        "curve": curve,
    }


def untrained(c: Condition) -> Classifier:
    task = TemporalOrder(c.settings, c.settings["length"])
    return task.network(c.recurrent_dropout, False, c.seed).double()


def trace(c: Condition, count: int = 600) -> float:
    return plateau.measure(c, count)[0]


EVERYTHING = torch.cartesian_prod(*torch.tensor([[0, 1], [0, 1], [2, 3]])).T  # (3, 8)
"""The sequences of three symbols: A or B, A or B, and C or D."""


def states(network: Classifier, masks: int = 1) -> Tensor:
    """(8, H): the last states that a network ends EVERYTHING in, in the mean over masks."""
    last = network.recurrent(network.one_hot(EVERYTHING.repeat(1, masks)))[0][-1]
    return last.unflatten(0, (masks, 8)).mean(0)


# the trace


def test_without_dropout_the_trace_is_that_of_torchs_own_lstm():
    """Of three symbols the second is the last A or B."""
    exact = nn.LSTM(4, 256).double()
    exact.load_state_dict(untrained(condition("none", "none")).recurrent.state_dict())
    last = exact(torch.eye(4).double()[EVERYTHING])[0][-1]
    expected = (last[EVERYTHING[1] == 1] - last[EVERYTHING[1] == 0]).mean(0).norm().item()
    assert trace(condition("none", "none")) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("scheme", "per", "left"),
    [("semeniuta", "step", 1 / 2), ("semeniuta", "sequence", 1 / 2),
     ("moon", "step", 1 / 4), ("moon", "sequence", 1 / 2)],
)  # fmt: skip
def test_what_masks_leave_of_the_trace(scheme: str, per: str, left: float):
    """Of three symbols the second is the last A or B: the update is masked once, the cell at its
    step and at the one behind, by one mask where masks are those of a sequence."""
    share = trace(condition(scheme, per)) / trace(condition("none", "none"))
    assert share == pytest.approx(left, rel=0.03)


@pytest.mark.parametrize(("scheme", "error"), [("gal", 0.03), ("semeniuta", 0.03), ("moon", 0.1)])
def test_evaluation_has_the_mean_over_masks_of_steps(
    scheme: str, error: float, monkeypatch: pytest.MonkeyPatch
):
    c = condition(scheme, length=9)
    expected, train = plateau.measure(c), nn.Module.train
    monkeypatch.setattr(nn.Module, "train", lambda self, mode=True: train(self, True))
    assert plateau.measure(c, 2000) == pytest.approx(expected, rel=error)


def test_measuring_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    first = plateau.measure(condition("gal"), 100)
    assert torch.equal(torch.get_rng_state(), before)
    assert plateau.measure(condition("gal"), 100) == first


# what gradient descent makes of it


@pytest.mark.parametrize("scheme", ["none", "gal", "semeniuta", "moon"])
def test_what_a_guessing_network_learns_from_is_what_the_derivation_has(scheme: str):
    """The mean gradient of the loss over all sequences, under masks' means: u / 2 for the read-out
    along the trace, r / 8 times that of the trace for the layer's weights."""
    c = condition(scheme, "none" if scheme == "none" else "step")
    u, sensitivity = plateau.measure(c)
    network = untrained(c).eval()
    with torch.no_grad():
        last = states(network)
        along = F.normalize((last[EVERYTHING[1] == 1] - last[EVERYTHING[1] == 0]).mean(0), dim=0)
        sign = torch.tensor([-1.0, 1.0, -1.0, 1.0]).double()  # of AA, AB, BA, BB: the last symbol
        r = 1e-4
        network.readout.weight.copy_(sign[:, None] * along * r / 4)
        network.readout.bias.zero_()
    F.cross_entropy(network.readout(states(network)), 2 * EVERYTHING[0] + EVERYTHING[1]).backward()
    assert -(sign @ network.readout.weight.grad) @ along == pytest.approx(u / 2, rel=0.02)
    trained = [v.grad for v in network.recurrent.parameters() if v.requires_grad]
    norm = math.sqrt(sum(g.square().sum().item() for g in trained))
    assert norm == pytest.approx(r / 8 * u * math.sqrt(sensitivity), rel=0.02)


@pytest.mark.parametrize(("u", "sensitivity"), [(1e-2, 7.0), (1e-4, 20.0)])
def test_read_out_and_trace_leave_all_bounds_when_the_formula_says(u: float, sensitivity: float):
    lr, start, r, updates = 0.1, u, 0.0, 0.0
    while u < 1e6 * start:
        step = 1e-4 / (lr * u)  # of time: the faster they grow, the shorter
        r, u = r + step * lr * u / 2, u + step * lr * sensitivity * r * u * u / 8
        updates += step
    assert plateau.updates_at_chance(start, sensitivity, lr) == pytest.approx(updates, rel=1e-3)


@pytest.mark.parametrize(
    ("scheme", "per"),
    [("none", "none"), ("gal", "step"), ("semeniuta", "step"), ("moon", "step"),
     ("semeniuta", "sequence")],
)  # fmt: skip
def test_followed_equations_are_gradient_descent_on_the_mean_loss(scheme: str, per: str):
    """On all sequences of three symbols, under masks' means or ten masks of sequences in each
    update, where batches make no noise and only the last A or B is to be told: of the first, which
    hastens it by a tenth in sequences as short as this, the equations know nothing."""
    c = condition(scheme, per, batch=10**9)
    network, updates = untrained(c).train(per == "sequence"), 0
    trained = [v for v in network.parameters() if v.requires_grad]
    sign = torch.tensor([-1.0, 1.0, -1.0, 1.0]).double()
    target = F.one_hot(EVERYTHING[1], 2).double().repeat(1, 2) / 2
    torch.manual_seed(0)
    while True:
        last = states(network, masks=10 if network.training else 1)
        v = (last[EVERYTHING[1] == 1] - last[EVERYTHING[1] == 0]).mean(0)
        if sign @ network.readout.weight @ v > 1:
            break
        gradients = torch.autograd.grad(F.cross_entropy(network.readout(last), target), trained)
        with torch.no_grad():
            torch._foreach_add_(trained, gradients, alpha=-c.settings["lr"])
        updates += 1
    assert plateau.followed(c) == pytest.approx(updates, rel=0.06)


# plateaus


@pytest.mark.parametrize(
    ("train", "epochs"),
    [((0.25, 0.26, 0.6, 0.4), 3), ((0.5,), 1), ((0.25, 0.49), None), ((0.25, None), None)],
)
def test_a_plateau_ends_where_half_of_the_answers_are_right(train, epochs):
    assert plateau.plateau(manifest(condition("gal"), *train)) == epochs


def test_networks_of_a_setting_stand_together():
    made = [manifest(condition("gal", seed=s), *[0.25] * (9 - s), 0.9) for s in (0, 1)]
    made += [manifest(condition("moon"), 0.25, 0.25)]
    made += [manifest(condition("gal", scaling="inverted"), 0.25, 0.9)]
    kept = {"gal 0.5 per step, paper, 3 symbols, seed 0": {"followed": 8.5}}
    scaled, start = plateau.starts(made, kept)
    assert (start.scheme, start.length, start.epochs) == ("gal", 3, (9, 10))
    assert (scaled.label, start.label) == ("gal 0.5 per step, Eq. 14", "gal 0.5 per step")
    assert scaled.trace > start.trace
    assert (scaled.followed, start.followed) == (None, 8.5)
    traces, sensitivities = zip(
        *[plateau.measure(condition("gal", seed=s)) for s in (0, 1)], strict=True
    )
    assert start.trace == pytest.approx(geometric_mean(traces))
    assert start.sensitivity == pytest.approx(geometric_mean(sensitivities))
    updates = plateau.updates_at_chance(start.trace, start.sensitivity, lr=0.1)
    assert start.expected == pytest.approx(updates / 200)  # in an epoch


def test_noise_of_batches_shrinks_what_sets_the_read_outs_rows_apart():
    """By a third in 300 updates of batches of 4; the mean over sixteen networks is told to 2 %."""
    settings = TemporalOrder("paper", 15).settings
    task = TemporalOrder(settings | {"hidden": 64, "lr": 0.3, "batch": 4, "batches": 300}, 15)
    conditions = grid(task.name, task.settings, ["gal"], [0.5], ["step"], seeds=range(16))
    networks = [task.network(c.recurrent_dropout, False, c.seed) for c in conditions]
    names, seeds = zip(*((c.name, c.seed) for c in conditions), strict=True)
    table = Replicas(networks, names, seeds, "sgd", 0.3, 5.0).train()

    def apart() -> Tensor:
        rows = table.parameters["readout.weight"].detach().clone()
        return rows - rows.mean(1, keepdim=True)

    before = apart()
    task.train_epoch(table, 0)
    left = (before * apart()).sum((1, 2)) / before.square().sum((1, 2))
    rows = before[0].double()
    fade = torch.stack([plateau.fading(networks[0].double(), conditions[0], w, 0) for w in rows])
    expected = math.exp(-300 * (rows * fade).sum() / rows.square().sum())
    assert expected < 0.75
    assert left.mean().item() == pytest.approx(expected, rel=0.06)


def test_what_noise_takes_is_the_square_of_all_gradients_of_the_last_state():
    """Of sequences of three symbols there are eight, and here all gradients of all units."""
    c = condition("none", "none", hidden=6)
    network = untrained(c)
    weights = plateau._trained(network)
    square = torch.zeros(6, 6).double()
    for last in states(network):
        rows = [torch.autograd.grad(unit, weights, retain_graph=True) for unit in last]
        jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        square += jacobian @ jacobian.T / 8
    before = [p.detach().clone() for p in weights]
    w = torch.randn(6, generator=torch.Generator().manual_seed(0)).double()
    found = plateau.fading(network, c, w, seed=0, count=2000)
    torch.testing.assert_close(found, 0.1**2 / (8 * 32) * square @ w, rtol=0.02, atol=0)
    torch.testing.assert_close(weights, before)


def test_what_noise_takes_leaves_network_and_random_state_alone():
    c = condition("gal")
    network, before = untrained(c).eval(), torch.get_rng_state()
    w = torch.ones(256).double()
    first = plateau.fading(network, c, w, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    torch.testing.assert_close(plateau.fading(network, c, w, seed=1), first)
    assert not torch.allclose(plateau.fading(network, c, w, seed=2), first)


def test_fading_is_in_inverse_proportion_to_the_batch():
    """And as the square of the learning rate."""
    c = condition("gal")
    network, w = untrained(c), torch.ones(256).double()

    def fading(**settings) -> Tensor:
        return plateau.fading(network, replace(c, settings=c.settings | settings), w, seed=0)

    torch.testing.assert_close(fading(batch=64), fading() / 2)
    torch.testing.assert_close(fading(lr=0.3), fading() * 9)


def test_published_are_the_lstms_of_table_1s_recipe(tmp_path):
    quick = TemporalOrder("quick", 3).settings
    made = {
        "begun": (condition("gal"), 0.9),
        "scaled": (condition("moon", scaling="inverted"), 0.9),
        "elsewhere": (condition("gal", length=9), 0.9),
        "at chance": (condition("moon"), 0.3),
        "rounded": (condition("gal", **precision.settings("bf16", "paper")), 0.9),
        "another cell": (condition("gal", cell="gru"), 0.9),
        "another recipe": (Condition("temporal_order", "gal", 0.5, "step", settings=quick), 0.9),
    }
    for name, (c, train) in made.items():
        folder = tmp_path / results.BEYOND if name == "elsewhere" else tmp_path
        folder.mkdir(exist_ok=True)
        content = manifest(c, train)
        final = {"last": {"train": train, "test": train}, "best": None}
        results.write(folder, c, status="finished", curve=content["curve"], final=final, data={})
    found = {m["name"] for m in plateau.published(tmp_path)}
    kept = "begun", "scaled", "elsewhere", "at chance", "rounded"
    assert found == {made[name][0].name for name in kept}


def test_operands_of_bfloat16_stand_apart_and_start_from_the_same_network():
    low = condition("gal", **precision.settings("bf16", "paper"))
    assert plateau.measure(low, 60) == plateau.measure(condition("gal"), 60)
    pair = [manifest(c, 0.2, 0.9) for c in (condition("gal"), low)]
    exact, rounded = plateau.starts(pair)
    assert (exact.label, rounded.label) == ("gal 0.5 per step", "gal 0.5 per step, bf16")
    assert exact.epochs == rounded.epochs == (2,)


def test_what_is_kept_is_not_measured_again(monkeypatch):
    made = [manifest(condition("gal", seed=s), 0.25, 0.9) for s in (0, 1)]
    kept = {
        plateau.setting(condition("gal", seed=s)): {"trace": 0.1 * 4**s, "sensitivity": 9.0}
        for s in (0, 1)
    }
    monkeypatch.setattr(plateau, "measure", None)
    (start,) = plateau.starts(made, kept)
    assert (start.trace, start.sensitivity) == (pytest.approx(0.2), pytest.approx(9.0))


def test_missing_are_the_settings_of_table_1_that_are_not_known(monkeypatch):
    monkeypatch.setattr(plateau, "measure", lambda c: (0.1, 9.0))
    known = [Start("gal", 0.5, "step", "paper", n, 0.1, 9.0, 30.0, 34.0, (36,)) for n in (9, 15)]
    known += [Start("gal", 0.5, "step", "inverted", 30, 0.1, 9.0, 30.0, 34.0, (36,))]
    kept = {"moon 0.5 per sequence, paper, 30 symbols, seed 0": {"followed": 3000.0}}
    ahead = plateau.missing(known, kept)
    found = {(s.scheme, s.per, s.length) for s in ahead}
    assert {s.followed for s in ahead} == {None, 3000.0}
    assert len(found) == 11
    assert ("gal", "step", 15) not in found
    assert {("moon", "sequence", 30), ("gal", "step", 30)} <= found


def test_table_and_figure_show_what_was_measured():
    known = [
        Start("gal", 0.5, "step", "paper", 9, 0.01, 7.2, 8.0, 9.5, (6, 24)),
        Start("moon", 0.5, "step", "inverted", 9, 0.001, 11.0, 1000.0, 1200.0, (1300,)),
    ]
    ahead = [
        Start("semeniuta", 0.5, "step", "paper", 30, 3e-5, 26.0, 1602.5, 2653.5),
        Start("moon", 0.5, "sequence", "paper", 30, 1.04e-6, 60.0, 96153.8, None),
    ]
    *_, first, second, own, third = plateau.table([*ahead, *known]).splitlines()
    assert first == "| gal 0.5 per step | 9 | 1.0e−02 | 7 | 8 | 10 | 6, 24 | 50 % |"
    cells = "moon 0.5 per step, Eq. 14", "9", "1.0e−03", "11", "1,000", "1,200", "1,300", "30 %"
    assert second == f"| {' | '.join(cells)} |"
    assert own == "| semeniuta 0.5 per step | 30 | 3.0e−05 | 26 | 1,600 | 2,654 | not yet run | – |"
    assert third == "| moon 0.5 per sequence | 30 | 1.0e−06 | 60 | 96,000 | – | not yet run | – |"
    data = as_csv(figures.plateaus(known, ahead, 5000))
    assert "nan" not in data
    assert ",," not in data, "a row of the data says something"
    assert "1000,1300" in data
    assert "96153.8,96153.8" in data
    assert "1602.5,2653.5" in data, "what is expected of networks that have not been run"


def test_longer_than_expected_is_a_geometric_mean():
    start = Start("gal", 0.5, "step", "paper", 9, 0.01, 7.2, 8.0, 9.5, (6, 24))
    assert start.longer == pytest.approx(0.5)
