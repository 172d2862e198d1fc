"""Training a table of networks: interrupted, killed, diverging, taken up again, refused."""

import functools
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from recdrop.figures import learning_curves
from recdrop.study import files, results, training
from recdrop.study.conditions import Condition, grid
from recdrop.study.rerun import differences
from recdrop.study.training import train
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel

EPOCHS = 5


class Order(TemporalOrder):
    """A small Temporal Order in which Moon's network leaves the table after two epochs.

    Counts the epochs it trains; ``pause`` = (folder, epoch) stops in the middle of an epoch and
    says so in a file, for a test to interrupt.
    """

    def __init__(self, pause=None, epochs: int = EPOCHS):
        super().__init__("smoke")
        self.settings |= {"epochs": epochs, "test": 40}
        self.pause, self.trained = pause, []

    def train_epoch(self, table, epoch, tick=lambda *_, **__: None, begun=None):
        self.trained.append(epoch)

        def pausing(*at, **measured):
            tick(*at, **measured)
            if self.pause and epoch == self.pause[1]:
                (Path(self.pause[0]) / "paused").touch()
                time.sleep(120)

        return super().train_epoch(table, epoch, pausing, begun)

    def is_finished(self, curve, recurrent_dropout):
        return bool(recurrent_dropout.cell) and len(curve) == 2


class Words(WordLanguageModel):
    """A small word language model with forward dropout, SGD and a falling learning rate."""

    def __init__(self):
        super().__init__("smoke")
        self.settings |= {"train_tokens": 900, "held_out_tokens": 90, "epochs": EPOCHS, "lr": 4.0}
        self.trained = []

    def train_epoch(self, table, epoch, tick=lambda *_, **__: None, begun=None):
        self.trained.append(epoch)
        return super().train_epoch(table, epoch, tick, begun)


def conditions(task, schemes=("gal", "moon", "semeniuta"), forward=(False,)) -> list[Condition]:
    return grid(task.name, task.settings, schemes, [0.5], ["step"], forward)


def run(folder, task=None, **options) -> list[dict]:
    task = task or Order()
    return train(task, conditions(task), folder, progress=False, **options)


def figures(manifests: list[dict]) -> list[dict]:
    """What must not depend on interruptions: all but how and how long it ran."""
    how = ("seconds", "seconds_on", "networks_in_table", "made_with")
    return [{k: v for k, v in m.items() if k not in how} for m in manifests]


def weights(folder) -> dict[str, np.ndarray]:
    return {f"{path.name} {k}": v for path in sorted(Path(folder).glob("*.npz"))
            for k, v in np.load(path).items()}  # fmt: skip


def assert_same(folder, manifests, expected_folder, expected) -> None:
    assert figures(manifests) == figures(expected)
    found, wanted = weights(folder), weights(expected_folder)
    assert found.keys() == wanted.keys()
    assert all((found[k] == wanted[k]).all() for k in found)


def assert_tidy(folder, networks: int = 3) -> None:
    """One manifest and one file of weights for each network, and nothing of the run's own."""
    spared = ("paused", "replaced")  # a test's own, and what a fresh run has set aside
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    left = [path for path in files if not {path.name, path.parent.name} & set(spared)]
    kinds = sorted(path.suffix for path in left)
    assert kinds == [".json"] * networks + [".npz"] * networks, left


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    return folder, run(folder)


# a run


def test_a_run_leaves_one_manifest_per_network_and_nothing_else(undisturbed):
    folder, manifests = undisturbed
    assert_tidy(folder)
    assert [m["condition"]["scheme"] for m in manifests] == ["gal", "moon", "semeniuta"]
    assert [len(m["curve"]) for m in manifests] == [EPOCHS, 2, EPOCHS]
    for m, condition in zip(manifests, conditions(Order()), strict=True):
        assert json.loads((folder / f"{condition.name}.json").read_text()) == m
        assert m["status"] == "finished"
        assert m["final"] == {"last": m["curve"][-1], "best": None}
        assert m["networks_in_table"] == 3
        assert m["seconds"] >= 0


def test_a_finished_run_is_read_and_not_trained(undisturbed):
    folder, manifests = undisturbed
    task = Order()
    assert run(folder, task) == manifests
    assert task.trained == []


def test_running_twice_gives_the_same_figures(undisturbed, tmp_path):
    assert_same(tmp_path, run(tmp_path), *undisturbed)


def test_torchs_random_state_does_not_matter(undisturbed, tmp_path):
    torch.manual_seed(99)
    assert_same(tmp_path, run(tmp_path), *undisturbed)


def test_the_order_of_conditions_is_that_of_the_call(undisturbed):
    folder, manifests = undisturbed
    asked = conditions(Order())[::-1]
    assert train(Order(), asked, folder) == manifests[::-1]


def test_one_condition_more_trains_only_the_new_one(undisturbed, tmp_path):
    before = run(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
    task = Order()
    more = conditions(task, ["gal", "moon", "semeniuta", "none"])
    manifests = train(task, more, tmp_path, progress=False)
    assert manifests[:3] == before
    assert manifests[3]["condition"]["scheme"] == "none"
    assert manifests[3]["networks_in_table"] == 1
    assert all(path.stat().st_mtime_ns == at for path, at in files.items())
    assert_tidy(tmp_path, 4)


def test_another_setting_is_another_result(tmp_path):
    run(tmp_path)
    task = Order(epochs=3)
    manifests = run(tmp_path, task)
    assert task.trained == [0, 1, 2]
    assert [len(m["curve"]) for m in manifests] == [3, 2, 3]
    assert_tidy(tmp_path, 6)


def test_fresh_trains_anew(undisturbed, tmp_path):
    run(tmp_path)
    for path in tmp_path.glob("*.json"):
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(manifest | {"curve": []}))
    assert all(m["curve"] == [] for m in run(tmp_path))
    task = Order()
    assert_same(tmp_path, run(tmp_path, task, fresh=True), *undisturbed)
    assert len(task.trained) == EPOCHS
    assert_tidy(tmp_path)
    set_aside = [json.loads(p.read_text()) for p in (tmp_path / "replaced").glob("*.json")]
    assert [m["curve"] for m in set_aside] == [[]] * 3


def test_a_manifest_lost_while_its_table_goes_on_is_made_again(undisturbed, tmp_path):
    """Moon's leaves the table first; its manifest is damaged and moved away, as the error says."""
    task = Order()

    class Interrupted(Exception):
        pass

    def stop_behind_moons(self, table, epoch, *args):
        if len(table) == 2:
            raise Interrupted
        return type(task).train_epoch(self, table, epoch, *args)

    first = type("Stopped", (type(task),), {"train_epoch": stop_behind_moons})()
    with pytest.raises(Interrupted):
        run(tmp_path, first)
    (manifest,) = tmp_path.glob("*.json")
    manifest.unlink()
    assert_same(tmp_path, run(tmp_path), *undisturbed)
    assert_tidy(tmp_path)


def test_each_fresh_run_sets_aside_the_one_before(tmp_path):
    for n in range(3):
        for m in run(tmp_path, fresh=n > 0):
            path = tmp_path / f"{m['name']}.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"curve": f"run {n}"}))
    kept = {p.parent.name: json.loads(p.read_text())["curve"] for p in tmp_path.rglob("*.json")}
    assert kept == {tmp_path.name: "run 2", "replaced": "run 0", "replaced-2": "run 1"}


def test_a_fresh_run_that_cannot_start_leaves_what_is_there(tmp_path, monkeypatch):
    """The corpus may be gone since."""

    class Lost(Order):
        def network(self, *_):
            raise FileNotFoundError("no corpus")

        data = property(network)

        @data.setter
        def data(self, _):
            pass

    before = run(tmp_path)
    with pytest.raises(FileNotFoundError, match="no corpus"):
        run(tmp_path, Lost(), fresh=True)
    task = Order()
    assert run(tmp_path, task) == before
    assert task.trained == []


def test_no_conditions_are_no_work(tmp_path):
    assert train(Order(), [], tmp_path) == []


# crashes: a process that dies before each of its file operations


class Killed(BaseException):
    """Passes every ``except Exception``, as a signal would."""


def die_at(monkeypatch, n: int) -> None:
    """Before the n-th file takes its name."""
    calls, replace = [], os.replace

    def dying(*paths):
        calls.append(paths)
        if len(calls) == n:
            raise Killed
        replace(*paths)

    monkeypatch.setattr(files.os, "replace", dying)


# Epochs 1, 3 and 4 write a checkpoint; 2 Moon's weights, manifest and a checkpoint; 5 the other
# two's weights and manifests and a checkpoint. For a checkpoint the one before it is moved away.
WRITES = 2 + 4 + 2 + 2 + 6
FINISHED_EPOCHS = [0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5]  # before each write


@pytest.mark.parametrize("n", range(1, WRITES + 1))
def test_a_run_that_died_at_any_write_goes_on_to_the_same_bits(
    n, undisturbed, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        die_at(patched, n)
        with pytest.raises(Killed):
            run(tmp_path)
    task = Order()
    assert_same(tmp_path, run(tmp_path, task), *undisturbed)
    assert task.trained == list(range(FINISHED_EPOCHS[n - 1], EPOCHS)), "finished epochs are kept"
    assert_tidy(tmp_path)


def test_a_resumed_run_says_how_many_networks_its_table_had(tmp_path, monkeypatch):
    """Wall time means little without it."""
    with monkeypatch.context() as patched:
        die_at(patched, 8)  # Moon has left, two go on
        with pytest.raises(Killed):
            run(tmp_path)
    assert [m["networks_in_table"] for m in run(tmp_path)] == [3, 3, 3]


def test_a_run_that_died_behind_its_last_write_leaves_nothing(tmp_path, undisturbed, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda path, **_: _die_if(path.suffix == ".pt"))
        with pytest.raises(Killed):
            run(tmp_path)
    task = Order()
    assert_same(tmp_path, run(tmp_path, task), *undisturbed)
    assert task.trained == []
    assert_tidy(tmp_path)


def _die_if(condition: bool) -> None:
    if condition:
        raise Killed


def test_words_go_on_to_the_same_bits(tmp_path, monkeypatch):
    def words(folder) -> list[dict]:
        task = Words()
        asked = conditions(task, ["none", "gal", "semeniuta"], (False, True))
        return train(task, asked, folder, progress=False)

    expected = words(tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        die_at(patched, 4)
        with pytest.raises(Killed):
            words(tmp_path / "killed")
    assert figures(words(tmp_path / "killed")) == figures(expected)
    assert len({e["lr"] for m in expected for e in m["curve"]}) > 1, "the rate fell"


def test_an_interrupted_run_with_one_condition_more_leaves_no_litter(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        die_at(patched, 7)  # two epochs are in the checkpoint
        with pytest.raises(Killed):
            run(tmp_path)
    task = Order()
    asked = conditions(task, ["gal", "moon", "semeniuta", "none"])
    manifests = train(task, asked, tmp_path, progress=False)
    assert len(manifests) == 4
    assert_tidy(tmp_path, 4)


def test_a_fresh_run_that_died_does_not_mix_old_and_new(tmp_path, monkeypatch, undisturbed):
    run(tmp_path)
    with monkeypatch.context() as patched:
        die_at(patched, 6 + 7)  # six files are set aside, then as above
        with pytest.raises(Killed):
            run(tmp_path, fresh=True)
    task = Order()
    assert_same(tmp_path, run(tmp_path, task), *undisturbed)
    assert task.trained == [2, 3, 4], "what the fresh run had done is not done again"
    assert_tidy(tmp_path)


def changed(whole: bytes, bits: dict[int, int]) -> bytes:
    """``whole`` with bits flipped in the bytes at these places."""
    found = bytearray(whole)
    for place, mask in bits.items():
        found[place] ^= mask
    return bytes(found)


def entry(whole: bytes) -> int:
    """Where a zip file's list of contents begins; its flags are 8 bytes on, its name 46."""
    return whole.index(b"PK\1\2")


def saved(content: object) -> bytes:
    with io.BytesIO() as file:
        torch.save(content, file)
        return file.getvalue()


DAMAGE = {
    "empty": lambda whole: b"",
    "another file": lambda whole: b"not a checkpoint",
    "another's": lambda whole: saved({"weight": torch.zeros(2)}),
    "a list": lambda whole: saved([1, 2]),
    "half": lambda whole: whole[: len(whole) // 2],
    "one bit": lambda whole: changed(whole, {len(whole) // 2: 1}),
    "encrypted": lambda whole: changed(whole, {entry(whole) + 8: 1}),
    "a name": lambda whole: changed(whole, {entry(whole) + 9: 8, entry(whole) + 46: 128}),
}


def test_with_a_deadline_there_is_a_checkpoint_before_each_evaluation(
    tmp_path, undisturbed, monkeypatch
):
    """Whoever is cut off in an evaluation, which no deadline breaks off, has the epoch."""
    seen = []

    def evaluate(self, table):
        seen.append([p.suffix for p in (tmp_path / "checkpoints").iterdir()])
        raise KeyboardInterrupt

    monkeypatch.setattr(Order, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, until=time.monotonic() + 1000)
    monkeypatch.undo()
    assert seen == [[".pt"]]
    assert_same(tmp_path, run(tmp_path), *undisturbed)


def test_not_each_epoch_need_be_tested(tmp_path, undisturbed, monkeypatch):
    monkeypatch.setattr(Order, "is_due", lambda self, epoch, trained: epoch not in (1, 4))
    whole, seldom = undisturbed[1], run(tmp_path)
    for then, now in zip(whole, seldom, strict=True):
        assert now["final"] == then["final"]
        assert now["curve"] == [
            {k: v for k, v in e.items() if k != "test" or e["epoch"] not in (1, 4)}
            for e in then["curve"]
        ]
        assert differences(then, now) == differences(now, then) == ()  # of what both have
    curves = [ax.lines for ax in learning_curves(seldom, ("train", "test"), "").axes]
    assert [sorted(len(line.get_xdata()) for line in lines) for lines in curves] == [
        [2, EPOCHS, EPOCHS], [1, EPOCHS - 2, EPOCHS - 2]
    ]  # fmt: skip


@pytest.fixture
def killed(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Last checkpoint and the one before it, of a run that died behind its fourth epoch."""
    with monkeypatch.context() as patched:
        die_at(patched, 9)
        with pytest.raises(Killed):
            run(tmp_path)
    (last,) = (tmp_path / "checkpoints").glob("*.pt")
    return last, last.with_suffix(".previous")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_taken(
    damage, killed, undisturbed, tmp_path, capsys
):
    last, _ = killed
    damaged = DAMAGE[damage](last.read_bytes())
    last.write_bytes(damaged)
    task = Order()
    assert_same(tmp_path, run(tmp_path, task), *undisturbed)
    assert task.trained == [2, 3, 4]
    said = capsys.readouterr().err
    assert f"checkpoint {last} is damaged" in said
    assert "going on from the one before it" in said
    aside = last.with_suffix(".damaged")
    assert f"kept as {aside}" in said
    assert aside.read_bytes() == damaged  # it may have been a file of someone's own
    aside.unlink()
    assert_tidy(tmp_path)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("before", ["damaged", "missing"])
def test_a_damaged_checkpoint_without_another_is_named(damage, before, killed, tmp_path):
    last, previous = killed
    last.write_bytes(DAMAGE[damage](last.read_bytes()))
    if before == "missing":
        previous.unlink()
    else:
        previous.write_bytes(DAMAGE[damage](previous.read_bytes()))
    with pytest.raises(ValueError, match=rf"(?s){re.escape(str(last))}.*(remove|delete|move)"):
        run(tmp_path)


def test_a_strange_file_among_the_checkpoints_is_named(tmp_path):
    strange = tmp_path / "checkpoints" / "model.pt"
    strange.parent.mkdir()
    torch.save({"weight": torch.zeros(2)}, strange)
    with pytest.raises(ValueError, match=rf"{re.escape(str(strange))}.*not one of.*move it away"):
        run(tmp_path)
    assert strange.exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_strange_file_costs_nothing_that_has_finished(fresh, tmp_path):
    made = run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    strange = tmp_path / "checkpoints" / "model.pt"
    strange.write_bytes(b"mine")
    if fresh:  # nothing is set aside for a run that cannot start
        with pytest.raises(ValueError, match=re.escape(str(strange))):
            run(tmp_path, fresh=True)
    else:  # nothing is to be trained, so nothing is in the way
        assert run(tmp_path) == made
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    assert strange.read_bytes() == b"mine"


def test_a_fresh_run_in_a_precision_that_there_is_not_sets_nothing_aside(tmp_path):
    run(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    task = Order()
    wanted = conditions(task)
    task.settings["precision"] = "tf32"
    with pytest.raises(ValueError, match="exists on a GPU alone"):
        train(task, wanted, tmp_path, fresh=True, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_two_that_meet_a_damaged_checkpoint_lose_nothing(killed, undisturbed, tmp_path):
    """Both read it before either has written a better one; nor is what was kept before lost."""
    last, previous = killed
    good, kept = previous.read_bytes(), last.with_suffix(".damaged")
    last.write_bytes(b"first")
    kept.write_bytes(b"earlier")
    for _ in range(2):
        assert training._load(last)[training.DAMAGED].startswith(f"checkpoint {last} is damaged")
    assert (last.read_bytes(), previous.read_bytes()) == (b"first", good)
    assert_same(tmp_path, run(tmp_path), *undisturbed)
    assert kept.read_bytes() == b"earlier"
    assert kept.with_suffix(".damaged-2").read_bytes() == b"first"


def test_a_run_that_died_between_two_checkpoints_goes_on_from_the_one_before(
    killed, undisturbed, tmp_path
):
    killed[0].unlink()
    task = Order()
    assert_same(tmp_path, run(tmp_path, task), *undisturbed)
    assert task.trained == [2, 3, 4]
    assert_tidy(tmp_path)


def test_a_checkpoint_does_not_go_on_with_other_data(killed, undisturbed, tmp_path):
    """Such as word vectors, which each machine trains anew."""
    task = Order()
    task.data = Order().data | {"vectors": "others"}
    before = {path: path.read_bytes() for path in killed}
    with pytest.raises(ValueError, match="vectors None then, others now; bring the data along"):
        run(tmp_path, task)
    assert task.trained == []
    assert {path: path.read_bytes() for path in killed} == before
    assert_same(tmp_path, run(tmp_path), *undisturbed)


def test_a_checkpoint_of_an_earlier_version_goes_on(killed, undisturbed, tmp_path):
    """One that does not tell its data, nor the commits that it was trained by."""
    for path in killed:
        state = torch.load(path, weights_only=True)
        torch.save({k: v for k, v in state.items() if k not in ("data", "commits")}, path)
    assert_same(tmp_path, run(tmp_path), *undisturbed)


def test_a_manifest_names_the_commits_that_trained_it(killed, tmp_path, monkeypatch):
    """And not what was committed while it was training."""
    (before,) = torch.load(killed[0], weights_only=True)["commits"]
    told = iter(["second"])
    monkeypatch.setattr(results, "commit", functools.cache(lambda: next(told)))
    last = run(tmp_path)[-1]
    assert last["commits"] == [before, "second"]
    assert last["made_with"]["commit"] == "second"


class Hostile:
    """What a checkpoint from someone else might do when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("before", ["whole", "missing"])
def test_a_checkpoint_cannot_execute_anything(before, killed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    last, previous = killed
    torch.save(torch.load(last, weights_only=True) | {"epoch": Hostile()}, last)
    if before == "missing":
        previous.unlink()
        with pytest.raises(ValueError, match=rf"{re.escape(str(last))} .*move it away"):
            run(tmp_path)
    else:
        run(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_table_that_another_process_finishes_meanwhile_is_no_error(
    killed, undisturbed, tmp_path, monkeypatch
):
    """Its checkpoint may vanish between being listed and being read."""
    listed = list((tmp_path / "checkpoints").iterdir())
    for path in listed:
        path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(
            Path, "glob", lambda self, _: iter(listed if self.name == "checkpoints" else [])
        )
        manifests = run(tmp_path)
    assert_same(tmp_path, manifests, *undisturbed)


# real signals, in a process of its own


def child(folder: str, how: str) -> None:
    """What the processes below run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    torch.set_num_threads(1)
    task = Order(pause=(folder, 3) if how == "pause" else None)
    if how == "die":
        replace, calls = os.replace, []

        def dying(*paths):
            calls.append(paths)
            if len(calls) == 5:  # Moon's manifest is written, the checkpoint is not
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*paths)

        files.os.replace = dying
    train(task, conditions(task), folder)


def start(folder, how: str) -> subprocess.Popen:
    code = f"import test_training; test_training.child({str(folder)!r}, {how!r})"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def test_a_run_killed_within_an_epoch_goes_on_to_the_same_bits(tmp_path, undisturbed):
    process = start(tmp_path, "pause")
    wait_for(tmp_path / "paused", process)
    process.kill()
    process.communicate()
    task = Order()
    assert_same(tmp_path, run(tmp_path, task), *undisturbed)
    assert task.trained == [3, 4]
    assert_tidy(tmp_path)


def test_a_run_killed_while_it_writes_leaves_no_litter(tmp_path, undisturbed):
    process = start(tmp_path, "die")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.part")), "the test's own premise"
    assert_same(tmp_path, run(tmp_path), *undisturbed)
    assert_tidy(tmp_path)


def test_a_run_killed_after_its_last_result_leaves_no_litter(tmp_path, undisturbed):
    """Nothing is left to train then, and the checkpoint was being written once more."""
    run(tmp_path)
    dead = subprocess.Popen(["true"])
    dead.wait()
    part = files.part_of(tmp_path / "checkpoints" / "0.pt", dead.pid)
    part.write_bytes(b"")
    assert_same(tmp_path, run(tmp_path), *undisturbed)
    assert_tidy(tmp_path)


def test_control_c_says_how_to_go_on(tmp_path, undisturbed):
    process = start(tmp_path, "pause")
    wait_for(tmp_path / "paused", process)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode != 0
    assert "Interrupted. Run the same again to go on from the last checkpoint." in said
    assert not list(tmp_path.rglob("*.part"))
    task = Order()
    assert_same(tmp_path, run(tmp_path, task), *undisturbed)
    assert task.trained == [3, 4]


def test_control_c_in_a_fresh_run_promises_only_what_is_so(tmp_path, capsys, monkeypatch):
    """The same again would begin anew; what it says instead goes on from there."""

    class Interrupted(Order):
        def train_epoch(self, table, epoch, tick=lambda *_, **__: None, begun=None):
            if epoch == 3:
                raise KeyboardInterrupt
            return super().train_epoch(table, epoch, tick, begun)

    run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Interrupted(), fresh=True)
    said = capsys.readouterr().err
    assert "Run it again without fresh=True to go on" in said
    task = Order()
    run(tmp_path, task)
    assert task.trained == [3, 4]


# divergence


class Poisoned(Order):
    """Gal's network starts with a weight that is no number, or its figures are none."""

    def __init__(self, where: str):
        super().__init__()
        self.where = where

    def network(self, recurrent_dropout, forward, seed):
        network = super().network(recurrent_dropout, forward, seed)
        if self.where == "weights" and recurrent_dropout.hidden:
            with torch.no_grad():
                network.readout.weight[0, 0] = float("nan")
        return network

    def evaluate(self, table):
        measured = super().evaluate(table)
        if self.where != "weights":
            for i, name in enumerate(table.names):
                if "-gal-" in name and len(self.trained) == EPOCHS:
                    measured["test"][i] = float(self.where)
        return measured


def test_a_diverged_network_is_reported_and_the_others_go_on(tmp_path, undisturbed, capsys):
    gal, *others = run(tmp_path, Poisoned("weights"))
    assert gal["status"] == "diverged"
    assert gal["final"] == {"last": None, "best": None}
    assert len(gal["curve"]) == 1
    assert gal["curve"][0]["epoch"] == 1
    assert {gal["curve"][0][k] for k in ("loss", "train", "test")} == {None}
    assert f"{gal['name']} diverged in epoch 1 and was frozen" in capsys.readouterr().err
    for found, expected in zip(others, undisturbed[1][1:], strict=True):
        assert found["status"] == "finished"
        for a, b in zip(found["curve"], expected["curve"], strict=True):
            assert a == pytest.approx(b, abs=1e-5)
    assert_tidy(tmp_path)


def test_a_diverged_network_is_not_trained_again(tmp_path):
    manifests = run(tmp_path, Poisoned("weights"))
    task = Poisoned("weights")
    assert run(tmp_path, task) == manifests
    assert task.trained == []


@pytest.mark.parametrize("figure", ["nan", "inf"])
def test_figures_that_are_no_numbers_cost_the_others_nothing(figure, tmp_path, undisturbed):
    """The last update may be the one too large: the loss was finite, the evaluation is not."""
    gal, *others = run(tmp_path, Poisoned(figure))
    assert gal["status"] == "diverged"
    assert figures(others) == figures(undisturbed[1][1:])
    assert_tidy(tmp_path)


def test_one_that_diverges_untested_has_the_figures_of_its_last_test(tmp_path, undisturbed):
    class Late(Order):
        def is_due(self, epoch, trained):
            return epoch != 3

        def train_epoch(self, table, epoch, *args):
            measured = super().train_epoch(table, epoch, *args)
            if epoch == 2:
                measured["loss"][0] = float("nan")
            return measured

    gal = run(tmp_path, Late())[0]
    assert (gal["status"], len(gal["curve"])) == ("diverged", 3)
    assert gal["final"]["last"] == undisturbed[1][0]["curve"][1]


@pytest.mark.parametrize("lr", [1e4, 1e6, 1e36])
def test_a_hopeless_learning_rate_ends_in_manifests(lr, tmp_path):
    """A perplexity is an exponential: a loss of 1,000 is a number, its perplexity is not."""
    task = Words()
    task.settings["lr"] = lr
    manifests = train(task, conditions(task, ["none", "gal"]), tmp_path, progress=False)
    assert all(m["status"] in ("diverged", "finished") for m in manifests)
    for path in tmp_path.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)


# folders


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_unwritable_folder_is_refused_before_training(below, tmp_path):
    """A file stands where the folder should be: that stops root, too."""
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / below
    task = Order()
    with pytest.raises(OSError, match=rf"{re.escape(str(folder))}.*give another results_dir"):
        run(folder, task)
    assert task.trained == []
    assert (tmp_path / "file").read_text() == "mine"


def test_finished_results_may_lie_in_a_folder_that_cannot_be_written(undisturbed, monkeypatch):
    monkeypatch.setattr(files, "writable", lambda *_: pytest.fail("tried to write"))
    folder, manifests = undisturbed
    assert run(folder) == manifests


def test_a_results_folder_is_created(tmp_path, undisturbed):
    assert_same(tmp_path / "a" / "b", run(tmp_path / "a" / "b"), *undisturbed)


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"schema": 99}', '{"schema": 1}'])
def test_a_damaged_manifest_is_named_and_left(damage, tmp_path):
    run(tmp_path)
    path = tmp_path / f"{conditions(Order())[1].name}.json"
    path.write_text(damage)
    task = Order()
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is not a result.*move it away"):
        run(tmp_path, task)
    assert task.trained == []
    assert path.read_text() == damage


def test_a_manifest_under_another_ones_name_is_not_believed(tmp_path):
    gal, moon, _ = (tmp_path / f"{c.name}.json" for c in conditions(Order()))
    run(tmp_path)
    moon.write_text(gal.read_text())
    with pytest.raises(ValueError, match=re.escape(str(moon))):
        run(tmp_path)


def test_progress_is_a_bar_on_stderr_with_loss_accuracy_and_time(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tqdm.tqdm.mininterval", 0, raising=False)
    task = Order()
    train(task, conditions(task), tmp_path, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    for part in ("Temporal Order, 3 networks", "Order, 2 networks", "loss=", "accuracy=", "<"):
        assert part in shown.err
    assert "25/25" in shown.err


def test_without_tqdm_training_is_the_same(tmp_path, undisturbed, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    task = Order()
    assert_same(tmp_path, train(task, conditions(task), tmp_path, progress=True), *undisturbed)


def test_checkpoints_are_safe_to_load(tmp_path, monkeypatch):
    """Tensors and plain values alone: a results folder may come from someone else."""
    die_at(monkeypatch, 3)
    with pytest.raises(Killed):
        run(tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.pt")
    state = torch.load(checkpoint, weights_only=True)
    assert state["epoch"] == 1
    assert sorted(state["names"]) == sorted(c.name for c in conditions(Order()))


@pytest.mark.parametrize("n", [2, 4])
def test_a_fresh_run_that_died_while_it_set_aside_has_lost_nothing(n, tmp_path, monkeypatch):
    run(tmp_path)
    before = sorted(p.read_bytes() for p in tmp_path.glob("*.npz"))
    with monkeypatch.context() as patched:
        die_at(patched, n)
        with pytest.raises(Killed):
            run(tmp_path, fresh=True)
    for path in tmp_path.glob("*.json"):  # what has not been set aside, is the run before's
        assert results.load(path)["status"] == "finished"
    run(tmp_path, fresh=True)
    aside = [p.read_bytes() for p in tmp_path.rglob("replaced*/*.npz")]
    assert sorted(aside) == before
    assert len(list(tmp_path.rglob("replaced*/*.json"))) == 3


def test_the_seconds_of_a_run_are_counted_once(tmp_path, monkeypatch):
    """However often it writes a checkpoint: an update takes a second here."""
    now = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])

    class Slow(Order):
        def train_epoch(self, table, epoch, tick=lambda *_, **__: None, begun=None):
            def slow(*at, **measured):
                now[0] += 1
                tick(*at, **measured)

            return super().train_epoch(table, epoch, slow, begun)

    made = run(tmp_path, Slow(), checkpoint_every=2)
    assert [m["seconds"] for m in made] == [25, 10, 25]
    assert {m["seconds_on"]["cpu"] for m in made} == {25, 10}


def test_a_table_is_of_the_conditions_networks_and_the_settings(tmp_path, monkeypatch):
    task, made, replicas = Words(), [], training.Replicas
    task.settings["epochs"] = 1
    monkeypatch.setattr(training, "Replicas", lambda *a: made.append(a) or replicas(*a))
    asked = grid(task.name, task.settings, ["none", "gal"], [0.5], ["step"], [False, True], [0, 3])
    train(task, asked, tmp_path, progress=False)
    ((networks, names, seeds, optimiser, lr, clip, device),) = made
    assert (names, seeds) == ([c.name for c in asked], [c.seed for c in asked])
    assert (optimiser, lr, clip, device) == ("sgd", 4.0, 10.0, "cpu")
    for network, c in zip(networks, asked, strict=True):
        assert network.recurrent.recurrent_dropout == c.recurrent_dropout
        assert (network.drop_input.p, network.drop_output.p) == (
            (0.2, 0.5) if c.forward else (0, 0)
        )
        start = task.network(c.recurrent_dropout, c.forward, c.seed).state_dict()
        assert all(torch.equal(v, start[k]) for k, v in network.state_dict().items())


def test_items_are_those_of_the_best_epoch(tmp_path):
    class Worsening(Words):
        def evaluate(self, table):
            n = len(self.trained)
            figure = torch.full((len(table),), float(abs(n - 2)))
            return {
                "valid": figure,
                "test": figure,
                "items": torch.full((len(table), 3, 2), float(n)),
            }

    task = Worsening()
    (c,) = grid(task.name, task.settings, ["none"], [0])
    train(task, [c], tmp_path, progress=False)
    with np.load(tmp_path / f"{c.name}.items.npz") as kept:
        assert (kept["items"] == 2).all()
