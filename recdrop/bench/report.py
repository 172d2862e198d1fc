"""Results files of the bench, and their tables in Markdown."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from recdrop.bench import contenders, output, steps
from recdrop.bench.shapes import PAPER
from recdrop.study.files import atomic, from_root

SCHEMA = 1
KEYS = ("threads", "part", "name", "pass", "contender", "dtype")
"""What a measurement is known by."""
MACHINE = ("cpu", "cores", "capability")
"""What a machine is known by; the figures of two stand in no table together."""
CLASSES = {"order": 4, "words": 10_000, "characters": 50, "entities": 9}
"""Of the benchmarks' output layers."""
NO_REPORT = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a file of another form makes of reading it, or of its tables."""


def held(path: str | os.PathLike, machine: dict) -> list[dict]:
    """The runs of a results file to which some of this machine are to be added.

    Raises:
        ValueError: it holds those of another machine, or is none, see :func:`read`.
    """
    path = from_root(path)
    before = read(path)["runs"] if path.exists() else []
    here = [machine[key] for key in MACHINE]
    for there in ([run["machine"][key] for key in MACHINE] for run in before):
        if there != here:
            raise ValueError(
                f"{path} holds runs of {there}, and this machine is {here}; give another file or "
                "results_dir"
            )
    return before


def save(path: str | os.PathLike, runs: list[dict]) -> None:
    """Add runs of one machine to a results file, which is made if it is not there.

    Raises:
        ValueError: see :func:`held`.
    """
    path = from_root(path)
    all_runs = held(path, runs[0]["machine"]) + runs
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        text = json.dumps({"schema": SCHEMA, "runs": all_runs}, indent=1)
        part.write_text(text + "\n", encoding="utf-8")


def read(path: str | os.PathLike) -> dict:
    """A results file.

    Raises:
        ValueError: it is no results file of the bench, or of another version of it: its tables
            cannot be made.
    """
    return parsed(path, SCHEMA, lambda record: markdown(record["runs"]), "the bench")


def parsed(path: str | os.PathLike, schema: int, tables: Callable[[dict], str], of: str) -> dict:
    """A results file of this schema, from which ``tables`` makes some; it is no file ``of`` that,
    says a ValueError, where it cannot."""
    path = from_root(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != schema:
            raise ValueError(f"schema {record['schema']}, not {schema}")
        if not tables(record):
            raise ValueError("it holds no run")
    except NO_REPORT as error:
        kind = type(error).__name__
        raise ValueError(f"{path} is no results file of {of}: {kind}: {error}") from error
    return record


def rows(runs: Iterable[dict]) -> list[dict]:
    """All measurements with what their run says of them; a later one replaces an earlier one."""
    found = {}
    for run in runs:
        more = {"threads": run["machine"]["threads"], "ceilings": run["ceilings"]}
        for row in run["rows"]:
            row = row | more
            found[tuple(row[key] for key in KEYS)] = row
    return list(found.values())


def select(found: list[dict], **wanted) -> list[dict]:
    """Those rows that have these values.

    >>> select([{"pass": "both", "dtype": "fp32"}, {"pass": "both", "dtype": "bf16"}], dtype="bf16")
    [{'pass': 'both', 'dtype': 'bf16'}]
    """
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def markdown(runs: list[dict]) -> str:
    """The whole: machines, the summary, then a table for each part and number of threads."""
    found = rows(runs)
    blocks = [*machines(runs)]
    if select(found, part="shapes"):
        blocks.append(f"**Forward and backward over nn.LSTM without dropout**\n\n{summary(found)}")
    for threads in sorted({row["threads"] for row in found}):
        here = select(found, threads=threads)
        for title, text in _tables(here):
            blocks.append(f"**{title}, {_threads(threads)}**\n\n{text}")
    return "\n\n".join(blocks)


def machines(runs: list[dict]) -> Iterator[str]:
    """Each machine once, its ceilings, and what stands between its figures and the truth."""
    lines: dict[str, dict[int, list[dict]]] = {}
    for run in runs:
        m = run["machine"]
        line = (
            f"{m['cpu']}, {m['cores']} cores, {m['system']}, {m['capability']}; torch "
            f"{m['torch']}; recdrop {m['recdrop']} ({m['backend']})."
        )
        lines.setdefault(line, {}).setdefault(m["threads"], []).append(run)
    for line, by_threads in lines.items():
        yield line
        for threads, those in sorted(by_threads.items()):
            fp32, bf16, copies = (
                _range(run["ceilings"][key] / 1e9 for run in those)
                for key in ("fp32", "bf16", "bandwidth")
            )
            yield (
                f"With {_threads(threads)}: products {fp32} GFLOP/s in fp32, {bf16} in bf16; "
                f"copies {copies} GB/s{f' ({len(those)} runs)' if those[1:] else ''}."
            )
            for run in those:
                if run["others"]["busy"]:
                    used = f"{run['others']['others']:.2f} cores"
                    yield f"**Busy**: other processes used {used} meanwhile."
    for name, why in sorted({pair for run in runs for pair in run["absent"].items()}):
        if not select(rows(runs), contender=name):
            yield f"{name}: {why}."


def _range(values: Iterable[float]) -> str:
    """
    >>> _range([418.2, 447.6]), _range([40.4, 39.6])
    ('418 to 448', '40')
    """
    found = [round(v) for v in values]
    low, high = min(found), max(found)
    return f"{low}" if low == high else f"{low} to {high}"


def _tables(here: list[dict]) -> Iterator[tuple[str, str]]:
    for which, title in (("both", "Forward and backward"), ("forward", "Forward")):
        if chosen := select(here, part="shapes", **{"pass": which}):
            yield title, shapes(chosen)
        if chosen := select(here, part="peers", **{"pass": which}):
            yield f"{title} beside peers", shapes(chosen)
        if chosen := select(here, part="output", **{"pass": which}):
            yield f"{title} of the output layer", shapes(chosen)
    for part, of in (("shapes", ""), ("output", " of the output layer")):
        chosen = [row for row in select(here, part=part) if row["peak_bytes"] is not None]
        if chosen:
            yield f"Peak memory, forward and backward{of}", memory(chosen)
    if chosen := select(here, part="steps"):
        yield "A training step", training(chosen)
    if chosen := select(here, part="sweep"):
        yield "Sweep, forward and backward", shapes(chosen)


def shapes(found: list[dict]) -> str:
    """A line for each shape: the denominator's time, all others' ratio to it with quartiles."""
    base, *others = _columns(found)
    lines = []
    for name in _unique(row["name"] for row in found):
        by = {(row["contender"], row["dtype"]): row for row in select(found, name=name)}
        cells = [_ratio(by[key]["ratio"]) if key in by else "" for key in others]
        lines.append([name, _size(by[base]["shape"]), duration(by[base]["seconds"][1]), *cells])
    return markdown_table(["shape", "size", *map(" ".join, [base, *others])], lines)


def _size(shape: list) -> str:
    """R × T×B×I×H of an LSTM, N×K×V of an output layer."""
    sizes = [str(size) for size in shape if isinstance(size, int)]
    return "×".join(sizes) if len(sizes) == 3 else f"{sizes[0]} × {'×'.join(sizes[1:])}"


def memory(found: list[dict]) -> str:
    """The process's growth in MB."""
    columns = _columns(found)
    lines = []
    for name in _unique(row["name"] for row in found):
        by = {(row["contender"], row["dtype"]): row for row in select(found, name=name)}
        cells = [f"{by[key]['peak_bytes'] / 1e6:.0f}" if key in by else "" for key in columns]
        lines.append([name, *cells])
    return markdown_table(["MB", *(" ".join(key) for key in columns)], lines)


def training(found: list[dict]) -> str:
    """A line for each benchmark and contender: step, epoch and how many times faster for each
    network, with quartiles."""
    lines = []
    for row in found:
        R, step = row["networks"], row["seconds"][1]
        epoch = step / R * row["steps_per_epoch"]
        faster = _ratio([R / v for v in reversed(row["ratio"])])
        model = f"{row['contender']} {row['dtype']}"
        lines.append([row["name"], model, duration(step / R), duration(epoch), faster])
    head = ["benchmark", "model", "step of a network", "epoch", "times as fast"]
    return markdown_table(head, lines)


def work(run: dict) -> str:
    """Products in a step of each benchmark, and how long they take at this run's ceiling."""
    lines = []
    for name, shape in PAPER.items():
        rows = 1 if name == "order" else shape.T  # where a class is read from the last state
        layers = shape.flops, output.flops(rows * shape.B, shape.H, CLASSES[name])
        cells = [f"{flops / 1e9:.2f}" for flops in layers]
        at_best = [duration(sum(layers) / run["ceilings"][dtype]) for dtype in ("fp32", "bf16")]
        lines.append([name, _size(shape), *cells, *at_best])
    head = [
        "benchmark",
        "LSTM",
        "its GFLOP",
        "GFLOP of output layer",
        "at best fp32",
        "at best bf16",
    ]
    return markdown_table(head, lines)


def summary(found: list[dict]) -> str:
    """What the README says of speed: our ratios to nn.LSTM, and training steps."""
    lines = []
    for name in _unique(row["name"] for row in select(found, part="shapes")):
        for threads in sorted({row["threads"] for row in found}):
            here = select(found, part="shapes", name=name, threads=threads, **{"pass": "both"})
            ours = [select(here, contender=contenders.OURS, dtype=dtype)
                    for dtype in ("fp32", "bf16")]  # fmt: skip
            step = select(found, part="steps", name=name, threads=threads,
                          contender=steps.OURS, dtype="bf16")  # fmt: skip
            if any(ours):
                cells = [_ratio(row[0]["ratio"]) if row else "" for row in ours]
                cells.append(f"{1 / step[0]['ratio'][1]:.2f}" if step else "")
                lines.append([name, _size(here[0]["shape"]), str(threads), *cells])
    head = ["LSTM of", "R × T×B×I×H", "threads", "fp32", "bf16", "training step, times as fast"]
    return markdown_table(head, lines)


def _columns(found: list[dict]) -> list[tuple[str, str]]:
    return _unique((row["contender"], row["dtype"]) for row in found)


def _unique(values: Iterable) -> list:
    return list(dict.fromkeys(values))


def markdown_table(head: list[str], lines: list[list[str]]) -> str:
    rule = "|---" * len(head) + "|"
    text = ["| " + " | ".join(cells) + " |" for cells in (head, *lines)]
    return "\n".join([text[0], rule, *text[1:]])


def _ratio(values: list[float]) -> str:
    low, middle, high = values
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def duration(seconds: float) -> str:
    """
    >>> [duration(v) for v in (0.00123, 0.0456, 7.8, 600.0, 12000.0)]
    ['1.2 ms', '45.6 ms', '7.8 s', '10.0 min', '3.3 h']
    """
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size * (1 if unit == "s" else 1.5):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds * 1e3:.1f} ms"


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def default(results_dir: str | os.PathLike) -> Path:
    """The file in which a results folder keeps the bench's runs."""
    return Path(results_dir) / "bench" / "cpu.json"


def elsewhere(results_dir: str | os.PathLike) -> str:
    """The summaries of the folder's other machines, in the files ``cpu_*.json`` beside
    :func:`default`; empty where there are none.

    Raises:
        ValueError: see :func:`read`.
    """
    folder = from_root(default(results_dir)).parent
    blocks = []
    for path in sorted(folder.glob("cpu_*.json")):
        runs = read(path)["runs"]
        blocks += [*machines(runs), summary(rows(runs))]
    return "\n\n".join(blocks)
