"""Training, epoch by epoch."""

import numpy as np
from matplotlib.figure import Figure

from recdrop.drawing import PURPLE, panels
from recdrop.figures.style import COLOURS


def learning_curves(
    manifests: list[dict], keys: tuple[str, ...], ylabel: str, scale: float = 1
) -> Figure:
    """One panel for each measure, times ``scale``, one line for each network, over epochs.

    Colour is the scheme (several at once have one of their own), dashes are masks per step, dots
    forward dropout.
    """
    figure, axes = panels(1, len(keys), 3.4, sharey=True)
    seeds = {m["condition"]["seed"] for m in manifests}
    legend = {}
    for ax, key in zip(axes[0], keys, strict=True):
        for m in manifests:
            c = m["condition"]
            label = f"{c['scheme']} {c['rate']:g}, per {c['per']}" if c["rate"] else "none"
            label += ", forward" if c["forward"] else ""
            name = f"{label}, seed {c['seed']}" if len(seeds) > 1 else label
            measured = [e for e in m["curve"] if key in e]
            values = scale * np.array([e[key] for e in measured], float)  # NaN where it diverged
            (legend[label],) = ax.plot(
                [e["epoch"] for e in measured], values,
                color=COLOURS.get(c["scheme"], PURPLE), label=name,
                linestyle="-" if c["per"] != "step" else "--",
                marker="o" if c["forward"] else "", markersize=3,
            )  # fmt: skip
        ax.set(title=key, xlabel="epoch")
    axes[0, 0].set_ylabel(ylabel)
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=3,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure
