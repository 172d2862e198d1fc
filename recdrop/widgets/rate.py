"""A slider that evaluates trained networks at another rate than they were trained with."""

import os

import ipywidgets
from IPython.display import Markdown, display

from recdrop.study import memory


def rate_slider(manifests: list[dict], results_dir: str | os.PathLike, length: int):
    """An ipywidgets control over ``manifests``' networks, which must have kept their weights."""
    rate = ipywidgets.FloatSlider(
        value=0.5, min=0, max=0.9, step=0.05, description="rate", continuous_update=False
    )
    masked = ipywidgets.ToggleButtons(
        options={"evaluation": False, "training masks": True}, description="phase"
    )
    return ipywidgets.VBox(
        [
            rate,
            masked,
            ipywidgets.interactive_output(
                lambda rate, masked: display(
                    Markdown(report(manifests, results_dir, length, rate, masked))
                ),
                {"rate": rate, "masked": masked},
            ),
        ]
    )


def report(manifests, results_dir, length: int, rate: float, masked: bool) -> str:
    """A table of accuracies at one setting, a line for each network."""
    lines = ["| trained with | seed | accuracy here |", "|---|---|---|"]
    for m in manifests:
        c = m["condition"]
        found = memory.accuracy(memory.network(m, results_dir, rate), length, masked)
        what = f"{c['scheme']} {c['rate']:g} per {c['per']}"
        lines.append(f"| {what} | {c['seed']} | {100 * found:.1f} % |")
    return "\n".join(lines)
