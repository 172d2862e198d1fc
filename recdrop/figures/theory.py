"""What the equations say, beside what the mask stream and a real cell do."""

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from recdrop.drawing import BLUE, panels
from recdrop.dropout import RecurrentDropout, threshold
from recdrop.figures.style import COLOURS, LABELS
from recdrop.masks import kept
from recdrop.study import memory


def masks(rate: float = 0.5, steps: int = 15, units: int = 24, seed: int = 1) -> Figure:
    """The masks of one row over time, per step and per sequence, as the stream draws them."""
    figure, axes = panels(1, 2, 2.1, sharey=True)
    for ax, per in zip(axes[0], ("step", "sequence"), strict=True):
        drawn = 1 if per == "sequence" else steps
        bits = kept(torch.tensor([seed]), threshold(rate), "update", drawn, 1, units)[0, :, 0]
        ax.imshow(bits.expand(steps, units).T.numpy(), cmap=ListedColormap(["none", BLUE]),
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
            name = LABELS[scheme].partition(":")[0]
            drop = getattr(RecurrentDropout, scheme)(rate, "sequence", scaling)
            cell = memory.fading(drop, steps, training, updates=0.0, draws=64).numpy()
            kept = cell[:, np.abs(cell[-1]).argmax()]  # a unit that this sequence's mask keeps
            ax.plot(t, predicted, color=COLOURS[scheme], label=f"{name}, predicted")
            ax.plot(t, kept, "o", color=COLOURS[scheme], markersize=4, label=f"{name}, a real cell")
        ax.set(title=title, xlabel="steps since the memory was written", yscale="log")
        ax.set_xticks(range(0, steps + 1, 5))
    axes[0, 0].set_ylabel("what is left of a memory of 1")
    axes[0, 0].legend(frameon=False, fontsize=9)
    return figure
