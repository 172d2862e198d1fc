"""Beyond the paper: where Moon's failure sets in, sequences longer than trained, plateaus."""

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from recdrop.drawing import BLUE, GREEN, GREY, GROUND, INK, PURPLE, VERMILION, panels
from recdrop.figures.style import CHANCE, COLOURS, LABELS, ORDER
from recdrop.study import beyond
from recdrop.study.beyond import Cell
from recdrop.study.plateau import Start

TRACES = (0.1, 0.01, 0.001)
"""Of the lines along which Eq. 13 leaves the same of a memory."""
FAILED = LinearSegmentedColormap.from_list("failed", [VERMILION, VERMILION + "00"])
"""From all wrong to all right, which is transparent: a picture that any ground shows through."""
SHADES = (BLUE, GREEN, VERMILION, PURPLE, GREY)


def phase_diagram(cells: list[Cell]) -> Figure:
    """Moon's test accuracy by length and rate, with lines along which Eq. 13 leaves the same.

    Where Eq. 13 is all there is, the colours follow the lines. A cross is where no network learned.
    """
    figure, axes = panels(1, 1, 3)
    ax = axes[0, 0]
    lengths, rates = (sorted({getattr(c, k) for c in cells}) for k in ("length", "rate"))
    shown = np.full((len(lengths), len(rates)), np.nan)
    for c in cells:
        at = lengths.index(c.length), rates.index(c.rate)
        if c.learned:
            shown[at] = np.mean(c.test)
        text = f"{100 * np.mean(c.test):.0f}" if c.learned else "×"
        halo = [withStroke(linewidth=2.5, foreground=GROUND)]  # ink is bright on a dark page
        ax.text(at[1], at[0], text, ha="center", va="center", fontsize=9, path_effects=halo)
    ax.imshow(shown, cmap=FAILED, vmin=0, vmax=1, aspect="auto", origin="lower",
              interpolation="none")  # fmt: skip
    for trace, aside in zip(TRACES, (0, -6, 10), strict=True):
        at = [1 - trace ** (1 / beyond.factors(length)) for length in lengths]
        xs = np.interp(at, rates, range(len(rates)))
        line = np.column_stack([xs, range(len(lengths))])
        ax.add_collection(LineCollection([line], colors=INK, linewidths=1, linestyles="--"))
        ax.annotate(f"{trace:g}", (xs[0], 0), (aside, -14), textcoords="offset points", ha="center",
                    fontsize=8)  # fmt: skip
    ax.set_xticks(range(len(rates)), [f"{r:g}" for r in rates])
    ax.set_yticks(range(len(lengths)), map(str, lengths))
    ax.set(xlabel="rate", ylabel="symbols")
    return figure


def collapse(cells: list[Cell]) -> Figure:
    """The same accuracies against what Eq. 13 leaves of a trace: one curve for all lengths, if it
    is all there is. Dots are networks, markers their means; those that did not learn are left out.
    """
    figure, axes = panels(1, 1, 3)
    ax = axes[0, 0]
    lengths = sorted({c.length for c in cells})
    for length, colour, marker in zip(lengths, SHADES * 2, "osD^vosD^v", strict=False):
        mine = [c for c in cells if c.length == length and c.rate and c.learned]
        traces = [beyond.left(c.rate, length) for c in mine]
        ax.plot(traces, [np.mean(c.test) for c in mine], marker=marker, markersize=4,
                color=colour, linewidth=1, label=f"{length} symbols")  # fmt: skip
        seeds = [(trace, test) for trace, c in zip(traces, mine, strict=True) for test in c.test]
        ax.plot(*np.array(seeds or [(np.nan, np.nan)]).T, ".", color=colour, markersize=3,
                alpha=0.6, label=f"_{length} symbols, a seed")  # fmt: skip
    ax.axhline(CHANCE, color=GREY, linestyle=":", linewidth=1)
    ax.set(xscale="log", ylim=(0, 1.02), xlabel="left of the first symbol by Eq. 13")
    ax.set_xlim(right=1)
    ax.set_ylabel("test accuracy")
    ax.legend(frameon=False, fontsize=9)
    return figure


def longer(
    manifests: list[dict], accuracies: dict[str, list[float]], lengths=beyond.LONGER
) -> Figure:
    """Accuracy of networks trained at one length when tested at others, a line for each seed."""
    figure, axes = panels(1, 2, 3.2, sharey=True)
    for ax, per in zip(axes[0], ("step", "sequence"), strict=True):
        for scheme in (*ORDER, "none"):
            mine = [m for m in manifests if m["condition"]["scheme"] == scheme]
            mine = [m for m in mine if m["condition"]["per"] in (per, "none")]
            values = np.array([accuracies[m["name"]] for m in mine])
            if not len(values):
                continue
            for m, line in zip(mine, values, strict=True):
                ax.plot(lengths, line, color=COLOURS[scheme], linewidth=0.6, alpha=0.6,
                        label=f"_{LABELS[scheme]}, seed {m['condition']['seed']}")  # fmt: skip
            ax.plot(lengths, values.mean(0), "o-", color=COLOURS[scheme], markersize=3,
                    label=LABELS[scheme])  # fmt: skip
        ax.axhline(CHANCE, color=GREY, linestyle=":", linewidth=1)
        ax.set(title=f"masks per {per}", xlabel="symbols at the test", ylim=(0, 1.02))
        ax.set(xscale="log")
        ax.minorticks_off()
        ax.set_xticks(lengths, map(str, lengths))
    axes[0, 0].set_ylabel("accuracy")
    lines = [line for line in axes[0, 0].lines if not line.get_label().startswith("_")]
    figure.legend(handles=lines, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def plateaus(known: list[Start], missing: list[Start], budget: int) -> Figure:
    """Epochs at chance against those that the untrained network lets one expect.

    Hollow markers are networks that have not been run, at ``t*``; the dotted line is the most
    epochs that Table 1 grants.
    """
    figure, axes = panels(1, 1, 3.4)
    ax = axes[0, 0]
    kinds = [(scheme, per, False) for scheme in ORDER for per in ("step", "sequence")]
    for scheme, per, scaled in [*kinds, ("moon", "step", True)]:
        mine = [s for s in known if (s.scheme, s.per, s.is_scaled) == (scheme, per, scaled)]
        ahead = [s for s in missing if (s.scheme, s.per, s.is_scaled) == (scheme, per, scaled)]
        marker = "^" if scaled else {"step": "o", "sequence": "s"}[per]
        style = {"marker": marker, "color": COLOURS[scheme], "linestyle": ""}
        label = f"{LABELS[scheme]}, per {per}" + ", Eq. 14" * scaled
        if mine:
            seeds = [(s.expected, e) for s in mine for e in s.epochs]
            ax.plot(*zip(*seeds, strict=True), markersize=5, alpha=0.8, label=label, **style)
        if ahead:
            epochs = [s.expected for s in ahead]
            ax.plot(epochs, epochs, markersize=6, markerfacecolor="none",
                    label=f"_{label}, not begun", **style)  # fmt: skip
    everything = [*known, *missing]
    if full := [(s.expected, s.followed) for s in everything if s.followed is not None]:
        ax.plot(*zip(*full, strict=True), "_", color=INK, markersize=9, label="equations followed")
    ends = [f(s.expected for s in everything) for f in (min, max)]
    ax.plot(ends, ends, color=GREY, linewidth=1, zorder=0, label="t*")
    ax.axhline(budget, color=GREY, linestyle=":", linewidth=1)
    ax.text(ends[0], budget, f"{budget:,} epochs", va="bottom", fontsize=8)
    ax.set(xscale="log", yscale="log", ylabel="epochs at chance")
    ax.set_xlabel("epochs at chance, t* of the untrained network")
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
