"""How long networks guess before they begin to learn, and the trace that tells it."""

from statistics import mean

import pytest
import torch
from torch import nn

from recdrop import figures
from recdrop.plotted import as_csv
from recdrop.study import plateau, results
from recdrop.study.conditions import Condition
from recdrop.study.plateau import Law, Start
from recdrop.tasks.temporal_order import TemporalOrder


def condition(scheme: str, per: str = "step", length: int = 3, seed: int = 0, **more) -> Condition:
    settings = TemporalOrder("paper", length).settings | more
    rate = 0.0 if scheme == "none" else 0.5
    return Condition("temporal_order", scheme, rate, per, seed=seed, settings=settings)


def manifest(c: Condition, *train: float | None) -> dict:
    curve = [{"epoch": n, "train": value} for n, value in enumerate(train, 1)]
    return {
        "name": c.name,
        "protocol": c.settings["protocol"],
        "condition": vars(c),
        "curve": curve,
    }


# the trace


def test_without_dropout_the_trace_is_that_of_torchs_own_lstm():
    """Of three symbols the first is A or B, the second as well, the third C or D: all of them."""
    network = TemporalOrder("paper", 3).network(
        condition("none", "none").recurrent_dropout, False, 0
    )
    exact = nn.LSTM(4, 256).double()
    exact.load_state_dict(network.recurrent.state_dict())
    everything = torch.cartesian_prod(torch.tensor([0, 1]), torch.tensor([2, 3])).T  # (2, 4)
    first, third = everything
    states = [
        exact(torch.eye(4).double()[torch.stack([first, torch.full_like(first, s), third])])[0][-1]
        for s in (0, 1)
    ]
    expected = (states[1] - states[0]).mean(0).norm().item()
    assert plateau.trace(condition("none", "none")) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("scheme", "per", "left"),
    [("semeniuta", "step", 1 / 2), ("semeniuta", "sequence", 1 / 2),
     ("moon", "step", 1 / 4), ("moon", "sequence", 1 / 2)],
)  # fmt: skip
def test_what_masks_leave_of_the_trace(scheme: str, per: str, left: float):
    """Of three symbols the second is the last A or B: the update is masked once, the cell at its
    step and at the one behind, by one mask where masks are those of a sequence."""
    share = plateau.trace(condition(scheme, per)) / plateau.trace(condition("none", "none"))
    assert share == pytest.approx(left, rel=0.03)


@pytest.mark.parametrize(("scheme", "error"), [("gal", 0.03), ("semeniuta", 0.03), ("moon", 0.1)])
def test_evaluation_has_the_mean_over_masks_of_steps(
    scheme: str, error: float, monkeypatch: pytest.MonkeyPatch
):
    c = condition(scheme, length=9)
    trace, train = plateau.trace(c), nn.Module.train
    monkeypatch.setattr(nn.Module, "train", lambda self, mode=True: train(self, True))
    assert plateau.trace(c, 6000) == pytest.approx(trace, rel=error)


def test_the_trace_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    first = plateau.trace(condition("gal"), 100)
    assert torch.equal(torch.get_rng_state(), before)
    assert plateau.trace(condition("gal"), 100) == first


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
    (start,) = plateau.starts(made)
    assert (start.scheme, start.length, start.epochs) == ("gal", 3, (9, 10))
    traces = [plateau.trace(condition("gal", seed=s)) for s in (0, 1)]
    assert start.trace == pytest.approx(mean(traces), rel=1e-2)


def test_published_are_the_lstms_of_table_1s_recipe(tmp_path):
    quick = TemporalOrder("quick", 3).settings
    made = {
        "begun": (condition("gal"), 0.9),
        "elsewhere": (condition("gal", length=9), 0.9),
        "at chance": (condition("moon"), 0.3),
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
    assert found == {made[name][0].name for name in ("begun", "elsewhere", "at chance")}


def test_missing_are_the_settings_of_table_1_that_are_not_known(monkeypatch):
    monkeypatch.setattr(plateau, "trace", lambda c: 0.1)
    known = [Start("gal", 0.5, "step", 15, 0.1, (36,)), Start("gal", 0.5, "step", 9, 0.2, (9,))]
    found = {(s.scheme, s.per, s.length) for s in plateau.missing(known)}
    assert len(found) == 11
    assert ("gal", "step", 15) not in found
    assert ("moon", "sequence", 30) in found


def test_the_law_is_the_nearest_line():
    exact = Law(0.8, 0.3)
    points = [
        Start("gal", 0.5, "step", 9, t, (exact(t) * 1.1, exact(t) / 1.1)) for t in (0.1, 0.01, 1e-5)
    ]
    found = plateau.law(points)
    assert (found.power, found.scale) == pytest.approx((exact.power, exact.scale))


def test_table_and_figure_show_what_was_measured():
    known = [
        Start("gal", 0.5, "step", 9, 0.01, (9, 10)),
        Start("moon", 0.5, "step", 9, 0.001, (90,)),
    ]
    ahead, law = [Start("moon", 0.5, "step", 30, 1.04e-6)], Law(1.0, 0.1)
    *_, first, second, third = plateau.table([*ahead, *known], law).splitlines()
    assert first == "| gal 0.5 per step | 9 | 1.0e-02 | 9, 10 | 10 |"
    assert second == "| moon 0.5 per step | 9 | 1.0e-03 | 90 | 100 |"
    assert third == "| moon 0.5 per step | 30 | 1e-06 | not yet run | 96,000 |"
    data = as_csv(figures.plateaus(known, ahead, law, 5000))
    assert "0.001,90" in data
    assert "1.04e-06,96153.8" in data
