"""Where each scheme's mask stands, as a diagram."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from recdrop.drawing import GROUND, INK, SHADE, panels
from recdrop.figures.style import COLOURS, LABELS


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
