"""The command ``recdrop``."""

import argparse
import json
import math
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from recdrop.study import files, unread
from recdrop.study.files import from_root


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 if it succeeded, 2 if it was called wrongly, 3 if work is left for later,
    130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="recdrop", description="Recurrent dropout, studied.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    results = commands.add_parser("results", help="a table of the paper, ours beside the paper's")
    results.add_argument("--table", type=int, choices=(1, 2, 3, 4), required=True)
    _manifests_arguments(results, "all fields, for machines")
    results.add_argument("--all", action="store_true", help="rows that have not been run, too")
    _scaling_argument(results)
    results.set_defaults(run=_results)

    claims = commands.add_parser("claims", help="the paper's claims, and what our runs say of each")
    claims.description = (
        "A verdict takes three seeds of every setting that it compares, at one protocol."
    )
    claims.add_argument("--protocol", help="one protocol, comparison by comparison; else all")
    _manifests_arguments(claims, "for machines; protocol paper if none")
    claims.set_defaults(run=_claims)

    rerun = commands.add_parser("rerun", help="make a result again: are its figures the same?")
    rerun.description = (
        "Train the network of a manifest again, from the settings it keeps. Exit status: 0 the "
        "same figures, 1 others, which are told. An interrupted rerun goes on where it stopped."
    )
    rerun.add_argument("manifest", metavar="MANIFEST", help="such as book/results/NAME.json")
    rerun.add_argument("--results-dir", default="runs/rerun", help="folder for the new manifest")
    rerun.add_argument("--data-dir", help="folder of corpora, instead of RECDROP_DATA")
    rerun.add_argument("--vectors", help="file of word vectors, where the manifest names one")
    rerun.add_argument("--device", choices=("cpu", "cuda"), help="by default the manifest's")
    rerun.set_defaults(run=_rerun)

    figure = commands.add_parser("figure", help="draw a figure of the book from manifests")
    figure.add_argument("name", choices=("effect", "schemes"))
    figure.add_argument("--results-dir", default="book/results", help="folder of manifests")
    figure.add_argument("--out", required=True, type=Path, help="file to write, such as effect.svg")
    figure.set_defaults(run=_figure)

    _train_arguments(
        commands.add_parser("train", help="train a table's networks, on a GPU in slices of time")
    )

    _run_arguments(commands.add_parser("run", help="notebooks in batch, here or on a cluster"))

    status = commands.add_parser("status", help="what has become of a batch, and the time left")
    status.description = "Exit status: 0 all finished, 1 some failed, 3 some are left."
    status.add_argument("out", metavar="DIR", help="folder given to `recdrop run` as --out")
    status.add_argument("--json", action="store_true", help="for machines")
    status.set_defaults(run=_status)

    data = commands.add_parser("data", help="corpora: where they are, fetched, verified")
    actions = data.add_subparsers(required=True, metavar="ACTION", dest="action")
    for name, does in {
        "status": "where each corpus lies",
        "fetch": "download what is missing into the cache",
        "verify": "hashes and counts beside those expected; 1 where something is damaged",
    }.items():
        action = actions.add_parser(name, help=does, description=does)
        action.add_argument("--data-dir", help="folder to look into, instead of RECDROP_DATA")
        action.set_defaults(run=_data, names=[])
    names = "ptb, conll2003, or word2vec (1.7 GB, and only fetched if named)"
    actions.choices["fetch"].add_argument("names", nargs="*", metavar="NAME", help=names)

    _bench_arguments(
        commands.add_parser("bench", help="speed and memory, beside nn.LSTM and peers")
    )

    kernels = commands.add_parser("kernels", help="the compiled kernels")
    kernels.add_argument("action", choices=("build",), help="compile ahead of the first use")
    kernels.set_defaults(run=_kernels)

    arguments = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show, such as "±", is a "?"
            stream.reconfigure(errors="replace")
    try:
        with unread.goes_on() if arguments.run in WORK else nullcontext():
            return arguments.run(arguments) or 0
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        return 0
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("recdrop", "torch"):
            raise
        print(f"recdrop: {error}; install it: pip install 'recdrop[study]'", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"recdrop: {error}", file=sys.stderr)
        return 2


def _manifests_arguments(command: argparse.ArgumentParser, as_json: str) -> None:
    command.add_argument("--results-dir", default="book/results", help="folder of manifests")
    command.add_argument("--json", action="store_true", help=as_json)


def _scaling_argument(command: argparse.ArgumentParser) -> None:
    scalings = ("paper", "inverted")
    command.add_argument("--scaling", choices=scalings, default="paper", help="Eq. 3, or Eq. 14")


def _there(results_dir: str) -> None:
    if not from_root(results_dir).is_dir():
        there = str(from_root(results_dir))
        raise FileNotFoundError(f"no results folder {there!r}; give one with --results-dir")


def _results(a: argparse.Namespace) -> None:
    from recdrop.study import tables

    _there(a.results_dir)
    rows = tables.table(a.table, a.results_dir, beyond=True, scaling=a.scaling)
    if a.json:
        print(json.dumps(rows, indent=1))
        return
    shown = [row for row in rows if row["n"] or row["diverged"] or a.all]
    eq = "" if a.scaling == "paper" else ", dropout scaled in training (Eq. 14)"
    print(f"\nTable {a.table}{eq}: mean ± 95 % interval (number of seeds)\n")
    print(tables.markdown(shown) if shown else f"Nothing has been run yet in {a.results_dir}.")


def _claims(a: argparse.Namespace) -> None:
    from recdrop.study import claims

    _there(a.results_dir)
    if a.json:
        print(json.dumps(claims.ledger(a.results_dir, a.protocol or "paper"), indent=1))
    elif not a.protocol:
        print(claims.summary(a.results_dir))
    else:
        for entry in claims.ledger(a.results_dir, a.protocol):
            print(f"\n{entry['number']}. {entry['claim']}: {entry['verdict']}\n")
            print(claims.details(entry))


def _share_cores() -> None:
    """Threads that wait for others give up their core soon; to be called before torch is loaded.

    By default they spin for milliseconds, which beside other programs makes small networks train
    many times slower, and on an idle machine gains nothing that could be measured.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _rerun(a: argparse.Namespace) -> int:
    _share_cores()
    from recdrop.study.rerun import rerun

    done = rerun(a.manifest, a.results_dir, a.data_dir, a.vectors, a.device)
    print(done)
    return int(bool(done.differences))


def _train_arguments(train: argparse.ArgumentParser) -> None:
    train.description = (
        "Train the networks of a table that have no result yet, without notebooks. An interrupted "
        "run goes on from its last checkpoint, and so does the next slice of time."
    )
    train.add_argument("--table", type=int, choices=(1, 2, 3, 4), required=True)
    train.add_argument(
        "--profile", default="quick", help="smoke, quick, reduced (Tables 3 and 4), or paper"
    )
    train.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    train.add_argument(
        "--precision", default="fp32", help="of products: fp32 (exact), bf16, or tf32 on a GPU"
    )
    train.add_argument(
        "--budget", help="such as 9m: train what will have finished by then, and begin the rest"
    )
    train.add_argument("--at-once", type=int, help="networks in one program; by default what fits")
    train.add_argument("--results-dir", default="runs/results", help="folder of manifests")
    train.add_argument("--data-dir", help="folder of corpora, instead of RECDROP_DATA")
    train.add_argument("--vectors", help="file of word vectors for Table 4")
    for name in ("schemes", "rates", "samplings", "forward", "seeds", "lengths"):
        train.add_argument(f"--{name}", help="comma separated; by default the table's own")
    _scaling_argument(train)
    train.set_defaults(run=_train)


def _train(a: argparse.Namespace) -> int:
    _share_cores()
    from recdrop.study import grids, slices, wall_time

    budget = None if a.budget is None else wall_time.seconds(a.budget, "budget")
    given = {name: getattr(a, name) for name in grids.AXES if getattr(a, name) is not None}
    works = grids.works(
        a.table, a.profile, given, a.device, a.precision, a.data_dir, a.vectors, a.scaling
    )
    outcome = slices.run(works, a.results_dir, a.device, budget, a.at_once)
    print(outcome)
    return 0 if outcome.finished == outcome.wanted else 3


def _run_arguments(run: argparse.ArgumentParser) -> None:
    run.description = (
        "Execute a notebook once for each point of a grid. What has finished is not executed "
        "again; what failed leaves its notebook with the error, and the others go on."
    )
    run.epilog = (
        "Exit status: 0 all points finished, 1 some failed, 2 called wrongly and nothing started, "
        "3 the cluster is gone and work is left, 130 stopped by Ctrl-C, 143 by SIGTERM. The same "
        "command goes on from there."
    )
    run.add_argument("notebook", metavar="NOTEBOOK", help="a path, or `all` for every chapter")
    run.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
        help="a parameter for all points, such as -p profile quick",
    )  # fmt: skip
    run.add_argument(
        "--grid", action="append", default=[], metavar="NAME=V1,V2", help="one point for each value"
    )
    run.add_argument("--jobs", type=int, help="points at a time; by default 1, or one a GPU")
    run.add_argument("--scheduler", metavar="URL", help="of a Dask cluster, as tcp://host:8786")
    run.add_argument("--out", metavar="DIR", default="runs/batch", help="folder of the notebooks")
    run.add_argument("--timeout", help="such as 2h: a notebook that takes longer has failed")
    run.add_argument(
        "--fresh", action="store_true",
        help="execute finished points, too (trained networks are still read; -p fresh true trains)",
    )  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="print the points and start nothing")
    run.add_argument("--json", action="store_true", help="a line of JSON for each event")
    run.set_defaults(run=_run)


def _run(a: argparse.Namespace) -> int:
    _share_cores()
    from recdrop.batch import command

    return command.run(a)


def _status(a: argparse.Namespace) -> int:
    from recdrop.batch import command

    return command.status(a)


def _data(a: argparse.Namespace) -> int:
    from recdrop.data import inventory

    folder = None if a.data_dir is None else str(from_root(a.data_dir))
    arguments = (a.names, folder) if a.action == "fetch" else (folder,)
    wrong = False
    for finding in getattr(inventory, a.action)(*arguments):
        print(finding, flush=True)
        wrong |= finding.wrong and a.action != "status"
    return int(wrong)


def _figure(a: argparse.Namespace) -> None:
    from recdrop import figures

    if not a.out.name:
        raise ValueError(f"--out {str(a.out)!r} names no file; give one such as effect.svg")
    drawn = figures.effect(a.results_dir) if a.name == "effect" else figures.schemes()
    figures.save(drawn, a.out)


def _bench_arguments(bench: argparse.ArgumentParser) -> None:
    bench.description = (
        "Time our LSTM with recurrent dropout against torch.nn.LSTM without, side by side. "
        "On a machine that does nothing else, please."
    )
    bench.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"),
        help="cuda: tables of 1, 8, 26 and 78 networks against cuDNN's nn.LSTM",
    )  # fmt: skip
    bench.add_argument("--threads", default="", help="such as 1,2; by default as many as cores")
    bench.add_argument("--dtype", help="fp32, bf16, or both; by default both")
    bench.add_argument(
        "--shapes", help="names or RxTxBxIxH, comma separated; by default the paper's"
    )
    bench.add_argument("--beside", help="shapes at which peers are measured; by default words")
    bench.add_argument("--parts", help="of shapes, peers, output, steps, sweep; by default all")
    bench.add_argument("--seconds", type=float, help="for each shape; more are more exact")
    bench.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    bench.add_argument(
        "--compile", action="store_true", help="torch.compile of the naive loop, too"
    )
    bench.add_argument(
        "--json",
        metavar="FILE",
        type=Path,
        help="results file to add the runs to; a new one on a GPU",
    )
    bench.add_argument("--show", metavar="FILE", type=Path, help="measure nothing, show a file")
    bench.set_defaults(run=_bench)


def _bench(a: argparse.Namespace) -> None:
    from recdrop.bench import machine, report, run

    if a.seconds is not None and not 0 < a.seconds < math.inf:
        raise ValueError(f"--seconds {a.seconds} is no length of time; give a number above 0")
    if a.device == "cuda":
        _bench_gpu(a)
        return
    if a.show:
        print(report.markdown(report.read(a.show)["runs"]))
        return
    options = run.QUICK if a.quick else run.Options()
    given = {
        "dtypes": tuple((a.dtype or "fp32,bf16").split(",")),
        "shapes": a.shapes,
        "beside": a.beside,
        "parts": None if a.parts is None else tuple(a.parts.split(",")),
        "seconds": a.seconds,
        "peers": (*options.peers, run.COMPILED) if a.compile else None,
    }
    options = options._replace(**{k: v for k, v in given.items() if v is not None})
    for flag, part in (("shapes", "shapes"), ("beside", "peers"), ("compile", "peers")):
        if getattr(a, flag) and part not in options.parts:
            raise ValueError(f"--{flag} is of the part {part}; add it to --parts, or leave it out")
    try:
        threads = [int(n) for n in a.threads.split(",")] if a.threads else [run.cores()]
    except ValueError:
        raise ValueError(f"--threads {a.threads!r} is no list of numbers; give 1,2") from None
    if a.json:
        # A file that runs cannot be added to should be known now, and not minutes later.
        report.held(a.json, machine.describe(1))
        files.writable(a.json.parent, "--json")
    runs = run.bench(options, threads, say=lambda text: print(text, file=sys.stderr))
    if a.json:  # first: what can be printed depends on the terminal
        report.save(a.json, runs)
    print(report.markdown(runs))


def _bench_gpu(a: argparse.Namespace) -> None:
    from recdrop.bench import gpu, gpu_report

    if a.show:
        print(gpu_report.markdown(gpu_report.read(a.show)))
        return
    options = gpu.QUICK if a.quick else gpu.Options()
    given = {"shapes": a.shapes and tuple(a.shapes.split(",")), "seconds": a.seconds}
    options = options._replace(**{k: v for k, v in given.items() if v is not None})
    for flag in ("threads", "dtype", "beside", "parts", "compile"):
        if getattr(a, flag):
            raise ValueError(f"--{flag} is for --device cpu; leave it out")
    if a.json and from_root(a.json).exists():
        raise ValueError(f"{a.json} is there; give a new file, as on a GPU each run has its own")
    if a.json:
        files.writable(a.json.parent, "--json")
    run = gpu.measure(options, say=lambda text: print(text, file=sys.stderr))
    if a.json:
        gpu_report.save(a.json, run)
    print(gpu_report.markdown(run))


def _kernels(a: argparse.Namespace) -> int | None:
    from recdrop.kernels import build

    try:
        print(build.build())
    except build.BuildError as error:
        print(f"recdrop: {error}", file=sys.stderr)
        return 1


WORK = (_train, _run, _rerun, _bench)
"""Commands whose work matters more than what they print of it."""
