"""Figures of the chapter on speed, each a function of the bench's measurements."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recdrop.bench import contenders
from recdrop.bench.report import select
from recdrop.bench.shapes import SWEEP, Shape

# Okabe and Ito's palette, as in recdrop.figures.
STYLES = {
    (contenders.BASE[0], "fp32"): ("#555555", "-", "o"),
    (contenders.BASE[0], "bf16"): ("#555555", "--", "o"),
    (contenders.OURS, "fp32"): ("#0072B2", "-", "s"),
    (contenders.OURS, "bf16"): ("#0072B2", "--", "s"),
    (contenders.FALLBACK, "fp32"): ("#009E73", "-", "^"),
    (contenders.FALLBACK, "bf16"): ("#009E73", "--", "^"),
}
TICKS = (0.25, 0.5, 1, 2, 4)
OTHER = ("#D55E00", ":", "D")


def ratios(found: list[dict]) -> Figure:
    """Forward and backward against nn.LSTM, median and quartiles; a panel for each thread count."""
    found = select(found, part="shapes", **{"pass": "both"})
    counts = sorted({row["threads"] for row in found})
    figure, axes = _panels(
        len(counts), 5.4 * len(counts) + 1.6, 0.5 * _number_of_names(found) + 1.6
    )
    for ax, threads in zip(axes, counts, strict=True):
        here = select(found, threads=threads)
        names = list(dict.fromkeys(row["name"] for row in here))
        keys = list(dict.fromkeys(_key(row) for row in here))
        keys = [key for key in keys if key != contenders.BASE and key in STYLES]
        for place, key in enumerate(keys):
            rows = [row for row in here if _key(row) == key]
            y = [names.index(row["name"]) + 0.6 * (place / max(1, len(keys) - 1) - 0.5)
                 for row in rows]  # fmt: skip
            low, middle, high = zip(*(row["ratio"] for row in rows), strict=True)
            errors = [[m - v for m, v in zip(middle, low, strict=True)],
                      [v - m for m, v in zip(middle, high, strict=True)]]  # fmt: skip
            colour, line, marker = STYLES[key]
            face = colour if line == "-" else "white"
            ax.errorbar(middle, y, xerr=errors, color=colour, fmt=marker, markersize=5,
                        markerfacecolor=face, label=" ".join(key))  # fmt: skip
        ax.axvline(1, color="#555555", linewidth=1)
        ax.set(xscale="log", xlabel="time over that of nn.LSTM without dropout, fp32",
               xlim=(0.25, 4.2), ylim=(len(names) - 0.5, -0.5))  # fmt: skip
        ax.set_title(_threads(threads))
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks(TICKS, [f"{value:g}" for value in TICKS])
        ax.minorticks_off()
    _legend(figure, axes)
    return figure


def sweep(found: list[dict], threads: int) -> Figure:
    """Time of forward and backward by H, T, B and R, above the bound that the ceilings give."""
    found = select(found, part="sweep", threads=threads)
    figure, axes = _panels(len(SWEEP), 13, 3.6)
    for ax, axis in zip(axes, SWEEP, strict=True):
        here = [row for row in found if row["name"].startswith(axis + "=")]
        for key in dict.fromkeys(_key(row) for row in here):
            rows = [row for row in here if _key(row) == key]
            colour, line, marker = STYLES.get(key, OTHER)
            times = [row["seconds"][1] * 1e3 for row in rows]
            style = dict(color=colour, marker=marker, markersize=4, label=" ".join(key))
            ax.plot([_value(row) for row in rows], times, line, **style)
        base = [row for row in here if _key(row) == contenders.BASE]
        for dtype, line in (("fp32", "-"), ("bf16", "--")):
            bound = [Shape(*row["shape"]).bound(row["ceilings"], dtype) * 1e3 for row in base]
            ax.plot([_value(row) for row in base], bound, line, color="#CC79A7", linewidth=1,
                    label=f"bound by ceilings, {dtype}")  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel=axis)
        values = [_value(row) for row in base]
        ax.set_xticks(values, [str(value) for value in values])
        ax.minorticks_off()
    axes[0].set_ylabel("ms")
    _legend(figure, axes)
    return figure


def peers(found: list[dict], name: str, threads: int) -> Figure:
    """All contenders at one shape, in float32, the slowest first."""
    here = select(found, part="peers", name=name, threads=threads, **{"pass": "both"})
    here = sorted(here, key=lambda row: -row["ratio"][1])
    figure, (ax,) = _panels(1, 9, 0.42 * len(here) + 1.2)
    for place, row in enumerate(here):
        low, middle, high = row["ratio"]
        colour = STYLES.get(_key(row), OTHER)[0]
        ax.barh(place, middle, 0.6, color=colour, xerr=[[middle - low], [high - middle]])
        ax.text(high + 0.06, place, f"{middle:.2f}", va="center")
    ax.set_yticks(range(len(here)), [row["contender"] for row in here])
    ax.set(xlabel="time over that of nn.LSTM without dropout", title=f"{name}, {_threads(threads)}")
    return figure


def _panels(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    # White behind, in the dark theme too: the lines' colours are chosen for it.
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _legend(figure: Figure, axes: list[Axes]) -> None:
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def _key(row: dict) -> tuple[str, str]:
    return row["contender"], row["dtype"]


def _value(row: dict) -> int:
    return int(row["name"].partition("=")[2])


def _number_of_names(found: list[dict]) -> int:
    return len({row["name"] for row in found})


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"
