"""Results files of the bench on a GPU, and their tables in Markdown."""

import json
from pathlib import Path

from recdrop.bench import steps
from recdrop.bench.gpu import CUDNN, SCHEMA
from recdrop.bench.report import duration, markdown_table, parsed
from recdrop.bench.shapes import Shape
from recdrop.study.files import atomic, from_root

EPOCHS = {"words": 40, "characters": 50, "order": 100, "entities": 50}
"""To which an update is projected; of words and order, as long as they usually take."""
NETWORKS = {"words": 26, "characters": 26, "order": 36, "entities": 78}
"""Of the whole table: distinct conditions; Table 1 and Table 4 with three seeds."""


def save(path: Path, run: dict) -> None:
    """Write a run's results file, in place of an older one."""
    path = from_root(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        part.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> dict:
    """A results file.

    Raises:
        ValueError: it is no results file of the bench on a GPU, or of another version of it: its
            tables cannot be made.
    """
    return parsed(path, SCHEMA, markdown, "the bench on a GPU")


def markdown(run: dict) -> str:
    """The machine, its ceilings, and tables of shapes and of updates."""
    m, c = run["machine"], run["ceilings"]
    products = ", ".join(f"{p} {c[p] / 1e12:.1f}" for p in run["options"]["precisions"])
    blocks = [
        f"{m['device']}, {m['system']}; torch {m['torch']}, CUDA {m['cuda']}, cuDNN {m['cudnn']}; "
        f"recdrop {m['recdrop']} ({m['backend']}), commit {m['commit']}.",
        f"Products in TFLOP/s: {products}; copies {c['bandwidth'] / 1e12:.2f} TB/s.",
        "**Forward and backward**\n\n" + _shapes(run),
        "**A training update of a table**\n\n" + _updates(run),
    ]
    blocks += [f"{name}: {why}." for name, why in run["absent"].items()]
    return "\n\n".join(blocks)


def _shapes(run: dict) -> str:
    rows = [r for r in run["rows"] if r["part"] == "shapes"]
    one = {(r["name"], r["precision"]): r["seconds"][1] for r in rows if r["contender"] == CUDNN}
    lines = []
    for r in rows:
        shape, seconds = Shape(*r["shape"]), r["seconds"][1]
        base = one.get((r["name"], r["precision"]))  # None where torch has none
        over = (
            ["", ""]
            if base is None
            else [f"{seconds / base:.2f}", f"{shape.R * base / seconds:.1f}"]
        )
        size = [str(n) for n in shape[:5]]
        lines.append(
            [r["name"], f"{size[0]} × {'×'.join(size[1:])}", r["precision"], r["contender"],
             duration(seconds), *over, *_shares(shape, r, run),
             _megabytes(r)]
        )  # fmt: skip
    head = ["LSTM of", "R × T×B×I×H", "precision", "contender", "time", "over one nn.LSTM",
            "throughput", "of FLOP ceiling", "of bandwidth", "MB"]  # fmt: skip
    return markdown_table(head, lines)


def _shares(shape: Shape, row: dict, run: dict) -> list[str]:
    c, seconds = run["ceilings"], row["seconds"][1]
    shares = (
        shape.flops / c[row["precision"]] / seconds,
        shape.bytes / c["bandwidth"] / seconds,
    )
    return [f"{100 * share:.1f} %" for share in shares]


def _megabytes(row: dict) -> str:
    return "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}"


def _updates(run: dict) -> str:
    """With the time that the benchmark's whole table takes at this pace."""
    lines = []
    for r in (r for r in run["rows"] if r["part"] == "updates"):
        name, seconds = r["name"], r["seconds"][1]
        updates = steps.benchmarks(run["options"]["scale"])[name].steps_per_epoch * EPOCHS[name]
        table = seconds * updates * -(-NETWORKS[name] // r["networks"])
        what = f"{NETWORKS[name]} networks, {EPOCHS[name]} epochs"
        cells = [name, str(r["networks"]), r["precision"], duration(seconds), _megabytes(r)]
        lines.append([*cells, what, duration(table)])
    head = ["benchmark", "networks", "precision", "update", "MB", "its table", "takes"]
    return markdown_table(head, lines)
