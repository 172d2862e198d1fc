"""What test_kills.py and soak.py do to trainings and sweeps, and how they judge what is left.

A sample starts a small training or sweep in processes of its own, kills one of them at a random
moment, runs the same command again, and compares what is there with an undisturbed run.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIGHT, TRAIN = HERE / "light.ipynb", HERE / "train.ipynb"
HOW = ("seconds", "seconds_on", "networks_in_table", "made_with")
"""What a manifest says of how it was made: the only fields that a kill may change."""
TRAININGS = ("temporal_order", "word_lm")
TARGETS = ("driver", "worker", "kernel")
TOKEN = "RECDROP_DISTURBED"
RUN = [sys.executable, "-m", "recdrop", "run"]


class Sample(NamedTuple):
    """What was killed when, and what was wrong afterwards: nothing, if it was survived."""

    kind: str
    target: str
    after: float
    wrong: list[str]


# what is run


def training(kind: str, folder: Path) -> multiprocessing.Process:
    """A training of two networks that writes a checkpoint after each update, begun.

    It is forked from a process that has loaded torch, which would take most of the time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainings"])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE)])  # the server finds it there
    import trainings  # not above: it loads torch, and only trainings need it

    process = context.Process(target=trainings.train, args=(kind, str(folder / "results")))
    process.start()
    return process


def sweep(folder: Path, token: str) -> subprocess.Popen:
    """Two points on two workers, begun."""
    results = str(folder / "results")
    grid = ["--grid", "seeds=0,1", "-p", "results_dir", results, "--jobs", "2"]
    return start([*RUN, str(TRAIN), *grid, "--out", str(folder)], token, folder / "t")


def start(arguments: list[str], token: str, temporary: Path) -> subprocess.Popen:
    """A process whose descendants can be told by ``token``, in a group of its own."""
    environment = os.environ | {TOKEN: token, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        # Background jobs of a shell may have interrupts ignored, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder with a short path, as sockets have little room for theirs.

    In memory where there is such a place: what a killed process has written stays in either, and
    hundreds of runs need not wait for a disk.
    """
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="rd", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# what is looked at


def descendants(token: str) -> list[psutil.Process]:
    """Living processes that were started under a token, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            pass
    return found


def part_of(process: psutil.Process) -> str:
    """Which part of a sweep a process is: driver, worker, kernel, or another helper."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return "gone"
    if "recdrop.batch.kernel" in words:
        return "kernel"
    if any("spawn_main" in word for word in words):
        return "worker"
    return "driver" if "recdrop" in words or str(HERE / "disturb.py") in words else "helper"


def of(token: str, part: str) -> list[psutil.Process]:
    """Those that are a part of this kind."""
    return [process for process in descendants(token) if part_of(process) == part]


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for what must come, and fail if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come within {seconds} s"
        time.sleep(0.02)


def orphans(token: str, seconds: float = 15.0) -> list[str]:
    """Processes that are still there when they have had time to end."""
    deadline = time.monotonic() + seconds
    while (left := descendants(token)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [part_of(process) for process in left]


def figures(folder: Path) -> dict[str, object]:
    """Manifests without how they were made, and weights, bit for bit."""
    found: dict[str, object] = {}
    for path in sorted((folder / "results").glob("*-*.json")):
        manifest = json.loads(path.read_text())
        found[path.name] = {k: v for k, v in manifest.items() if k not in HOW}
    for path in sorted((folder / "results").glob("*.npz")):
        with np.load(path) as arrays:
            found[path.name] = {k: arrays[k].tobytes() for k in arrays.files}
    return found


def litter(folder: Path, points: int) -> list[str]:
    """What is left that should not be: half-written files, claims, checkpoints, duplicates."""
    wrong = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix == ".part" or ".claim" in path.name or path.suffix in (".pt", ".previous"):
            wrong.append(f"left: {path.name}")
        if path.parent.name.startswith("recdrop-"):
            wrong.append(f"left: socket {path.name}")
    found = len(list(folder.rglob("*.ipynb")))
    if found != points:
        wrong.append(f"{found} notebooks for {points} points")
    return wrong


# samples


def undisturbed(kind: str) -> tuple[dict[str, object], float]:
    """Its figures, and the seconds in which it can be killed."""
    with workplace() as folder:
        began = time.monotonic()
        if kind == "sweep":
            code, said = finish(sweep(folder, uuid.uuid4().hex))
        else:
            training(kind, folder / "first").join()  # a server of forks is there by now
            began = time.monotonic()
            process = training(kind, folder)
            process.join()
            code, said = process.exitcode, ""
        seconds = time.monotonic() - began
        assert code == 0, said
        return figures(folder), seconds


def kill_training(kind: str, expected: dict, seconds: float, rng: random.Random) -> Sample:
    """Kill a training within so many seconds of its start, go on, and judge."""
    after, wrong = rng.uniform(0, seconds), []
    with workplace() as folder:
        process = training(kind, folder)
        process.join(after)
        process.kill()
        process.join()
        process = training(kind, folder)
        process.join()
        if process.exitcode != 0:
            wrong.append(f"did not go on: exit status {process.exitcode}")
        if figures(folder) != expected:
            wrong.append("figures differ")
        wrong += litter(folder, 0)
    return Sample(kind, "process", round(after, 2), wrong)


def kill_sweep(expected: dict, seconds: float, rng: random.Random) -> Sample:
    """Kill a process of a sweep, at random, within so many seconds of its start; as above."""
    after, target, wrong = rng.uniform(0, seconds), rng.choice(TARGETS), []
    token = uuid.uuid4().hex
    with workplace() as folder:
        process = sweep(folder, token)
        while target != "driver" and not of(token, target) and process.poll() is None:
            time.sleep(0.05)
        if target != "driver":  # it is there for a part of the time alone
            after /= 3
        time.sleep(after)
        victims = of(token, target)
        if not victims:
            target, victims = "driver", [process]
        with suppress(ProcessLookupError):  # it has ended, which is a moment, too
            os.kill(rng.choice(victims).pid, signal.SIGKILL)
        code, said = finish(process)
        if target == "worker" and code != 0:
            wrong.append(f"did not survive the death of a worker: {code}, {said}")
        for when in ("", " at the end"):
            if alone := orphans(token):
                wrong.append(f"orphans{when}: {alone}")
            if not when:
                code, said = finish(sweep(folder, token))
        if code != 0:
            wrong.append(f"did not go on: {code}, {said}")
        if figures(folder) != expected:
            wrong.append("figures differ")
        wrong += litter(folder, 2)
        for left in descendants(token):
            left.kill()
    return Sample("sweep", target, round(after, 2), wrong)


def finish(process: subprocess.Popen, seconds: float = 300) -> tuple[int | None, str]:
    """Its exit status and the end of what it said; None where it had to be ended."""
    try:
        said = process.communicate(timeout=seconds)
        return process.returncode, said[1][-2000:]
    except subprocess.TimeoutExpired:
        process.kill()
        return None, "did not end"
