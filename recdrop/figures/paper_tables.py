"""A table of the paper in one picture, ours beside it."""

import os

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recdrop.drawing import GREY, GROUND, INK, panels
from recdrop.figures.style import COLOURS, LABELS, ORDER
from recdrop.study import paper, tables

OFFSETS = {"semeniuta": -0.24, "gal": 0.0, "moon": 0.24, "none": 0.0}


def table(number: int, results_dir: str | os.PathLike = "book/results") -> Figure:
    """Table 2, 3 or 4: test figures, a place for each condition.

    Diamonds are the paper's and dots are ours, with 95 % intervals: filled at its protocol, hollow
    at any other. Small networks, whose figures are of another size, have panels of their own; what
    was not run shows the paper's mark alone. A dotted line marks the paper's figure without
    recurrent dropout.

    Raises:
        ValueError: the paper has no such table, or its figures are no single measure.
    """
    if number not in (2, 3, 4):
        raise ValueError(f"table={number} cannot be drawn so; choose from 2, 3 and 4")
    rows = [_without_scheme(row) for row in tables.table(number, results_dir)]
    shown = [row for row in rows if row["protocol"] != "smoke"]
    small = sorted({row["protocol"] for row in shown if not row["protocol"].startswith("paper")})
    figure, axes = panels(
        2, 1 + len(small), 5.4, sharex="col", sharey=True, width_ratios=[2.2, *(1 for _ in small)]
    )
    places = list(dict.fromkeys((row["rate"], row["per"]) for row in sorted(shown, key=_order)))
    names = [f"{rate:g} per {per}" if rate else "none" for rate, per in places]
    for line, (forward, with_) in zip(axes, ((False, "without"), (True, "with")), strict=True):
        for ax, protocol in zip(line, ("paper", *small), strict=True):
            full = protocol == "paper"
            here = [row for row in shown if row["forward"] == forward
                    and (row["protocol"] in small) != full
                    and (full or row["protocol"] == protocol)]  # fmt: skip
            _draw(ax, here, places, papers=full)
            ax.set_title(
                f"{with_} forward dropout" if full else f"{protocol}, {with_}", fontsize=10
            )
        line[0].set_ylabel("recurrent dropout")
        line[0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    for column in axes.T:
        drawn = [ax for ax in column if ax.lines]
        drawn[-1].tick_params("x", labelbottom=True)
        drawn[-1].set_xlabel(f"test {paper.METRICS[number]}")
        for ax in column:
            ax.tick_params("y", length=0)
            ax.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
            if ax not in drawn:
                ax.set_title("")
                ax.set_axis_off()
    figure.legend(handles=_legend(bool(small)), loc="outside lower center", ncols=3, frameon=False,
                  fontsize=9)  # fmt: skip
    return figure


def _without_scheme(row: dict) -> dict:
    """A row of the one network that the paper prints under each scheme."""
    return row if row["rate"] else row | {"scheme": "none", "per": "none"}


def _order(row: dict) -> tuple:
    return row["rate"], ("none", "step", "sequence").index(row["per"])


def _draw(ax: Axes, rows: list[dict], places: list[tuple], papers: bool) -> None:
    for scheme in (*ORDER, "none"):
        mine = {(r["rate"], r["per"], r["protocol"]): r for r in rows if r["scheme"] == scheme}
        style = {"color": COLOURS[scheme], "linestyle": "", "zorder": 3}
        name = LABELS[scheme].partition(":")[0]
        printed = {key[:2]: row["paper_test"] for key, row in mine.items()}
        if papers and printed:
            y = [places.index(key) + OFFSETS[scheme] for key in printed]
            ax.plot(printed.values(), y, marker="D", markersize=5, markerfacecolor=GROUND,
                    label=f"{name}, the paper", **style)  # fmt: skip
            if scheme == "none":
                ax.axvline(*printed.values(), color=GREY, linestyle=":", linewidth=1)
        for protocol in dict.fromkeys(row["protocol"] for row in mine.values()):
            ours = [row for row in mine.values() if row["n"] and row["protocol"] == protocol]
            if not ours:
                continue
            filled = protocol in tables.COMPARABLE
            ax.errorbar(
                [row["test"] for row in ours],
                [places.index((row["rate"], row["per"])) + OFFSETS[scheme] for row in ours],
                xerr=[row["test_ci"] or float("nan") for row in ours],
                marker="o", markersize=5, elinewidth=1.2,
                markerfacecolor=COLOURS[scheme] if filled else GROUND,
                label=f"{name}, ours, {protocol}", **style,
            )  # fmt: skip


def _legend(small: bool) -> list[Line2D]:
    schemes = [Line2D([], [], color=COLOURS[s], linewidth=3, label=LABELS[s]) for s in ORDER]
    mark = {"color": INK, "linestyle": "", "markersize": 5}
    marks = [Line2D([], [], marker="D", markerfacecolor=GROUND, label="the paper", **mark),
             Line2D([], [], marker="o", label="ours, its protocol", **mark)]  # fmt: skip
    if small:
        marks.append(Line2D([], [], marker="o", markerfacecolor=GROUND,
                            label="ours, another protocol", **mark))  # fmt: skip
    return [
        handle for pair in zip(schemes, [*marks, None], strict=False) for handle in pair if handle
    ]
