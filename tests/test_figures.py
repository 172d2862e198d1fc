"""Figures: that their lines and bars are the numbers they claim to show."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from recdrop import figures
from recdrop.data.temporal_order import sequences
from recdrop.drawing import GROUND
from recdrop.study import beyond, memory, paper, results
from recdrop.study.conditions import Condition, dropout, grid, select
from recdrop.study.training import train
from recdrop.tasks.temporal_order import TemporalOrder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Small trained networks of each scheme, two seeds: their folder and manifests."""
    folder, task = tmp_path_factory.mktemp("trained"), TemporalOrder("smoke")
    conditions = grid(task.name, task.settings, ["semeniuta", "gal", "moon"], [0.5], ["sequence"],
                      seeds=[0, 1])  # fmt: skip
    return folder, train(task, conditions, folder, progress=False)


def lines(ax) -> list[tuple[list, list]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]


# the effect


VALUES = {"semeniuta": (0.9, 1.0), "gal": (0.8, 0.9, 1.0), "moon": (0.1, 0.3)}


def write(folder, scheme, seed, test, *, rate=0.5, per="sequence", scaling="paper",
          protocol="quick", **settings) -> None:  # fmt: skip
    c = Condition("temporal_order", scheme, rate, per, seed=seed, scaling=scaling,
                  settings={"protocol": protocol, "length": 15} | settings)  # fmt: skip
    last = None if test is None else {"train": 1.0, "test": test}
    status = "diverged" if test is None else "finished"
    results.write(folder, c, status=status, curve=[], final={"last": last, "best": None})


@pytest.fixture
def folder(tmp_path):
    for scheme, values in VALUES.items():
        for seed, value in enumerate(values):
            write(tmp_path, scheme, seed, value)
    return tmp_path


def test_the_effects_bars_are_means_and_its_dots_the_seeds(folder):
    ax = figures.effect(folder).axes[0]
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx([v for values in VALUES.values() for v in (1, np.mean(values))])
    dots = [y for x, y in lines(ax) if len(x) == len(y) and y[0] != figures.CHANCE]
    assert dots[1::2] == [list(values) for values in VALUES.values()]
    labels = [t.get_text() for t in ax.get_xticklabels()]
    assert [label.replace("\n", " ") for label in labels] == [figures.LABELS[s] for s in VALUES]


def test_the_effect_is_drawn_from_its_own_runs_alone(folder):
    before = [bar.get_height() for bar in figures.effect(folder).axes[0].patches]
    others = {
        "rate": 0.25,
        "per": "step",
        "scaling": "inverted",
        "protocol": "smoke",
        "length": 30,
        "cell": "gru",
    }
    for name, value in others.items():
        write(folder, "gal", 9, 0.0, **{name: value})
    assert [bar.get_height() for bar in figures.effect(folder).axes[0].patches] == before


def test_the_effects_prediction_is_eq_13(folder):
    (own, moon) = lines(figures.effect(folder).axes[1])
    assert own[1] == [1.0] * 16
    assert moon[1] == pytest.approx([0.5**t for t in range(16)])


def test_a_diverged_network_is_left_out_of_the_effect(folder):
    before = [bar.get_height() for bar in figures.effect(folder).axes[0].patches]
    write(folder, "gal", 9, None)
    assert [bar.get_height() for bar in figures.effect(folder).axes[0].patches] == before


def test_without_results_the_remedy_is_named(tmp_path):
    with pytest.raises(ValueError, match="no quick Temporal Order results.*run notebook 02"):
        figures.effect(tmp_path)


def test_other_cells_have_a_panel_each_with_the_schemes_they_know(tmp_path):
    for scheme, value in (("semeniuta", 1.0), ("moon", 0.2)):
        write(tmp_path, scheme, 0, value, cell="gru")
        write(tmp_path, scheme, 0, 0.9)  # an LSTM
    with pytest.raises(ValueError, match=r"no quick results of \['rnn'\].*run notebook 06"):
        figures.other_cells(tmp_path)
    write(tmp_path, "gal", 0, 0.3, cell="rnn")
    gru, rnn = figures.other_cells(tmp_path).axes
    assert [bar.get_height() for bar in gru.patches] == [1.0, 1.0, 1.0, 0.2]
    assert [bar.get_height() for bar in rnn.patches] == [1.0, 0.3]


# the paper's tables


def measured(folder, scheme, rate, per, test, protocol, seed=0, forward=False) -> None:
    c = Condition("word_lm", scheme, rate, per, forward, seed, settings={"protocol": protocol})
    figure = {"valid": test, "test": test}
    results.write(folder, c, status="finished", curve=[], final={"last": figure, "best": figure})


def points(ax) -> dict[str, list]:
    """By label, (test figure, place) of each mark; a mark's place is shifted by less than half."""
    return {
        container.get_label(): [(x, round(y)) for x, y in zip(*line.get_data(), strict=True)]
        for container, line in [(c, c.lines[0]) for c in ax.containers]
        + [(line, line) for line in ax.lines if line.get_marker() == "D"]
    }


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_table_without_runs_shows_the_papers_figures_alone(number, tmp_path):
    without, with_ = figures.table(number, tmp_path).axes
    for ax, forward in ((without, False), (with_, True)):
        drawn = points(ax)
        assert all(label.endswith("the paper") for label in drawn)
        for row in paper.table(number):
            if row["forward"] == forward and row["rate"]:
                name = figures.LABELS[row["scheme"]].partition(":")[0]
                place = 1 + 2 * (row["rate"] == 0.5) + (row["per"] == "sequence")
                assert (row["paper_test"], place) in drawn[f"{name}, the paper"]
        assert len(drawn["no dropout, the paper"]) == 1


def test_a_tables_dots_are_means_at_the_place_of_their_condition(tmp_path):
    for seed, value in enumerate((98.0, 100.0)):
        measured(tmp_path, "semeniuta", 0.5, "step", value, "paper", seed)
    measured(tmp_path, "none", 0.0, "none", 400.0, "quick")
    measured(tmp_path, "gal", 0.25, "sequence", 90.0, "paper-bf16", forward=True)
    measured(tmp_path, "gal", 0.25, "sequence", 1.0, "smoke")
    figure = figures.table(2, tmp_path)
    full, quick, forward, nothing = figure.axes
    assert points(full)["own, ours, paper"] == [(99.0, 3)]
    assert points(quick) == {"no dropout, ours, quick": [(400.0, 0)]}
    assert points(forward)["Gal, ours, paper-bf16"] == [(90.0, 2)]
    assert not nothing.lines
    assert not nothing.axison
    filled = {c.get_label(): c.lines[0].get_markerfacecolor() for c in full.containers}
    hollow = {c.get_label(): c.lines[0].get_markerfacecolor() for c in forward.containers}
    assert filled == {"own, ours, paper": figures.COLOURS["semeniuta"]}
    assert hollow == {"Gal, ours, paper-bf16": GROUND}
    (interval,) = full.containers[0].lines[2][0].get_segments()
    assert interval[1, 0] - 99 == pytest.approx(99 - interval[0, 0]) == pytest.approx(12.706)
    figures.show(figure)


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_table_that_is_no_single_measure_is_refused(number):
    with pytest.raises(ValueError, match=f"table={number} cannot be drawn so; choose from 2, 3"):
        figures.table(number)


# theory


def test_real_cells_lie_on_the_predicted_lines():
    for ax, factor in zip(figures.fading(0.25, 12).axes, (0.75, 1 / 0.75), strict=True):
        (t, moon), (_, moons_cell), (_, own), (_, owns_cell) = lines(ax)
        assert list(t) == list(range(1, 13))
        assert moon == pytest.approx([factor**n for n in t])
        assert own == [1.0] * 12
        assert moons_cell == pytest.approx(moon, rel=1e-9)
        assert owns_cell == pytest.approx(own, rel=1e-9)


def test_masks_are_drawn_as_the_stream_draws_them():
    step, sequence = (ax.images[0].get_array() for ax in figures.masks(0.5, 15, 24).axes)
    assert step.shape == sequence.shape == (24, 15)
    assert (sequence == sequence[:, :1]).all()
    assert not (step == step[:, :1]).all()
    assert step.mean() == pytest.approx(0.5, abs=0.1)
    assert (step[:, 0] == sequence[:, 0]).all()


def test_each_scheme_has_a_panel_with_one_dashed_connection_in_its_colour():
    figure = figures.schemes()
    assert [ax.get_title() for ax in figure.axes] == [
        figures.LABELS[s] for s in ("moon", "gal", "semeniuta")
    ]
    for ax, scheme in zip(figure.axes, ("moon", "gal", "semeniuta"), strict=True):
        dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
        assert [line.get_color() for line in dashed] == [figures.COLOURS[scheme]]


# trained networks


def test_learning_curves_are_the_manifests(trained):
    _, manifests = trained
    figure = figures.learning_curves(manifests, ("train", "test"), "accuracy")
    for ax, key in zip(figure.axes, ("train", "test"), strict=True):
        assert ax.get_title() == key
        assert lines(ax) == [([e["epoch"] for e in m["curve"]], [e[key] for e in m["curve"]])
                             for m in manifests]  # fmt: skip
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == len(set(legend)) == 3


def test_learning_curves_of_a_diverged_network_end_where_it_did(trained):
    _, (manifest, *_) = trained
    curve = [*manifest["curve"], {"epoch": 3, "lr": 0.1, "loss": None, "train": None}]
    figure = figures.learning_curves([manifest | {"curve": curve}], ("train",), "accuracy")
    figures.show(figure)
    shown = np.array(lines(figure.axes[0])[0][1], dtype=float)
    assert np.isnan(shown[2])
    assert not np.isnan(shown[:2]).any()
    (line,) = (
        figures.learning_curves([manifest], ("train",), "accuracy, %", scale=100).axes[0].lines
    )
    assert line.get_ydata() == pytest.approx(100 * shown[:2])


def test_schemes_combined_have_a_colour_of_their_own(trained):
    _, (manifest, *_) = trained
    both = manifest | {"condition": manifest["condition"] | {"scheme": "semeniuta+gal"}}
    (line,) = figures.learning_curves([both], ("train",), "accuracy").axes[0].lines
    assert line.get_color() not in figures.COLOURS.values()


def test_states_are_those_of_the_cell_in_both_phases(trained):
    folder, (manifest, *_) = trained
    x, _ = sequences(1, 15, torch.Generator().manual_seed(0))
    figure = figures.states([manifest], folder, x)
    model = memory.network(manifest, folder)
    masked, plain = (memory.cell_states(model, x, on)[:, 0] for on in (True, False))
    order = masked[-1].numpy().argsort()
    pictures = [ax.images[0].get_array() for ax in figure.axes if ax.images][:2]
    np.testing.assert_array_equal(pictures[0], masked[:, order].T)
    np.testing.assert_array_equal(pictures[1], plain[:, order].T)


def test_a_loaded_network_answers_as_it_did_when_it_was_evaluated(trained):
    folder, manifests = trained
    task = TemporalOrder("smoke")
    for m in manifests:
        seed = m["condition"]["seed"]
        x, y = task._draw([seed], task.settings["test"], "test")
        with torch.no_grad():
            accuracy = (memory.network(m, folder)(x[0]).argmax(-1) == y[0]).float().mean()
        assert float(accuracy) == pytest.approx(m["final"]["last"]["test"], abs=1e-6)


def test_rate_curves_are_means_of_the_networks_accuracies(trained):
    folder, manifests = trained
    rates = [0.0, 0.5]
    figure = figures.rate_curves(manifests, folder, 15, rates)
    for ax, masked in zip(figure.axes, (False, True), strict=True):
        for line, scheme in zip(ax.lines, ("semeniuta", "gal", "moon"), strict=False):
            mine = [m for m in manifests if m["condition"]["scheme"] == scheme]
            expected = [
                np.mean([memory.accuracy(memory.network(m, folder, r), 15, masked) for m in mine])
                for r in rates
            ]
            assert list(line.get_xdata()) == rates
            assert list(line.get_ydata()) == pytest.approx(expected)


def test_drawing_does_not_touch_the_random_state(trained):
    folder, manifests = trained
    x, _ = sequences(1, 15, torch.Generator().manual_seed(0))
    model = memory.network(manifests[0], folder)
    before = torch.get_rng_state()
    memory.accuracy(model, 15, masked=True)
    memory.cell_states(model, x, masked=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_weights_the_remedy_is_named(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="train the condition again with fresh=True"):
        memory.network(trained[1][0], tmp_path)


def test_a_network_at_a_rate_that_is_none_is_refused(trained):
    folder, manifests = trained
    with pytest.raises(ValueError, match=r"1\.5"):
        memory.network(manifests[0], folder, 1.5)


# files


def test_the_same_figure_is_the_same_file(tmp_path):
    for name in ("a", "b"):
        figures.save(figures.fading(), tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_what_is_shown_is_what_is_saved(tmp_path):
    figures.save(figures.masks(), tmp_path / "masks.svg")
    shown, saved = (ElementTree.fromstring(text) for text in (
        figures.show(figures.masks()).svg, (tmp_path / "masks.svg").read_text()))  # fmt: skip
    assert ElementTree.tostring(shown) == ElementTree.tostring(saved)


def test_a_figure_can_be_saved_in_another_format(tmp_path):
    figures.save(figures.masks(), tmp_path / "masks.png")
    assert (tmp_path / "masks.png").read_bytes().startswith(b"\x89PNG")


def test_bands_of_rate_curves_are_intervals_over_the_networks(trained, monkeypatch):
    folder, manifests = trained[0], select(trained[1], scheme="moon")
    accuracies = iter([0.2, 0.5, 0.8, 0.3, 0.5, 0.9] * 2)  # of two networks at three rates
    monkeypatch.setattr(memory, "accuracy", lambda *_: next(accuracies))
    for ax in figures.rate_curves(manifests, folder, 15, [0.0, 0.1, 0.2]).axes:
        assert ax.get_title().startswith(
            "training" if ax.get_subplotspec().colspan.start else "eval"
        )
        (band,) = ax.collections
        ends = {y for x, y in band.get_paths()[0].vertices if x == 0.1}
        assert ends == {0.5}, "both have the same accuracy there"
        ends = sorted({y for x, y in band.get_paths()[0].vertices if x == 0.0})
        assert ends == pytest.approx([0, 0.25 + 12.706 * 0.05])


def test_a_network_at_another_rate_keeps_its_sampling_and_scaling(trained):
    folder, (manifest, *_) = trained[0], select(trained[1], scheme="moon")
    drop = memory.network(manifest, folder, 0.25).recurrent.recurrent_dropout
    assert drop == dropout("moon", 0.25, "sequence", "paper")


def test_lines_of_longer_sequences_are_means_under_their_sampling():
    made = [{"name": f"{per}{seed}", "condition": {"scheme": "gal", "per": per, "seed": seed}}
            for per in ("step", "sequence") for seed in (0, 1)]  # fmt: skip
    measured = {
        "step0": [0.2, 0.4],
        "step1": [0.4, 0.8],
        "sequence0": [1.0, 0.9],
        "sequence1": [1.0, 0.5],
    }
    for ax, means in zip(
        figures.longer(made, measured, (15, 21)).axes, ([0.3, 0.6], [1.0, 0.7]), strict=True
    ):
        (line,) = [line for line in ax.lines if not line.get_label().startswith("_")]
        assert list(line.get_ydata()) == pytest.approx(means)


def test_lines_of_the_phase_diagram_are_eq_13s():
    known = [
        beyond.Cell(length, rate, (0.5,), 1) for length in (9, 15) for rate in (0.0, 0.25, 0.5)
    ]
    (ax,) = figures.phase_diagram(known).axes
    (first,) = [line.get_segments()[0] for line in ax.collections][:1]
    rates = np.interp(first[:, 0], range(3), (0.0, 0.25, 0.5))
    assert [beyond.left(r, n) for r, n in zip(rates, (9, 15), strict=True)] == pytest.approx(
        [0.1] * 2
    )
