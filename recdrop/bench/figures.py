"""Figures of the chapter on speed, each a function of the bench's measurements."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recdrop.bench import contenders
from recdrop.bench.report import select
from recdrop.bench.shapes import SWEEP, Shape
from recdrop.drawing import BLUE, GREEN, GREY, GROUND, PURPLE, VERMILION, panels

STYLES = {
    (contenders.BASE[0], "fp32"): (GREY, "-", "o"),
    (contenders.BASE[0], "bf16"): (GREY, "--", "o"),
    (contenders.OURS, "fp32"): (BLUE, "-", "s"),
    (contenders.OURS, "bf16"): (BLUE, "--", "s"),
    (contenders.FALLBACK, "fp32"): (GREEN, "-", "^"),
    (contenders.FALLBACK, "bf16"): (GREEN, "--", "^"),
}
TICKS = (0.25, 0.5, 1, 2, 4)
OTHER = (VERMILION, ":", "D")


def ratios(found: list[dict]) -> Figure:
    """Forward and backward against nn.LSTM, median and quartiles; a panel for each thread count."""
    found = select(found, part="shapes", **{"pass": "both"})
    counts = sorted({row["threads"] for row in found})
    figure, axes = panels(1, len(counts), 0.5 * _number_of_names(found) + 1.6, sharey=True)
    for ax, threads in zip(axes[0], counts, strict=True):
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
            face = colour if line == "-" else GROUND
            ax.errorbar(middle, y, xerr=errors, color=colour, fmt=marker, markersize=5,
                        markerfacecolor=face, label=" ".join(key))  # fmt: skip
        ax.axvline(1, color=GREY, linewidth=1)
        ax.set(xscale="log", xlabel="time relative to nn.LSTM, fp32",
               xlim=(0.25, 4.2), ylim=(len(names) - 0.5, -0.5))  # fmt: skip
        ax.set_title(_threads(threads))
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks(TICKS, [f"{value:g}" for value in TICKS])
        ax.minorticks_off()
    _legend(figure, axes[0, 0])
    return figure


def sweep(found: list[dict], threads: int) -> Figure:
    """Time of forward and backward by H, T, B and R, above the bound that the ceilings give."""
    found = select(found, part="sweep", threads=threads)
    figure, axes = panels(2, len(SWEEP) // 2, 5.4, sharey=True)
    for ax, axis in zip(axes.flat, SWEEP, strict=True):
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
            ax.plot([_value(row) for row in base], bound, line, color=PURPLE, linewidth=1,
                    label=f"bound by ceilings, {dtype}")  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel=axis)
        values = [_value(row) for row in base]
        ax.set_xticks(values, [str(value) for value in values])
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("ms")
    _legend(figure, axes[0, 0])
    return figure


def peers(found: list[dict], name: str, threads: int) -> Figure:
    """All contenders at one shape, in float32, the slowest first."""
    here = select(found, part="peers", name=name, threads=threads, **{"pass": "both"})
    here = sorted(here, key=lambda row: -row["ratio"][1])
    figure, ((ax,),) = panels(height=0.42 * len(here) + 1.2)
    for place, row in enumerate(here):
        low, middle, high = row["ratio"]
        colour = STYLES.get(_key(row), OTHER)[0]
        ax.barh(place, middle, 0.6, color=colour, xerr=[[middle - low], [high - middle]])
        ax.text(high + 0.06, place, f"{middle:.2f}", va="center")
    ax.set_yticks(range(len(here)), [row["contender"] for row in here])
    ax.set(xlabel="time over that of nn.LSTM without dropout", title=f"{name}, {_threads(threads)}")
    return figure


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def _key(row: dict) -> tuple[str, str]:
    return row["contender"], row["dtype"]


def _value(row: dict) -> int:
    return int(row["name"].partition("=")[2])


def _number_of_names(found: list[dict]) -> int:
    return len({row["name"] for row in found})


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"
