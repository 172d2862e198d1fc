"""Sweeps on Dask: points at random through two workers, and what can befall a cluster."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from disturb import LIGHT, ROOT, RUN, descendants, finish, litter, orphans, part_of, start

from recdrop.batch import claims, grid
from recdrop.batch.folder import Folder
from recdrop.cli import main

distributed = pytest.importorskip("distributed", reason="sweeps need Dask")
sweep = pytest.importorskip("recdrop.batch.sweep")


class Cluster:
    """A scheduler at an address of its own, and workers, as processes that can be killed."""

    def __init__(self, folder: Path):
        self.token, self.folder = uuid.uuid4().hex, folder
        self.address = None
        self.processes: list[subprocess.Popen] = []

    def scheduler(self) -> subprocess.Popen:
        """Started, or started again at the same address."""
        port = self.address.rpartition(":")[2] if self.address else "0"
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        process = self._start("scheduler", "--host", "127.0.0.1", "--port", port,
                              "--scheduler-file", str(file), "--no-dashboard")  # fmt: skip
        while not (file.exists() and file.read_text().rstrip().endswith("}")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]
        return process

    def worker(self, *options: str) -> subprocess.Popen:
        return self._start("worker", self.address, "--nthreads", "1", "--no-dashboard", *options)

    def _start(self, *arguments: str) -> subprocess.Popen:
        code = "import sys; from dask.__main__ import main; sys.argv[0] = 'dask'; main()"
        with open(self.folder / f"{len(self.processes)}.log", "w") as log:
            environment = os.environ | {"RECDROP_DISTURBED": self.token, "PYTHONPATH": str(ROOT)}
            environment |= {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "4s"}
            environment |= {"DASK_TEMPORARY_DIRECTORY": str(self.folder)}
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments], env=environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in descendants(self.token):
            process.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers, one of them with a GPU, as far as Dask is told."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.scheduler()
    made.worker("--resources", "GPU=1", "--name", "with")
    made.worker("--name", "without")
    yield made
    made.close()


def points(*axes: str, **fixed) -> tuple[list, list]:
    notebooks = grid.notebooks(str(LIGHT))
    return notebooks, grid.points(
        notebooks[0], [(k, json.dumps(v)) for k, v in fixed.items()], axes
    )


def on(cluster: Cluster, folder: Path, *axes: str, gpu: bool = False, fixed=None, **options):
    notebooks, asked = points(*axes, **(fixed or {}))
    return sweep.Sweep(
        notebooks, asked, Folder(folder), scheduler=cluster.address, gpu=gpu, **options
    )


def printed(folder: Path) -> dict[str, str]:
    """By notebook, what it printed."""
    return {
        path.name: "".join("".join(o.get("text", [])) for c in json.loads(path.read_text())["cells"]
                           for o in c.get("outputs", []))
        for path in folder.glob("*.ipynb")
    }  # fmt: skip


def test_twenty_points_then_nothing_is_done_twice(cluster, tmp_path, capsys):
    axis = "n=" + ",".join(map(str, random.Random(0).sample(range(1000), 20)))
    asked = on(cluster, tmp_path, axis)
    assert asked.run() == (20, 20, 0)
    assert f"20 of 20 points finished in {tmp_path}." in capsys.readouterr().out
    assert litter(tmp_path, 20) == []
    for name, text in printed(tmp_path).items():
        assert int(text) == int(re.search(r"n=(\d+)", name)[1]) ** 2
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ipynb")}
    assert on(cluster, tmp_path, axis).run() == (20, 20, 0)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ipynb")}


def test_failures_are_told_and_the_others_go_on(cluster, tmp_path, capsys):
    assert on(cluster, tmp_path, "do=raise,print", "n=1,2").run(as_json=True) == (4, 2, 2)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0] == {"event": "start", "total": 4, "finished": 0}
    assert sorted(e["event"] for e in events[1:-1]) == ["failed"] * 2 + ["finished"] * 2
    assert {e["error"] for e in events if e["event"] == "failed"} == {
        "RuntimeError: n=1 was told to", "RuntimeError: n=2 was told to"
    }  # fmt: skip
    assert events[-1] == {"event": "end", "wanted": 4, "finished": 2, "failed": 2, "left": 0}
    assert litter(tmp_path, 4) == []


def test_a_notebook_that_was_changed_is_told_of_and_executed_by_fresh(cluster, tmp_path, capsys):
    first, second = (on(cluster, tmp_path, "n=3", fresh=fresh) for fresh in (False, True))
    assert first.run() == (1, 1, 0)
    changed = [replace(n, text=n.text.replace("n * n", "n + n")) for n in first.notebooks]
    assert replace(first, notebooks=changed).run() == (1, 1, 0)
    said = capsys.readouterr().err
    assert "1 finished points are of another version of the notebook; --fresh executes them" in said
    assert list(printed(tmp_path).values()) == ["9\n"]
    assert replace(second, notebooks=changed).run() == (1, 1, 0)
    assert list(printed(tmp_path).values()) == ["6\n"]
    (replaced,) = tmp_path.glob("*.replaced")
    assert '"9\\n"' in replaced.read_text(), "the one before is kept"


def test_two_sweeps_on_one_folder_do_each_point_once(cluster, tmp_path):
    arguments = [*RUN, str(LIGHT), "--grid", "n=1,2,3", "-p", "seconds", "1", "--json"]
    arguments += ["--scheduler", cluster.address, "--out", str(tmp_path)]
    token = uuid.uuid4().hex
    both = [start(arguments, token, tmp_path / "t") for _ in range(2)]
    ends = []
    for process in both:
        out = process.communicate(timeout=300)[0]
        assert process.returncode == 0
        ends.append(json.loads(out.splitlines()[-1]))
    assert [end["finished"] for end in ends] == [3, 3]
    assert litter(tmp_path, 3) == []


def test_one_gpu_never_has_two_points(cluster, tmp_path):
    """Each prints when it began and ended."""
    asked = on(cluster, tmp_path, "n=1,2,3", gpu=True, fixed={"do": "times", "seconds": 0.5})
    assert asked.run() == (3, 3, 0)
    spans = sorted(tuple(map(float, text.split())) for text in printed(tmp_path).values())
    assert all(a[1] < b[0] for a, b in zip(spans, spans[1:], strict=False)), spans


def test_a_cluster_without_gpus_is_told_of_before_anything_starts(tmp_path):
    cluster = Cluster(tmp_path)
    try:
        cluster.scheduler()
        cluster.worker()
        with distributed.Client(cluster.address) as client:
            client.wait_for_workers(1)
        with pytest.raises(sweep.SchedulerError, match="offers a GPU; start each with"):
            on(cluster, tmp_path / "out", "n=1", gpu=True).run()
    finally:
        cluster.close()


def test_without_a_gpu_nothing_waits_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_gpus", lambda: [])
    notebooks, asked = points("n=1")
    with pytest.raises(ValueError, match="this machine has no GPU; give device cpu"):
        sweep.Sweep(notebooks, asked, Folder(tmp_path), gpu=True).run()


def test_each_job_here_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_gpus", lambda: ["3", "5"])
    fixed = {"do": "environment", "seconds": 1.0}
    notebooks, asked = points("n=1,2,3,4", **fixed)
    assert sweep.Sweep(notebooks, asked, Folder(tmp_path), gpu=True).run() == (4, 4, 0)
    said = {tuple(text.split()) for text in printed(tmp_path).values()}
    threads = str(max(1, sweep._cores() // 2))
    assert said == {("3", threads), ("5", threads)}


def test_workers_that_are_killed_over_their_start_are_started_again(monkeypatch):
    """Found by the soak: Dask looks after its workers only once they are there."""
    tried = []

    def start(**options):
        tried.append(options)
        if len(tried) < 3:
            raise RuntimeError("Nanny failed to start.")
        return "cluster"

    monkeypatch.setattr(sweep, "LocalCluster", start)
    assert sweep._started(n_workers=2) == "cluster"
    assert tried == [{"n_workers": 2}] * 3
    tried.clear()
    with pytest.raises(sweep.SchedulerError, match="no workers could be started here"):
        sweep._started(tries=2)


def test_a_worker_that_is_killed_and_one_that_hangs(tmp_path):
    """Their points go to others: a hanging one is found out when it stops answering."""
    cluster = Cluster(tmp_path)
    try:
        cluster.scheduler()
        for _ in range(2):
            cluster.worker()
        arguments = [*RUN, str(LIGHT), "--grid", "n=1,2,3,4", "-p", "seconds", "4"]
        arguments += ["--scheduler", cluster.address, "--out", str(tmp_path / "out")]
        process = start(arguments, uuid.uuid4().hex, tmp_path / "t")
        killed, hung = _two_busy(cluster.token)
        killed.kill()
        hung.suspend()
        code, said = finish(process)
        assert code == 0, said
        assert litter(tmp_path / "out", 4) == []
        hung.wait(30)  # its nanny needs a moment to find out
    finally:
        cluster.close()


def _two_busy(token: str) -> list[psutil.Process]:
    """Two workers that execute a notebook each."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        kernels = [p for p in descendants(token) if part_of(p) == "kernel"]
        if len(kernels) == 2:
            return [kernel.parent() for kernel in kernels]
        time.sleep(0.1)
    raise AssertionError("no two kernels")


def test_a_scheduler_that_is_restarted(tmp_path):
    cluster = Cluster(tmp_path)
    try:
        scheduler = cluster.scheduler()
        cluster.worker()
        arguments = [*RUN, str(LIGHT), "--grid", "n=1,2,3", "-p", "seconds", "2"]
        arguments += ["--scheduler", cluster.address, "--out", str(tmp_path / "out")]
        process = start(arguments, uuid.uuid4().hex, tmp_path / "t")
        while not list((tmp_path / "out").glob("*.ipynb")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        scheduler.kill()
        time.sleep(1)
        cluster.scheduler()
        cluster.worker()
        code, said = finish(process)
        assert code == 0, said
        assert "is lost; trying to find it again" in said
        assert litter(tmp_path / "out", 3) == []
    finally:
        cluster.close()


def test_no_scheduler_is_said(tmp_path, capsys):
    from recdrop import cli

    arguments = ["run", str(LIGHT), "--out", str(tmp_path), "--scheduler"]
    assert cli.main([*arguments, "tcp://127.0.0.1:1"]) == 3
    assert "no Dask scheduler at 'tcp://127.0.0.1:1'" in capsys.readouterr().err
    assert cli.main([*arguments, "nonsense://x"]) == 2, "that none will ever answer at"
    assert "'nonsense://x' is no address" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_ends_all_and_says_how_to_go_on(number, code, tmp_path):
    """As from a terminal, whose Ctrl-C reaches all processes of the sweep."""
    token = uuid.uuid4().hex
    arguments = [*RUN, str(LIGHT), "--grid", "n=1,2,3", "-p", "do", "sleep", "--jobs", "2"]
    process = start([*arguments, "--out", str(tmp_path)], token, tmp_path / "t")
    _two_busy(token)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert f"0 of 3 points finished in {tmp_path}, 3 left. Run the same again to go on." in said[0]
    assert "Traceback" not in said[1]
    assert orphans(token) == []
    assert litter(tmp_path, 0) == []
    assert claims.held(tmp_path / ".recdrop") == set()


def test_every_option_of_run_reaches_the_sweep(tmp_path, monkeypatch):
    given = []

    class Recorded:
        def __init__(self, *options):
            given.append(options)

        def run(self, as_json):
            given.append(as_json)
            return sweep.Summary(1, 1, 0)

    monkeypatch.setattr(sweep, "Sweep", Recorded)
    words = f"run tests/reliability/light.ipynb --out {tmp_path} --jobs 3 --scheduler tcp://h:1"
    words += " --timeout 9m --fresh --json"
    assert main(words.split()) == 0
    (_, points, folder, *options), as_json = given
    assert (len(points), folder.path, options) == (
        1,
        tmp_path,
        [3, "tcp://h:1", False, 540.0, True],
    )
    assert as_json


def test_a_timeout_goes_along_with_the_point(tmp_path):
    class Client:
        def submit(self, _, task, **__):
            return task

    (notebook,) = grid.notebooks("tests/reliability/light.ipynb")
    (point,) = grid.points(notebook)
    made = sweep.Sweep([notebook], [point], Folder(tmp_path), timeout=5.0)
    task = made._submit(Client(), point)
    assert (task.timeout, task.sweep, task.point, task.gpus) == (5.0, made.token, point, None)


def test_there_are_no_more_workers_than_points(tmp_path):
    (notebook,) = grid.notebooks("tests/reliability/light.ipynb")
    made = sweep.Sweep([notebook], grid.points(notebook), Folder(tmp_path), 64)
    assert made._at_once() == 1
