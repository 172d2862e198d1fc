"""What all figures share: colours for light and dark pages, empty panels, the picture file.

A figure is an SVG for a light page. A style sheet in it changes its few colours where the page
around it is dark, so that one file serves both, in the book, in JupyterLab and on GitHub. It brings
its own ground along: a viewer that knows no dark pages shows it light, and it can still be read.
"""

import io
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
from IPython.display import SVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from recdrop.plotted import as_csv

GROUND, INK, GREY, SHADE = "#ffffff", "#000000", "#555555", "#f0f1f2"
# Okabe and Ito's palette, which readers with any colour vision can tell apart.
BLUE, GREEN, VERMILION, PURPLE = "#0072b2", "#009e73", "#d55e00", "#cc79a7"
DARK = {
    GROUND: "#121212",
    INK: "#ced6dd",
    GREY: "#aab2bb",
    SHADE: "#262b33",
    BLUE: "#6cbdf0",
    GREEN: "#14a67d",
    VERMILION: "#f58231",
    PURPLE: "#dd9ec2",
}
"""Each colour on a dark page; ground and ink are those of the book's theme."""

DIVERGING = LinearSegmentedColormap.from_list(
    "diverging", [(0, BLUE), (0.5, BLUE + "00"), (0.5, VERMILION + "00"), (1, VERMILION)]
)
"""Of heat maps, which are pictures that no style sheet reaches: their middle is transparent and
shows the ground, white or dark."""

WIDTH = 7.1
"""Inches; at 96 pixels an inch that is the width of the book's text, so letters keep their size."""


def _dark_sheet() -> str:
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    rules += f"svg{{fill:{DARK[INK]}}}"  # matplotlib names no fill where it is black
    return f"<style>@media(prefers-color-scheme:dark){{{rules}}}</style>"


def panels(
    rows: int = 1, columns: int = 1, height: float = 2.8, **options
) -> tuple[Figure, np.ndarray]:
    """An empty figure, ``height`` in inches, and its axes (rows, columns); options of subplots."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=GROUND)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg(figure: Figure) -> str:
    """The figure as one SVG element; the same content gives the same characters."""
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "recdrop"}):
        figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = file.getvalue()
    text = text[text.index("<svg") :]
    return re.sub("<metadata>.*?</metadata>", _dark_sheet(), text, flags=re.DOTALL)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, or in the format that the name asks for; its data beside it as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        path.write_text(svg(figure), encoding="utf-8", newline="\n")
    else:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    if data := as_csv(figure):
        path.with_suffix(".csv").write_text(data, encoding="utf-8", newline="\n")


class Shown:
    """A figure as a notebook keeps it: the picture, and what is plotted in it as CSV.

    The book makes a file of the CSV and links it below the caption; JupyterLab shows the picture.
    """

    def __init__(self, figure: Figure):
        self.svg, self.csv = SVG(svg(figure)).data, as_csv(figure)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        bundle = {"image/svg+xml": self.svg, "text/csv": self.csv}
        return {kind: text for kind, text in bundle.items() if text}

    def __repr__(self) -> str:
        return "<figure>"


def show(figure: Figure) -> Shown:
    """The figure as a notebook shows it."""
    return Shown(figure)
