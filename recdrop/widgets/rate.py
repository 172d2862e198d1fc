"""A slider that evaluates trained networks at another rate than they were trained with."""

import os

import ipywidgets

from recdrop.study import memory


def rate_slider(
    manifests: list[dict], results_dir: str | os.PathLike, length: int
) -> ipywidgets.VBox:
    """An ipywidgets control over ``manifests``' networks, which must have kept their weights.

    Needs a running kernel. The result is an HTML widget, so that it is part of the saved state.
    """
    rate = ipywidgets.FloatSlider(
        value=manifests[0]["condition"]["rate"],
        min=0,
        max=0.9,
        step=0.05,
        description="rate",
        continuous_update=False,
    )
    masked = ipywidgets.ToggleButtons(
        options=[("evaluation", False), ("training masks", True)], description="phase"
    )
    shown = ipywidgets.HTML()

    def update(_=None) -> None:
        shown.value = report(manifests, results_dir, length, rate.value, masked.value)

    for control in (rate, masked):
        control.observe(update, "value")
    update()
    return ipywidgets.VBox([rate, masked, shown])


def report(
    manifests: list[dict],
    results_dir: str | os.PathLike,
    length: int,
    rate: float,
    masked: bool,
) -> str:
    """An HTML table of accuracies at one setting, a row for each network."""
    rows = []
    for m in manifests:
        c = m["condition"]
        found = memory.accuracy(memory.network(m, results_dir, rate), length, masked)
        what = f"{c['scheme']} {c['rate']:g} per {c['per']}"
        rows.append(f"<tr><td>{what}</td><td>{c['seed']}</td><td>{100 * found:.1f} %</td></tr>")
    head = "<tr><th>trained with</th><th>seed</th><th>accuracy here</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
