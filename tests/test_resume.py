"""Each benchmark killed in the middle of an epoch goes on from its checkpoint to the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recdrop.study import items
from recdrop.study.conditions import grid
from recdrop.study.training import train
from recdrop.tasks.char_lm import CharacterLanguageModel
from recdrop.tasks.ner import NamedEntities
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel

TASKS = {
    "temporal_order": TemporalOrder,
    "word_lm": WordLanguageModel,
    "char_lm": CharacterLanguageModel,
    "ner": NamedEntities,
}


def run(task, folder: Path, **options) -> list[dict]:
    """Four networks, a checkpoint after each update."""
    torch.set_num_threads(1)
    forward = [False] if task.name == "temporal_order" else [True]
    conditions = grid(
        task.name, task.settings, ["none", "gal", "moon", "semeniuta"], [0.5], ["sequence"], forward
    )
    return train(task, conditions, folder, progress=False, checkpoint_every=0, **options)


def counting(task) -> list[int]:
    """The updates that the task makes, by their place in the epoch."""
    made, train_epoch = [], task.train_epoch

    def counted(table, epoch, tick, begun):
        def told(at, **measured):
            made.append(at["updates"])
            tick(at, **measured)

        return train_epoch(table, epoch, told, begun)

    task.train_epoch = counted
    return made


def die(name: str, folder: str, at: int) -> None:
    """What the killed process runs: it kills itself behind its ``at``-th update's checkpoint."""
    task = TASKS[name]("smoke")
    made, train_epoch = [], task.train_epoch

    def dying(table, epoch, tick, begun):
        def told(now, **measured):
            tick(now, **measured)
            made.append(now)
            if len(made) == at:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)

        return train_epoch(table, epoch, told, begun)

    task.train_epoch = dying
    run(task, Path(folder))


@pytest.mark.parametrize("name", TASKS)
def test_a_benchmark_killed_in_the_middle_of_an_epoch(name: str, tmp_path: Path):
    updates = TASKS[name]("smoke").updates_per_epoch
    assert updates > 3
    at = updates + 3  # in the second epoch
    code = f"import test_resume; test_resume.die({name!r}, {str(tmp_path / 'killed')!r}, {at})"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not list((tmp_path / "killed").glob("*.json"))

    task = TASKS[name]("smoke")
    made = counting(task)
    resumed = run(task, tmp_path / "killed")
    assert made == list(range(4, updates + 1)), "no update is made twice"
    undisturbed = run(TASKS[name]("smoke"), tmp_path / "undisturbed")
    for a, b in zip(resumed, undisturbed, strict=True):
        assert (a["curve"], a["final"], a["data"]) == (b["curve"], b["final"], b["data"])
    kept = list((tmp_path / "undisturbed").glob("*.items.npz"))
    assert len(kept) == (0 if name == "temporal_order" else len(resumed))
    for path in kept:
        assert (items.load(path) == items.load(tmp_path / "killed" / path.name)).all()
    assert not list((tmp_path / "killed" / "checkpoints").iterdir())


def test_checkpoints_by_time_change_nothing(tmp_path: Path):
    often = run(WordLanguageModel("smoke"), tmp_path / "often")
    task = WordLanguageModel("smoke")
    conditions = grid(
        task.name, task.settings, ["none", "gal", "moon", "semeniuta"], [0.5], ["sequence"], [True]
    )
    seldom = train(task, conditions, tmp_path / "seldom", progress=False)
    assert [m["curve"] for m in often] == [m["curve"] for m in seldom]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_result_made_meanwhile_is_not_overwritten_by_an_older_table(fresh: bool, tmp_path: Path):
    """A table of two is interrupted, one of them trained by itself, then the table goes on."""
    task = TemporalOrder("smoke", 15)
    both = grid(task.name, task.settings, ["gal", "moon"], [0.5], ["step"])
    train_epoch = task.train_epoch

    def interrupted(table, epoch, tick, begun):
        if epoch:
            raise KeyboardInterrupt
        return train_epoch(table, epoch, tick, begun)

    task.train_epoch = interrupted
    with pytest.raises(KeyboardInterrupt):
        train(task, both, tmp_path, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(task, both[:1], tmp_path, progress=False, fresh=fresh)
    older, newer = sorted((tmp_path / "checkpoints").iterdir(), key=lambda p: p.stat().st_mtime)
    assert [len(torch.load(p)["names"]) for p in (older, newer)] == [2, 1]
    names = [c.name for c in both]
    task.train_epoch = train_epoch
    first, second = train(task, both, tmp_path, progress=False)
    assert [m["name"] for m in (first, second)] == names
    assert [m["networks_in_table"] for m in (first, second)] == [1, 2]
    assert not list((tmp_path / "checkpoints").iterdir())
    alone = [train(task, [c], tmp_path / c.name, progress=False)[0] for c in both]
    assert [m["curve"] for m in (first, second)] == [m["curve"] for m in alone]
