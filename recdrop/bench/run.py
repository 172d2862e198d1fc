"""A run of the bench: what was asked for, measured; rows for results, tables and figures."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import torch

from recdrop.bench import machine, output, report, steps
from recdrop.bench.contenders import PEERS, contenders
from recdrop.bench.measure import interleaved, peak_resident, ratios, spread
from recdrop.bench.shapes import named, sweep
from recdrop.study.files import from_root
from recdrop.study.parameters import Parameters

PARTS = ("shapes", "peers", "output", "steps", "sweep")
DTYPES = ("fp32", "bf16")
COMPILED = "naive loop, torch.compile"


class Options(NamedTuple):
    """What is measured, and for how long."""

    parts: tuple[str, ...] = PARTS
    shapes: str = "order,words,characters,entities,order-8,words-8,characters-8,entities-8"
    dtypes: tuple[str, ...] = DTYPES
    beside: str = "words"
    """Shapes at which peers are measured, apart: their threads would disturb the others' times."""
    peers: tuple[str, ...] = tuple(name for name in PEERS if name != COMPILED)
    quick: bool = False
    """One benchmark's training step, and a short sweep."""
    seconds: float = 8.0
    """For each shape, when a first round and three more are done."""
    scale: int = 1
    """Divides the sizes of the training steps' models; for trying out."""


QUICK = Options(shapes="words", quick=True, seconds=4.0,
                peers=("naive loop",))  # fmt: skip
"""Under a minute."""
TRIAL = Options(shapes="2x3x4x5x6,1x3x4x5x6", beside="1x3x4x5x6", quick=True, seconds=0.1, scale=16,
                peers=("naive loop",))  # fmt: skip
"""The machinery alone, in seconds: its figures mean nothing."""


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def bench(options: Options, threads: list[int], say: Callable = print) -> list[dict]:
    """One run for each number of threads, each in a process of its own with so many cores.

    Libraries other than torch decide on their threads once, by the cores they find.
    """
    if any(count < 1 for count in threads):
        raise ValueError(f"threads {threads} must be at least 1")
    _check(options)  # a wrong name is an error now, and not minutes later
    runs = []
    for count in threads:
        say(f"measuring with {count} {'thread' if count == 1 else 'threads'} ...")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            runs.append(process.submit(limited, options, count).result())
    return runs


def _check(options: Options) -> None:
    named(options.shapes), named(options.beside)
    for what, given, known in (
        ("part", options.parts, PARTS),
        ("dtype", options.dtypes, DTYPES),
        ("peer", options.peers, tuple(PEERS)),
    ):
        for name in given:
            if name not in known:
                raise ValueError(f"{what} {name!r} is unknown; choose from {', '.join(known)}")


def in_notebook(p: Parameters) -> list[dict]:
    """The runs that the results folder holds; where it holds none, or ``p.fresh``, measured now.

    Live it is the quick bench on all cores, or on the profile smoke the machinery alone.
    """
    path = report.default(p.results_dir)
    if p.fresh or not from_root(path).exists():
        options = TRIAL if p.profile == "smoke" else QUICK
        report.save(path, bench(options, [cores()], say=lambda _: None))
    return report.read(path)["runs"]


def limited(options: Options, threads: int) -> dict:
    """:func:`measure` on so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
    return measure(options)


def measure(options: Options) -> dict:
    """Everything, in this process: the machine, its ceilings, and a row for each measurement."""
    torch.manual_seed(0)
    described = machine.describe(torch.get_num_threads())
    rows: list[dict] = []
    absent: dict[str, str] = {}
    with machine.Others() as others:
        ceilings = [machine.ceilings(0.5 if options.quick else 2.0)]
        if "shapes" in options.parts:
            for name, shape in named(options.shapes).items():
                found, missing = contenders(shape, options.dtypes)
                absent |= missing
                rows += _passes("shapes", name, shape, found, options)
        if "peers" in options.parts:
            for name, shape in named(options.beside).items():
                found, missing = contenders(shape, ("fp32",), options.peers)
                absent |= missing
                rows += _passes("peers", name, shape, found, options)
        if "output" in options.parts:
            for name, sizes in output.SIZES.items():
                sizes = [size // options.scale for size in sizes]
                found = output.contenders(*sizes, options.dtypes)
                rows += _passes("output", name, sizes, found, options)
        if "steps" in options.parts:
            for name, benchmark in steps.benchmarks(options.scale).items():
                if not options.quick or name == "words":
                    rows += _steps(name, benchmark, options)
        if "sweep" in options.parts:
            for name, shape in sweep(options.quick, options.scale).items():
                found, _ = contenders(shape, options.dtypes, fallback=False)
                rows += _passes("sweep", name, shape, found, options, forward=False)
        ceilings.append(machine.ceilings(0.5 if options.quick else 2.0))
    return {
        "machine": described,
        "ceilings": {name: max(c[name] for c in ceilings) for name in ceilings[0]},
        "others": others.found,
        "options": options._asdict(),
        "absent": absent,
        "rows": rows,
    }


def _passes(
    part: str, name: str, shape: Sequence, found: dict, options: Options, forward: bool = True
) -> list[dict]:
    rows = []
    for which in ("forward", "both") if forward else ("both",):
        calls = {key: getattr(passes, which) for key, passes in found.items()}
        memory = {}
        if which == "both" and forward:
            memory = {key: peak_resident(call) for key, call in calls.items()}
        share = options.seconds * {"forward": 0.3, "both": 0.7 if forward else 0.2}[which]
        for row in _rows(calls, share):
            key = row["contender"], row["dtype"]
            rows.append({"part": part, "name": name, "shape": list(shape), "pass": which} | row
                        | {"peak_bytes": memory.get(key)})  # fmt: skip
    return rows


def _steps(name: str, benchmark: steps.Benchmark, options: Options) -> list[dict]:
    calls = steps.steps(benchmark, options.dtypes)
    return [
        {"part": "steps", "name": name, "shape": None, "pass": "step", "peak_bytes": None,
         "networks": steps.TABLE if row["contender"] == steps.OURS_TABLE else 1,
         "steps_per_epoch": benchmark.steps_per_epoch} | row
        for row in _rows(calls, 2 * options.seconds)
    ]  # fmt: skip


def _rows(calls: dict, seconds: float) -> list[dict]:
    """The first of the calls is the denominator of ratios."""
    times = interleaved(calls, 100, seconds)
    over = ratios(times, next(iter(calls)))
    return [
        {"contender": key[0], "dtype": key[1], "rounds": len(values),
         "seconds": list(spread(values)), "ratio": list(over[key])}
        for key, values in times.items()
    ]  # fmt: skip
