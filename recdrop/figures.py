"""The book's figures, each a function of manifests or of the cells themselves."""

import os

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from recdrop.drawing import BLUE, GREEN, GREY, GROUND, INK, SHADE, VERMILION, panels, save, show
from recdrop.dropout import RecurrentDropout, threshold
from recdrop.masks import kept
from recdrop.study import memory, results
from recdrop.study.tables import interval

__all__ = [
    "effect", "fading", "learning_curves", "masks", "rate_curves", "save", "schemes", "show",
    "states",
]  # fmt: skip

COLOURS = {"semeniuta": BLUE, "gal": GREEN, "moon": VERMILION, "none": GREY}
LABELS = {
    "semeniuta": "own: on the update",
    "gal": "Gal: on the hidden state",
    "moon": "Moon: on the cell",
    "none": "no dropout",
}
ORDER = ("semeniuta", "gal", "moon")
CHANCE = 0.25


def schemes() -> Figure:
    """Where each scheme's mask stands in an LSTM: our drawing of the paper's Figure 1."""
    figure, axes = panels(1, 3, 2.4)
    for ax, scheme in zip(axes[0], ("moon", "gal", "semeniuta"), strict=True):
        _cell(ax, scheme)
        ax.set_title(LABELS[scheme], color=COLOURS[scheme], fontsize=10, fontweight="bold")
    return figure


def _cell(ax: Axes, scheme: str) -> None:
    """One LSTM step as a diagram; the masked connection is dashed, in the scheme's colour."""
    ax.set_axis_off()
    ax.set(xlim=(-1.4, 11), ylim=(-0.8, 6.6), aspect="equal")
    ink, colour = INK, COLOURS[scheme]
    top, middle, gates, bus = 5.6, 4.1, 2.5, 0.9  # heights of the four rows

    def connect(*points: tuple[float, float], masked: bool = False, head: bool = True) -> None:
        (*_, before, last) = points
        style = dict(color=ink, linewidth=1.2)
        if masked:
            style = dict(color=colour, linewidth=2.4, linestyle=(0, (2, 1)))
            (x0, y), (x1, _) = points[0], points[-1]
            ax.text((x0 + x1) / 2, y - 1 if y == bus else y + 0.35, "mask",
                    color=colour, ha="center", fontsize=9, fontweight="bold")  # fmt: skip
        ax.plot(*zip(*points, strict=True), solid_capstyle="round", zorder=1, **style)
        if head:
            arrow = {"arrowstyle": "-|>", "color": style["color"], "linewidth": 0.1}
            arrow |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
            ax.annotate("", last, tuple(np.average([before, last], 0, [0.05, 0.95])),
                        arrowprops=arrow, zorder=2)  # fmt: skip

    def circle(x: float, y: float, text: str) -> None:
        ax.plot(x, y, "o", markersize=11, mfc=GROUND, mec=ink, zorder=3)
        ax.text(x, y, text, ha="center", va="center_baseline", fontsize=9, zorder=4)

    def box(x: float, text: str) -> None:
        patch = FancyBboxPatch(
            (x - 0.6, gates - 0.4), 1.2, 0.8, boxstyle="round,pad=0.05",
            facecolor=SHADE, edgecolor=ink, zorder=3,
        )  # fmt: skip
        ax.add_patch(patch)
        ax.text(x, gates, text, ha="center", va="center", fontsize=9, zorder=4)

    for x, y, text in ((-0.6, top, "$c_{t-1}$"), (10.5, top, "$c_t$"), (10.5, middle, "$h_t$"),
                       (-0.6, bus, "$h_{t-1}$"), (2.9, -0.5, "$x_t$")):  # fmt: skip
        ax.text(x, y, text, ha="center", va="center", fontsize=10)
    columns = {"$f_t$": 2.0, "$i_t$": 4.0, "$g_t$": 6.2, "$o_t$": 8.8}
    for text, x in columns.items():
        box(x, text)
        connect((x, bus), (x, gates - 0.45))
    f, i, g, o = columns.values()
    connect((0.4, bus), (1.9, bus), masked=scheme == "gal")
    connect((1.9, bus), (o, bus), head=False)
    connect((2.9, -0.1), (2.9, bus), head=False)

    connect((0.4, top), (f - 0.35, top))
    connect((f, gates + 0.45), (f, top - 0.35))
    connect((f, top), (i - 0.35, top))
    connect((i, gates + 0.45), (i, middle - 0.35))
    connect((g, gates + 0.45), (g, middle), head=False)
    connect((g, middle), (i + 0.35, middle), masked=scheme == "semeniuta")
    connect((i, middle), (i, top - 0.35))
    branch = 7.2
    connect((i, top), (branch, top), masked=scheme == "moon", head=scheme == "moon")
    connect((branch, top), (9.9, top))
    connect((branch, top), (branch, middle), (o - 0.35, middle))
    connect((o, gates + 0.45), (o, middle - 0.35))
    connect((o, middle), (9.9, middle))
    for x, y, text in ((f, top, "×"), (i, top, "+"), (i, middle, "×"), (o, middle, "×")):
        circle(x, y, text)


def masks(rate: float = 0.5, steps: int = 15, units: int = 24, seed: int = 1) -> Figure:
    """The masks of one row over time, per step and per sequence, as the stream draws them."""
    figure, axes = panels(1, 2, 2.1, sharey=True)
    for ax, per in zip(axes[0], ("step", "sequence"), strict=True):
        drawn = 1 if per == "sequence" else steps
        bits = kept(torch.tensor([seed]), threshold(rate), "update", drawn, 1, units)[0, :, 0]
        ax.imshow(bits.expand(steps, units).T.numpy(), cmap=ListedColormap([GROUND, BLUE]),
                  vmin=0, vmax=1, aspect="auto", interpolation="none")  # fmt: skip
        ax.set(title=f"per {per}", xlabel="step", xticks=range(0, steps, 5))
    axes[0, 0].set_ylabel("unit")
    return figure


def fading(rate: float = 0.5, steps: int = 15) -> Figure:
    """Eqs. 13 and 15 as lines, the real cell with gates of 1 as dots, under both scalings."""
    q, t = 1 - rate, np.arange(1, steps + 1)
    figure, axes = panels(1, 2, 2.9)
    cases = (("paper", False, "Evaluation under Eq. 3", q),
             ("inverted", True, "Training under Eq. 14: a kept unit", 1 / q))  # fmt: skip
    for ax, (scaling, training, title, factor) in zip(axes[0], cases, strict=True):
        for scheme, predicted in (("moon", factor**t), ("semeniuta", np.ones(steps))):
            drop = getattr(RecurrentDropout, scheme)(rate, "sequence", scaling)
            cell = memory.fading(drop, steps, training, updates=0.0, draws=64).numpy()
            kept = cell[:, np.abs(cell[-1]).argmax()]  # a unit that this sequence's mask keeps
            ax.plot(t, predicted, color=COLOURS[scheme], label=f"{scheme.capitalize()}, predicted")
            ax.plot(t, kept, "o", color=COLOURS[scheme], markersize=4, label="a real cell")
        ax.set(title=title, xlabel="steps since the memory was written", yscale="log")
        ax.set_xticks(range(0, steps + 1, 5))
    axes[0, 0].set_ylabel("what is left of a memory of 1")
    axes[0, 0].legend(frameon=False, fontsize=9)
    return figure


def effect(results_dir: str | os.PathLike = "book/results") -> Figure:
    """The first figure of the book: training against test accuracy, one dot for each seed."""
    found = [
        m
        for m in results.read_all(results_dir, "temporal_order")
        if (m["protocol"], m["status"]) == ("quick", "finished")
        and m["condition"]["scaling"] == "paper"
        and (m["condition"]["rate"], m["condition"]["per"]) == (0.5, "sequence")
        and m["condition"]["settings"]["length"] == 15
        and "cell" not in m["condition"]["settings"]  # an LSTM
    ]
    if len({m["condition"]["scheme"] for m in found} & set(ORDER)) < len(ORDER):
        raise ValueError(f"no quick Temporal Order results in {results_dir}; run notebook 02")
    figure, axes = panels(1, 2, 3, width_ratios=[2, 1])
    ax = axes[0, 0]
    for x, scheme in enumerate(ORDER):
        mine = [m["final"]["last"] for m in found if m["condition"]["scheme"] == scheme]
        for offset, split, filled in ((-0.18, "train", False), (0.18, "test", True)):
            values = [e[split] for e in mine]
            ax.bar(
                x + offset, np.mean(values), 0.32, edgecolor=COLOURS[scheme], linewidth=1.5,
                facecolor=COLOURS[scheme] if filled else GROUND,
            )  # fmt: skip
            ax.plot(np.full(len(values), x + offset), values, "o", color=INK, markersize=3)
            ax.text(x + offset, -0.06, split, ha="center", fontsize=9)
    ax.axhline(CHANCE, color=GREY, linestyle=":", linewidth=1)
    ax.text(2.9, CHANCE + 0.015, "chance", ha="right", fontsize=9)
    ax.set(xlim=(-0.5, 2.9), ylim=(0, 1.02), ylabel="accuracy")
    ax.set_title("All learn it; one fails the test", fontsize=11)
    ax.set_xticks(range(3), [LABELS[s].replace(": ", ":\n") for s in ORDER], fontsize=9)
    ax.tick_params("x", pad=20, length=0)
    t = np.arange(16)
    ax = axes[0, 1]
    ax.plot(t, np.ones(16), color=COLOURS["semeniuta"], label="own, Eq. 15")
    ax.plot(t, 0.5**t, color=COLOURS["moon"], label="Moon, Eq. 13")
    ax.set(xlabel="steps", ylabel="share left at the test")
    ax.set_title("Why: what is left of a memory", fontsize=11)
    ax.set_xticks(range(0, 16, 5))
    ax.legend(frameon=False, fontsize=9)
    return figure


def learning_curves(manifests: list[dict], keys: tuple[str, ...], ylabel: str) -> Figure:
    """One panel for each measure, one line for each network, over epochs.

    Colour is the scheme, dashes are masks per step, dots forward dropout.
    """
    figure, axes = panels(1, len(keys), 3.4, sharey=True)
    for ax, key in zip(axes[0], keys, strict=True):
        for m in manifests:
            c = m["condition"]
            label = f"{c['scheme']} {c['rate']:g}, per {c['per']}" if c["rate"] else "none"
            label += ", forward" if c["forward"] else ""
            ax.plot(
                [e["epoch"] for e in m["curve"]], [e[key] for e in m["curve"]],
                color=COLOURS[c["scheme"]], linestyle="-" if c["per"] != "step" else "--",
                marker="o" if c["forward"] else "", markersize=3, label=label,
            )  # fmt: skip
        ax.set(title=key, xlabel="epoch")
    axes[0, 0].set_ylabel(ylabel)
    handles, labels = axes[0, -1].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure


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
                cells[:, order].T, aspect="auto", cmap="RdBu_r", vmin=-top, vmax=top,
                interpolation="none",
            )  # fmt: skip
            ax.set_title(f"{LABELS[m['condition']['scheme']]}, {phase}", fontsize=10)
        row[0].set_ylabel("unit")
        figure.colorbar(picture, ax=row, label="cell state", shrink=0.9)
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
            half = [interval(list(v)) or 0 for v in values.T]
            ax.fill_between(rates, np.clip(values.mean(0) - half, 0, 1),
                            np.clip(values.mean(0) + half, 0, 1),
                            color=COLOURS[scheme], alpha=0.15, linewidth=0)  # fmt: skip
        ax.axhline(CHANCE, color=GREY, linestyle=":", linewidth=1)
        for trained in {m["condition"]["rate"] for m in manifests}:
            ax.axvline(trained, color=GREY, linewidth=0.6)
        title = "training masks at this rate" if masked else "evaluation, factor 1 minus this rate"
        ax.set(title=title, xlabel="rate", ylim=(0, 1.02))
    axes[0, 0].set_ylabel("accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
