"""One folder, several processes: who executes what, and that nothing is done twice or lost."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from disturb import HERE, ROOT, figures, litter, until

pytest.importorskip("psutil", reason="claims need psutil")

from recdrop.batch import claims, status
from recdrop.batch.folder import Folder, Outcome, with_error, write
from recdrop.batch.grid import Point
from recdrop.cli import main
from recdrop.study.files import part_of

POINT = Point("a-n=1", "a.ipynb", {"n": 1})
NOTEBOOK = {
    "nbformat": 4, "nbformat_minor": 5, "metadata": {},
    "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "source": "", "outputs": [],
               "execution_count": None}],
}  # fmt: skip


def hold(folder) -> subprocess.Popen:
    """Another process that holds the name ``a``."""
    code = (
        "import sys; from pathlib import Path; from recdrop.batch import claims\n"
        f"c = claims.acquire(Path({str(folder)!r}), 'a'); print(bool(c), flush=True)\n"
        "sys.stdin.readline(); c.release(); print('released', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout.readline() == "True\n"
    return process


def change(path, **content) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


# claims


def test_a_claim_is_one_process_alone_and_leaves_nothing(tmp_path):
    with claims.acquire(tmp_path, "a") as claim:
        assert claim.held()
        assert claims.acquire(tmp_path, "a") is None
        assert claims.held(tmp_path) == {"a"}
        with claims.acquire(tmp_path, "a-b") as other:
            assert other.held(), "a name that begins the same is another"
    assert claims.held(tmp_path) == set()
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_ask_at_once_one_gets_it(tmp_path):
    for _ in range(20):
        start = threading.Barrier(8)

        def ask(start=start):
            start.wait()
            return claims.acquire(tmp_path, "a")

        with ThreadPoolExecutor(8) as pool:
            got = [claim for claim in pool.map(lambda _: ask(), range(8)) if claim]
        assert len(got) == 1
        got[0].release()


def test_a_claim_ends_with_its_process(tmp_path):
    process = hold(tmp_path)
    assert claims.holder(tmp_path, "a")["pid"] == process.pid
    assert claims.acquire(tmp_path, "a") is None
    process.kill()
    process.communicate()
    with claims.acquire(tmp_path, "a") as claim:
        assert claim.held()
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_the_same_number_is_another(tmp_path):
    """Numbers come again after a restart."""
    with claims.acquire(tmp_path, "a") as claim:
        change(claim.path, started=0.0)
        assert claims.holder(tmp_path, "a") is None


@pytest.mark.parametrize("content", [{"host": "another"}, {"processes": "pid:[another container]"}])
def test_what_another_host_claims_holds_while_it_is_renewed(tmp_path, content):
    with claims.acquire(tmp_path, "a") as claim:
        change(claim.path, pid=2**22 + 1, **content)
        assert claims.acquire(tmp_path, "a") is None
        os.utime(claim.path, (0, time.time() - claims.LEASE - 1))
        assert claims.holder(tmp_path, "a") is None


def test_who_has_lost_a_claim_is_told_and_takes_nothing_away(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.05)
    told = threading.Event()
    slept = claims.acquire(tmp_path, "a", told.set)
    change(slept.path, started=0.0)
    with claims.acquire(tmp_path, "a") as taken:
        assert told.wait(20)
        assert not slept.held()
        slept.release()
        assert taken.held()
        assert claims.held(tmp_path) == {"a"}
    assert list(tmp_path.iterdir()) == []


def test_a_claim_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.05)
    with claims.acquire(tmp_path, "a") as claim:
        os.utime(claim.path, (0, 0))
        until(lambda: claims.holder(tmp_path, "a"))


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"host": 3}', "\x00"])
def test_a_claim_that_cannot_be_read_ends_when_it_is_not_renewed(tmp_path, content):
    path = tmp_path / "a.claim1"
    path.write_text(content)
    assert claims.acquire(tmp_path, "a") is None
    os.utime(path, (0, time.time() - claims.LEASE - 1))
    with claims.acquire(tmp_path, "a") as claim:
        assert claim.path.name == "a.claim2"
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_comes_again_is_not_the_old_claim(tmp_path):
    """It lapsed while its process slept; meanwhile others claimed, released, and claimed again."""
    slept = claims.acquire(tmp_path, "a")
    slept.path.unlink()
    with claims.acquire(tmp_path, "a") as taken:
        assert taken.path == slept.path
        assert not slept.held()
        slept.release()
        assert taken.held()
    assert list(tmp_path.iterdir()) == []


def test_a_hiccup_of_the_file_system_does_not_end_a_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.05)
    told, hiccups = threading.Event(), threading.Semaphore(3)
    generations = claims._generations

    def stale(*where):
        if hiccups.acquire(blocking=False):
            raise OSError(116, "Stale file handle")
        return generations(*where)

    with claims.acquire(tmp_path, "a", told.set) as claim:
        monkeypatch.setattr(claims, "_generations", stale)
        os.utime(claim.path, (0, 0))
        assert not told.wait(2), "forty beats, the first three of which fail"
        assert time.time() - claim.path.stat().st_mtime < claims.LEASE


def test_a_clock_that_is_put_right_ends_no_claim(tmp_path):
    """The start of a process is counted from that of the system, which moves with the clock."""
    with claims.acquire(tmp_path, "a") as claim:
        started = json.loads(claim.path.read_text())["started"]
        change(claim.path, started=started + 1.0)
        assert claims.holder(tmp_path, "a") is not None


def test_tidying_takes_no_claim_made_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "a.claim1").write_text("{")
    os.utime(tmp_path / "a.claim1", (0, 0))
    acquire, made = claims.acquire, []

    def slower(*where):
        made.append(acquire(*where))  # another is faster
        return acquire(*where)

    monkeypatch.setattr(claims, "acquire", slower)
    claims.tidy(tmp_path)
    assert made[0].held()
    made[0].release()
    assert list(tmp_path.iterdir()) == []


# folders


def publish(folder: Folder, status: str = "finished", **other) -> Outcome:
    outcome = Outcome(POINT.name, status, ended=time.time(), **other)
    write(folder.notebook(POINT.name), with_error(NOTEBOOK, "E", "m"), outcome, POINT)
    return outcome


def test_an_outcome_is_read_from_its_notebook(tmp_path):
    folder = Folder(tmp_path).create()
    assert folder.outcome(POINT.name) is None
    outcome = publish(folder, "failed", error="E: m", seconds=2.5)
    assert folder.outcome(POINT.name) == outcome


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"metadata": {"recdrop": []}}', "[" * 9999]
)
def test_a_notebook_that_is_none_is_no_outcome(tmp_path, content):
    folder = Folder(tmp_path).create()
    folder.notebook(POINT.name).write_text(content)
    assert folder.outcome(POINT.name) is None


def test_tidying_takes_what_the_dead_have_left_and_nothing_else(tmp_path):
    folder = Folder(tmp_path).create()
    dead = hold(folder.control)
    part = part_of(tmp_path / "a.ipynb", dead.pid)
    part.touch()
    folder.tidy()
    assert part.exists()
    dead.kill()
    dead.communicate()
    folder.ask([POINT])
    publish(folder)
    folder.tidy()
    assert litter(tmp_path, 1) == []
    assert folder.asked() == [POINT.name]


def test_fresh_sets_aside_what_had_finished_until_the_next(tmp_path):
    folder = Folder(tmp_path).create()
    replaced = tmp_path / "a-n=1.ipynb.replaced"
    folder.set_aside(POINT.name)
    publish(folder, seconds=1)
    folder.set_aside(POINT.name)
    assert '"seconds": 1' in replaced.read_text()
    assert folder.outcome(POINT.name) is None
    publish(folder, "failed", seconds=2)
    folder.set_aside(POINT.name)
    assert '"seconds": 1' in replaced.read_text(), "a failure replaces nothing"
    assert litter(tmp_path, 1) == []


def test_nothing_takes_the_place_of_what_is_no_result_of_its_notebook(tmp_path):
    folder = Folder(tmp_path).create()
    folder.check(POINT, "x")
    own = folder.notebook(POINT.name)
    own.write_text(json.dumps(NOTEBOOK))
    for fresh in (False, True):
        with pytest.raises(ValueError, match=rf"{re.escape(str(own))} .*not made by a sweep"):
            folder.check(POINT, "x", fresh)
    publish(folder, source="x")
    folder.check(POINT, "a later version")
    other = replace(POINT, notebook="elsewhere/a.ipynb")
    folder.check(other, "x")  # the same notebook in a checkout that has moved
    with pytest.raises(ValueError, match=r"made of another notebook, a.ipynb; give another --out"):
        folder.check(other, "y")
    folder.check(other, "y", fresh=True)


def test_a_notebook_is_not_executed_into_its_own_place(tmp_path, capsys):
    source = tmp_path / "a.ipynb"
    source.write_text(json.dumps(NOTEBOOK))
    assert main(["run", str(source), "--out", str(tmp_path)]) == 2
    assert "give another --out" in capsys.readouterr().err
    assert json.loads(source.read_text()) == NOTEBOOK
    assert list(tmp_path.iterdir()) == [source]


def test_status_tells_what_there_is(tmp_path):
    folder = Folder(tmp_path).create()
    points = [POINT, *(Point(name, "a.ipynb", {}) for name in ("b", "c"))]
    folder.ask(points)
    publish(folder, seconds=600)
    failed = Outcome("b", "failed", "ValueError: no", 3.0, 1.0, "x")
    write(folder.notebook("b"), with_error(NOTEBOOK, "E", "m"), failed, points[1])
    assert status.status(tmp_path).seconds_left is None, "nothing runs"
    with claims.acquire(folder.control, "c"):
        found = status.status(tmp_path)
        assert (found.finished, found.failed, found.waiting) == (1, [failed], [])
        assert [r.name for r in found.running] == ["c"]
        assert found.seconds_left == pytest.approx(600, abs=5)
        said = status.text(found)
    assert said.startswith("1 finished, 1 running, 1 failed, 0 waiting\nrunning: c on ")
    assert "failed: b: ValueError: no" in said
    assert re.search(r"about (09:5\d|10:0\d) left$", said)
    assert status.status(tmp_path).waiting == ["c"]


def test_no_sweep_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no sweep; `recdrop run --out` makes one"):
        status.status(tmp_path)


# results


def test_two_processes_train_the_same_networks_into_one_folder(tmp_path):
    """Both come to the same manifests, and neither stumbles over the other's checkpoints."""
    code = "import sys, trainings; trainings.train('temporal_order', sys.argv[1])"
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}"}

    def start(folder) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "results")], env=environment,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    processes = [start(tmp_path / "alone"), *(start(tmp_path / "both") for _ in range(2))]
    for process in processes:
        said = process.communicate()[1]
        assert process.returncode == 0, said
    assert figures(tmp_path / "both") == figures(tmp_path / "alone") != {}
    assert litter(tmp_path / "both", 0) == []
