"""The data of a figure, read back from what is drawn in it.

Whatever a figure shows can be had as CSV without being written down a second time: lines with their
intervals, bars, dots, bands, and heat maps. Guides, such as the line of chance, are no data, and
neither is a diagram, that is, a panel without axes.
"""

import csv
import io
import re
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

UNNAMED = re.compile(r"_(child|container)\d+$|_nolegend_$")
DIGITS = 6
"""Significant ones: what lies behind them differs between machines."""


def as_csv(figure: Figure) -> str:
    r"""The figure's data with a header, or an empty text where there are none.

    One line for each point: the panel it is in, the series it belongs to, its place, and where one
    is drawn its interval; of a heat map one line for each of its rows. A series is named by its
    label, also where a "_" in front keeps that out of the legend. Columns bear the names of the
    axes where all panels have the same, and else x and y. A place on an axis of names is told by
    its name, and a row or column of a heat map by the label that it has.

    Raises:
        ValueError: heat maps and points are in one figure; these need two tables.

    >>> figure = Figure()
    >>> ax = figure.subplots()
    >>> _ = ax.set(title="train", xlabel="epoch", ylabel="accuracy")
    >>> _ = ax.plot([1, 2], [0.25, 0.5], label="own")
    >>> print(as_csv(figure), end="")
    panel,series,epoch,accuracy
    train,own,1,0.25
    train,own,2,0.5
    """
    panels = [ax for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"]
    maps = [row for ax in panels for row in _maps(ax)]
    points = [row for ax in panels for row in _points(ax)]
    if maps and points:
        raise ValueError("a figure of heat maps and of points at once has no one table")
    x, y = (_name(panels, which) for which in "xy")
    if maps:
        count = max(map(len, maps)) - 2
        labels = [_labels(ax.xaxis, count) for ax in panels if ax.images]
        columns = labels[0] if all(found == labels[0] for found in labels) else range(count)
        header = ["panel", y, *(f"{x} {label}" for label in columns)]
    else:
        header = ["panel", "series", x, y, "low", "high"]
        if all(row[4:] == [None, None] for row in points):
            header, points = header[:4], [row[:4] for row in points]
    lines = maps or points
    if not lines:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *([_cell(value) for value in line] for line in lines)])
    return text.getvalue()


def _maps(ax: Axes) -> Iterator[list]:
    for image in ax.images:
        rows = np.asarray(image.get_array())
        for label, values in zip(_labels(ax.yaxis, len(rows)), rows, strict=True):
            yield [_panel(ax), label, *values]


def _labels(axis: Axis, count: int) -> list:
    """Those of a heat map's rows or columns, or their places where not each has one."""
    places, labels = _given(axis)
    return labels if places == list(range(count)) else list(range(count))


def _given(axis: Axis) -> tuple[list[float], list[str]]:
    """An axis' own labels and where they stand; none where its labels were not given."""
    locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
    if not (isinstance(locator, FixedLocator) and isinstance(formatter, FuncFormatter)):
        return [], []
    return list(locator.locs), [formatter(place).replace("\n", " ") for place in locator.locs]


def _points(ax: Axes) -> Iterator[list]:
    """Panel, series, x, y, low, high."""
    drawn = set()
    for container in ax.containers:
        if isinstance(container, ErrorbarContainer):
            line, _, _ = container.lines
            drawn |= {line, *container.lines[1]}
            if line is not None:  # else it belongs to bars
                yield from _placed(ax, container, *line.get_data(), *_interval(container))
        elif isinstance(container, BarContainer):
            for at, bar in enumerate(container.patches):
                upright = container.orientation == "vertical"
                x = bar.get_x() + bar.get_width() / 2 if upright else bar.get_width()
                y = bar.get_height() if upright else bar.get_y() + bar.get_height() / 2
                low, high = _interval(container.errorbar) if container.errorbar else ([None],) * 2
                yield from _placed(ax, container, [x], [y], low[at : at + 1], high[at : at + 1])
    bands = {band.get_label(): _band(band) for band in ax.collections
             if isinstance(band, PolyCollection)}  # fmt: skip
    for line in ax.lines:
        if line not in drawn and line.get_transform() is ax.transData:
            xs, ys = line.get_data()
            ends = bands.get(line.get_label(), {})
            pairs = [ends.get(float(x), (None, None)) for x in xs]
            yield from _placed(ax, line, xs, ys, *zip(*pairs, strict=True))


def _band(band: PolyCollection) -> dict[float, tuple[float, float]]:
    """Its lower and upper edge by x; it belongs to the line of the same label."""
    (path,) = band.get_paths()
    x, y = path.vertices.T
    return {float(at): (y[x == at].min(), y[x == at].max()) for at in np.unique(x)}


def _placed(ax: Axes, artist, xs, ys, lows=(), highs=()) -> Iterator[list]:
    # "_" keeps a series out of legends; matplotlib's own names, such as _child0, are none.
    label = str(artist.get_label() or "")
    series = "" if UNNAMED.match(label) else label.removeprefix("_").replace("\n", " ")
    nothing = [None] * len(xs)
    lows, highs = (v if len(v) else nothing for v in (lows, highs))
    for x, y, low, high in zip(xs, ys, lows, highs, strict=True):
        yield [_panel(ax), series, _place(ax.xaxis, x), _place(ax.yaxis, y), low, high]


def _interval(container: ErrorbarContainer) -> tuple[list[float], list[float]]:
    """Both ends of each bar, along the one axis on which this figure has intervals."""
    axis = 0 if container.has_xerr else 1
    (bars,) = container.lines[2]
    ends = [path.vertices[:, axis] for path in bars.get_paths()]
    return [pair.min() for pair in ends], [pair.max() for pair in ends]


def _place(axis: Axis, value):
    """A value, or the name that stands nearest to it on an axis of names."""
    places, labels = _given(axis)
    numbers = all(label.replace(".", "", 1).isdigit() for label in labels)
    return value if numbers else labels[int(np.abs(np.subtract(places, value)).argmin())]


def _panel(ax: Axes) -> str:
    return (ax.get_title() or ax.get_xlabel()).replace("\n", " ")


def _name(panels: list[Axes], which: str) -> str:
    """What all axes of this direction are named, or x or y where they differ or have no name."""
    names = set()
    for ax in panels:
        siblings = getattr(ax, f"get_shared_{which}_axes")().get_siblings(ax)
        labels = [getattr(other, f"get_{which}label")() for other in (ax, *siblings)]
        names.add(next(filter(None, labels), ""))
    return (names.pop().replace("\n", " ") if len(names) == 1 else "") or which


def _cell(value) -> str:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    return value if isinstance(value, str) else f"{value:.{DIGITS}g}"
