"""Temporal Order: networks that learn it, what is in their cells, and who can use it."""

import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recdrop.drawing import DIVERGING, GREY, GROUND, INK, panels
from recdrop.figures.style import CHANCE, COLOURS, LABELS, ORDER
from recdrop.study import memory, results
from recdrop.study.tables import interval


def effect(results_dir: str | os.PathLike = "book/results") -> Figure:
    """The first figure of the book: training against test accuracy, one dot for each seed."""
    found = [m for m in _quick(results_dir, "lstm") if m["condition"]["rate"]]
    if len({m["condition"]["scheme"] for m in found} & set(ORDER)) < len(ORDER):
        raise ValueError(f"no quick Temporal Order results in {results_dir}; run notebook 02")
    figure, axes = panels(1, 2, 3, width_ratios=[2, 1])
    ax = axes[0, 0]
    _train_and_test(ax, found)
    ax.text(2.9, CHANCE + 0.015, "chance", ha="right", fontsize=9)
    ax.set(xlim=(-0.5, 2.9), ylabel="accuracy")
    ax.set_title("All learn it; one fails the test", fontsize=11)
    t = np.arange(16)
    ax = axes[0, 1]
    ax.plot(t, np.ones(16), color=COLOURS["semeniuta"], label="own, Eq. 15")
    ax.plot(t, 0.5**t, color=COLOURS["moon"], label="Moon, Eq. 13")
    ax.set(xlabel="steps", ylabel="share left at the test")
    ax.set_title("Why: what is left of a memory", fontsize=11)
    ax.set_xticks(range(0, 16, 5))
    ax.legend(frameon=False, fontsize=9)
    return figure


def other_cells(results_dir: str | os.PathLike = "book/results") -> Figure:
    """The same bars for a GRU and for a vanilla RNN, which has no more than a hidden state."""
    cells = {"gru": "GRU", "rnn": "Vanilla RNN"}
    found = {cell: _quick(results_dir, cell) for cell in cells}
    if missing := [cell for cell, mine in found.items() if not mine]:
        raise ValueError(f"no quick results of {missing} in {results_dir}; run notebook 06")
    sizes = [len({m["condition"]["scheme"] for m in mine}) + 0.2 for mine in found.values()]
    figure, axes = panels(1, 2, 3, sharey=True, width_ratios=sizes)
    for ax, (cell, mine) in zip(axes[0], found.items(), strict=True):
        _train_and_test(ax, mine)
        ax.set_title(cells[cell], fontsize=11)
    axes[0, 0].set_ylabel("accuracy")
    return figure


def _quick(results_dir: str | os.PathLike, cell: str) -> list[dict]:
    """The quick networks of a cell on 15 symbols under Eq. 3: no dropout, or 0.5 per sequence."""
    return [
        m
        for m in results.read_all(results_dir, "temporal_order")
        if (m["protocol"], m["status"]) == ("quick", "finished")
        and m["condition"]["scaling"] == "paper"
        and (m["condition"]["rate"], m["condition"]["per"]) in ((0.0, "none"), (0.5, "sequence"))
        and m["condition"]["settings"]["length"] == 15
        and m["condition"]["settings"].get("cell", "lstm") == cell
    ]


def _train_and_test(ax: Axes, found: list[dict]) -> None:
    """Two bars for each scheme, means over the seeds, and the seeds as dots."""
    schemes = [s for s in ("none", *ORDER) if s in {m["condition"]["scheme"] for m in found}]
    for x, scheme in enumerate(schemes):
        mine = [m["final"]["last"] for m in found if m["condition"]["scheme"] == scheme]
        for offset, split, filled in ((-0.18, "train", False), (0.18, "test", True)):
            values = [e[split] for e in mine]
            ax.bar(
                x + offset, np.mean(values), 0.32, edgecolor=COLOURS[scheme], linewidth=1.5,
                facecolor=COLOURS[scheme] if filled else GROUND, label=f"{split}, mean",
            )  # fmt: skip
            ax.plot(np.full(len(values), x + offset), values, "o", color=INK, markersize=3,
                    label=f"{split}, a seed")  # fmt: skip
            ax.text(x + offset, -0.06, split, ha="center", fontsize=9)
    ax.axhline(CHANCE, color=GREY, linestyle=":", linewidth=1)
    ax.set(ylim=(0, 1.02))
    ax.set_xticks(
        range(len(schemes)),
        [LABELS[s].replace(": ", ":\n") for s in schemes],
        fontsize=9 if len(schemes) < 4 else 8,
    )
    ax.tick_params("x", pad=20, length=0)


def states(manifests: list[dict], results_dir: str | os.PathLike, x, units: int = 32) -> Figure:
    """Cell states over time, with the training masks and in evaluation, one row for each network.

    ``x`` is one sequence (T, 1). Units stand in the order of their last state under masks.
    """
    figure, axes = panels(len(manifests), 2, 1.7 * len(manifests), sharex=True, sharey="row")
    for row, m in zip(axes, manifests, strict=True):
        model = memory.network(m, results_dir)
        masked, plain = (memory.cell_states(model, x, on)[:, 0].numpy() for on in (True, False))
        order = masked[-1].argsort()[:units]
        top = max(np.abs(masked).max(), np.abs(plain).max())
        for ax, cells, phase in ((row[0], masked, "with masks"), (row[1], plain, "evaluation")):
            picture = ax.imshow(
                cells[:, order].T, aspect="auto", cmap=DIVERGING, vmin=-top, vmax=top,
                interpolation="none",
            )  # fmt: skip
            ax.set_title(f"{LABELS[m['condition']['scheme']]}, {phase}", fontsize=10)
        row[0].set_ylabel("unit")
        bar = figure.colorbar(picture, ax=row, label="cell state", shrink=0.9)
        bar.solids.set_rasterized(True)  # a picture as well, and not a shape for each shade
    for ax in axes[-1]:
        ax.set(xlabel="step", xticks=range(0, len(x), 5))
    return figure


def rate_curves(
    manifests: list[dict], results_dir: str | os.PathLike, length: int, rates=None
) -> Figure:
    """Accuracy of trained networks evaluated at other rates, with masks and without."""
    rates = np.linspace(0, 0.9, 10) if rates is None else rates
    figure, axes = panels(1, 2, 3, sharey=True)
    for ax, masked in zip(axes[0], (False, True), strict=True):
        for scheme in ORDER:
            mine = [m for m in manifests if m["condition"]["scheme"] == scheme]
            values = np.array([
                [memory.accuracy(memory.network(m, results_dir, r), length, masked) for r in rates]
                for m in mine
            ])  # fmt: skip
            if not len(values):
                continue
            ax.plot(rates, values.mean(0), "o-", markersize=3, color=COLOURS[scheme],
                    label=LABELS[scheme])  # fmt: skip
            if len(values) < 2:
                continue
            half = [interval(list(v)) for v in values.T]
            ax.fill_between(rates, np.clip(values.mean(0) - half, 0, 1),
                            np.clip(values.mean(0) + half, 0, 1),
                            color=COLOURS[scheme], alpha=0.15, linewidth=0,
                            label=LABELS[scheme])  # fmt: skip
        ax.axhline(CHANCE, color=GREY, linestyle=":", linewidth=1)
        for trained in {m["condition"]["rate"] for m in manifests}:
            ax.axvline(trained, color=GREY, linewidth=0.6)
        title = "training masks at this rate" if masked else "evaluation, factor 1 minus this rate"
        ax.set(title=title, xlabel="rate", ylim=(0, 1.02))
    axes[0, 0].set_ylabel("accuracy")
    lines = [line for line in axes[0, 0].lines if not line.get_label().startswith("_")]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
