"""How long networks have trained, and on what: read from their manifests."""

import os

from recdrop.study import results
from recdrop.study.paper import TASKS

HEADER = "| table | protocol | trained on | networks | hours of training |\n|---|---|---|---|---|"


def rows(results_dir: str | os.PathLike = "book/results") -> list[dict]:
    """A row for each task, protocol and kind of machine: networks, and hours of training.

    Networks trained at once share their time: a manifest has the seconds of its whole table until
    this network ended, which are divided by the number of networks that were in it at first; so
    what a table took after some of them had ended is counted short. One that has moved counts
    where it was finished.
    """
    found: dict[tuple, dict] = {}
    for m in results.read_everything(results_dir):
        made = m["made_with"]
        for device, seconds in m.get("seconds_on", {made["device"]: m["seconds"]}).items():
            on = device
            if device == "cpu":
                on = _threads(made["threads"]) if made["device"] == "cpu" else "CPU"
            key = (m["condition"]["task"], m["protocol"], on)
            row = found.setdefault(key, {"networks": 0, "hours": 0.0})
            row["networks"] += device == made["device"]
            row["hours"] += seconds / m["networks_in_table"] / 3600
    keys = ("task", "protocol", "on")
    return [dict(zip(keys, key, strict=True)) | found[key] for key in sorted(found)]


def markdown(results_dir: str | os.PathLike = "book/results") -> str:
    """The same as a table."""
    tables = {task: f"{number}" for number, task in TASKS.items()}
    lines = [
        f"| {tables.get(r['task'], '')} ({r['task']}) | {r['protocol']} | {r['on']} "
        f"| {r['networks']} | {r['hours']:.2f} |"
        for r in rows(results_dir)
    ]
    return "\n".join([HEADER, *lines])


def _threads(threads: int) -> str:
    return "CPU, 1 thread" if threads == 1 else f"CPU, {threads} threads"
