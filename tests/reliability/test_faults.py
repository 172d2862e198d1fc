"""Faults of one point, on a worker: each leaves its notebook with the error, or nothing at all."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from disturb import LIGHT, ROOT, litter, of, orphans, start, until, workplace

pytest.importorskip("papermill", reason="executing notebooks needs papermill")

from recdrop.batch import claims, grid, job, kernel
from recdrop.batch.folder import Folder
from recdrop.batch.task import Task

# Said where workers start, which pytest undoes.
pytestmark = pytest.mark.filterwarnings("ignore:The specified file")
WITHOUT_ROOT = ["unshare", "--mount", "--map-root-user"]


@pytest.fixture(scope="module")
def notebook() -> grid.Notebook:
    return grid.notebooks(str(LIGHT))[0]


@pytest.fixture
def folder():
    with workplace() as path:
        yield Folder(path / "out").create()


def task(notebook: grid.Notebook, folder: Folder, timeout=None, sweep="s", **parameters) -> Task:
    fixed = [(k, json.dumps(v)) for k, v in parameters.items()]
    (point,) = grid.points(notebook, fixed)
    return Task(point, str(folder.path), notebook.text, notebook.digest, sweep, timeout)


def error_in(folder: Folder, name: str) -> dict:
    """The one error of an executed notebook."""
    nb = json.loads(folder.notebook(name).read_text())
    (error,) = [o for c in nb["cells"] for o in c.get("outputs", []) if o["output_type"] == "error"]
    return error


def test_a_point_is_executed_and_left_alone_afterwards(notebook, folder):
    given = task(notebook, folder, n=7)
    outcome = job.run(given)
    assert (outcome.status, outcome.error) == ("finished", None)
    assert folder.outcome(given.point.name) == outcome
    assert "49\n" in folder.notebook(given.point.name).read_text().encode().decode("unicode_escape")
    assert job.run(given) == outcome, "another sweep finds it finished"
    assert not litter(folder.path, 1)


def test_a_cell_that_raises(notebook, folder):
    given = task(notebook, folder, n=3, do="raise")
    outcome = job.run(given)
    assert outcome.status == "failed"
    assert outcome.error == "RuntimeError: n=3 was told to", "the first line"
    assert "second line" in error_in(folder, given.point.name)["evalue"]
    assert not litter(folder.path, 1)


def test_a_kernel_that_dies(notebook, folder):
    given = task(notebook, folder, do="die")
    outcome = job.run(given)
    assert outcome.error.startswith("DeadKernelError: the kernel died; if memory ran out")
    assert error_in(folder, given.point.name)["ename"] == "DeadKernelError"
    assert not litter(folder.path, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_memory_that_is_exhausted(notebook, folder):
    given = task(notebook, folder, do="exhaust")
    assert job.run(given).error.startswith("MemoryError")
    assert error_in(folder, given.point.name)["ename"] == "MemoryError"
    assert not litter(folder.path, 1)


def test_a_notebook_that_never_ends(notebook, folder):
    given = task(notebook, folder, timeout=4, do="sleep")
    outcome = job.run(given)
    assert outcome.error == "TimeoutError: not done after 4 s; give a longer --timeout"
    assert error_in(folder, given.point.name)["ename"] == "TimeoutError"
    assert not litter(folder.path, 1)
    assert not kernels()


def test_a_failed_point_is_tried_again_and_its_notebook_replaced(notebook, folder, monkeypatch):
    given = task(notebook, folder, n=2)
    monkeypatch.setattr(job.papermill, "execute_notebook", lambda *_, **__: 1 / 0)
    assert job.run(given).error == "ZeroDivisionError: division by zero"
    monkeypatch.undo()
    assert job.run(given).status == "finished"
    assert not litter(folder.path, 1)


def test_a_stop_ends_the_kernel_and_keeps_nothing(notebook, folder):
    given, found = task(notebook, folder, sweep="stopped", do="sleep"), []
    thread = threading.Thread(target=lambda: found.append(job.run(given)))
    thread.start()
    until(kernels)
    job.stop("another")
    assert kernels()
    job.stop("stopped")
    thread.join()
    assert found[0].status == "stopped"
    assert not kernels()
    assert not litter(folder.path, 0)
    assert job.run(given).status == "stopped", "it does not begin again"


def kernels() -> list[psutil.Process]:
    """Of this process; one that has just been killed is given a moment."""
    found = [p for p in psutil.Process().children() if "recdrop.batch.kernel" in _words(p)]
    return psutil.wait_procs(found, 0.5)[1]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_folder_that_a_worker_does_not_see(notebook, folder):
    given = task(notebook, folder)
    shutil.rmtree(folder.path)
    with pytest.raises(OSError, match="does not see .*give --out in a folder that all hosts"):
        job.run(given)


def test_a_claim_that_is_lost_keeps_nothing(notebook, folder, monkeypatch):
    """As when a laptop slept, and another host took over: that one's notebook stays."""
    given = task(notebook, folder)
    monkeypatch.setattr(claims.Claim, "held", lambda self: False)
    assert job.run(given).status == "elsewhere"
    assert not folder.notebook(given.point.name).exists()


def test_a_kernel_whose_parent_dies_ends_by_itself():
    """Even if its parent died before ipykernel, which looks for it too, was there."""
    code = (
        "import os, subprocess, sys, time\n"
        "os.environ['RECDROP_PARENT'] = str(os.getpid())\n"
        "subprocess.Popen([sys.executable, '-m', 'recdrop.batch.kernel'], start_new_session=True)\n"
        "print('started', flush=True); time.sleep(600)"
    )
    with workplace() as path:
        process = start([sys.executable, "-c", code], "parent", path)
        assert process.stdout.readline() == "started\n"
        until(lambda: of("parent", "kernel"))  # it is on its way from fork to exec
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert orphans("parent") == []


def test_sockets_of_the_dead_are_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "_place", lambda: str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f"{kernel._mine()}{dead.pid}-x").mkdir()
    (tmp_path / "recdrop-notes").mkdir()
    mine = kernel.sockets()
    with monkeypatch.context() as container:  # which may share the folder, and tells others' pids
        container.setattr(kernel, "processes", lambda: "42")
        theirs = kernel.sockets()
        theirs = theirs.rename(tmp_path / f"{kernel._mine()}{dead.pid}-y")
    kernel.clear_sockets()
    left = {mine.name, theirs.name, "recdrop-notes"}
    assert {p.name for p in tmp_path.iterdir()} == left


@pytest.mark.skipif(os.name != "posix", reason="sockets with paths are Unix's")
def test_sockets_are_had_where_paths_are_long(tmp_path, monkeypatch):
    """Found when tests ran in a folder a little deeper: every kernel of a sweep failed."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(kernel.tempfile, "tempdir", str(long))
    mine = kernel.sockets()
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(mine / "kernel-ipc-5"))
        assert list(long.iterdir()) == []
    finally:
        shutil.rmtree(mine)


# disks: in a mount namespace of its own, of which nothing is left


def in_a_namespace(function: str, folder: Path) -> None:
    """Run a function of this module on a folder, free to mount what it likes."""
    if not shutil.which("unshare"):
        pytest.skip("mounting needs unshare")
    code = f"import test_faults; test_faults.{function}({str(folder)!r})"
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{ROOT}"}
    if subprocess.run([*WITHOUT_ROOT, "mount", "-t", "tmpfs", "x", folder], capture_output=True)\
            .returncode != 0:  # fmt: skip
        pytest.skip("this system lets nobody mount a disk, not even in a namespace")
    done = subprocess.run(
        [*WITHOUT_ROOT, sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def mount(folder: str, kilobytes: int) -> None:
    options = f"size={kilobytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while file.write(b"0" * 4096):
            pass
    return path


def notebook_on_a_full_disk(path: str) -> None:
    mount(path, 256)
    folder = Folder(path).create()
    given = task(grid.notebooks(str(LIGHT))[0], folder, n=5)
    filler = fill(folder.path)
    with pytest.raises(OSError, match="No space left for .*; make room and run the same again"):
        job.run(given)
    assert not litter(folder.path, 0)
    filler.unlink()
    assert job.run(given).status == "finished"
    assert not litter(folder.path, 1)


def training_on_a_full_disk(path: str) -> None:
    import disturb
    import trainings

    trainings.train("temporal_order", path + "/undisturbed/results")
    mount(path + "/full", 256)
    full = Path(path) / "full"
    filler = fill(full)
    os.truncate(filler, 200 * 1024)  # it begins, and does not end
    with pytest.raises(OSError, match="No space left for .*; make room and run the same again"):
        trainings.train("temporal_order", full / "results")
    assert not list(full.rglob("*.part"))
    filler.unlink()
    trainings.train("temporal_order", full / "results")
    assert disturb.figures(full) == disturb.figures(Path(path) / "undisturbed")
    assert not litter(full, 0)


def read_only(path: str) -> None:
    from recdrop import cli

    folder = Folder(path + "/out").create()
    subprocess.run(["mount", "--bind", folder.path, folder.path], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder.path], check=True)
    sys.exit(0 if cli.main(["run", str(LIGHT), "--out", str(folder.path)]) == 2 else 1)


def test_a_notebook_on_a_full_disk(tmp_path):
    in_a_namespace("notebook_on_a_full_disk", tmp_path)


def test_a_training_on_a_full_disk(tmp_path):
    (tmp_path / "full").mkdir()
    in_a_namespace("training_on_a_full_disk", tmp_path)


def test_a_folder_that_is_read_only(tmp_path):
    in_a_namespace("read_only", tmp_path)
