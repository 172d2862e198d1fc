"""A result made again from its manifest alone."""

import json
import re
from pathlib import Path

import pytest
import torch

from recdrop.cli import main
from recdrop.seeds import seed
from recdrop.study import files, results
from recdrop.study.conditions import grid
from recdrop.study.rerun import differences, rerun, task
from recdrop.study.training import train
from recdrop.tasks import temporal_order
from recdrop.tasks.char_lm import CharacterLanguageModel
from recdrop.tasks.ner import NamedEntities
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel

TASKS = {
    "order": lambda: TemporalOrder("smoke", 9),
    "gru": lambda: TemporalOrder("smoke", 9, "gru"),
    "words": lambda: WordLanguageModel("smoke"),
    "characters": lambda: CharacterLanguageModel("smoke"),
    "entities": lambda: NamedEntities("smoke"),
}


def made(work, folder: Path, schemes=("gal", "moon")) -> Path:
    """The manifest of the last network of a small table."""
    conditions = grid(work.name, work.settings, schemes, [0, 0.5], ["step"], seeds=[0, 1])
    *_, last = train(work, conditions, folder, progress=False)
    return folder / f"{last['name']}.json"


@pytest.mark.parametrize("name", TASKS)
def test_the_same_figures(tmp_path, name: str):
    """Alone, where the first was one of six: to the last digit."""
    path = made(TASKS[name](), tmp_path / "first")
    done = rerun(path, tmp_path / "again", progress=False)
    assert done.differences == ()
    assert str(done).startswith(f"same figures: {path.stem}, 2 epochs")


def test_relative_folders_start_at_the_projects_root(tmp_path, monkeypatch):
    """As notebooks, papermill and the terminal mean them, wherever the command is given."""
    path = made(TASKS["order"](), tmp_path / "first")
    monkeypatch.setattr(files, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    told = []
    monkeypatch.setattr(
        "recdrop.study.rerun.task", lambda *given: told.append(given) or task(*given)
    )
    done = rerun(path.relative_to(tmp_path), "again", "texts", progress=False)
    assert done.differences == ()
    assert (tmp_path / "again" / path.name).exists()
    assert told[0][1] == str(tmp_path / "texts")


def test_other_figures_are_told(tmp_path, capsys):
    path = made(TASKS["order"](), tmp_path / "first")
    manifest = json.loads(path.read_text())
    manifest["curve"][1]["loss"] += 1
    manifest["final"]["last"]["loss"] += 1
    path.write_text(json.dumps(manifest))
    command = ["rerun", str(path), "--results-dir", str(tmp_path / "again")]
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "other figures" in text
    assert "on the same backend" in text
    assert "first in epoch 2: loss" in text


def test_another_kernel_is_another_backend(tmp_path):
    path = made(TASKS["order"](), tmp_path / "first")
    manifest = json.loads(path.read_text())
    manifest["made_with"]["backend"] = "reference: plain PyTorch"
    manifest["curve"][1]["loss"] += 1
    path.write_text(json.dumps(manifest))
    told = str(rerun(path, tmp_path / "again", progress=False))
    assert "made on another backend: backend reference: plain PyTorch then, " in told
    del manifest["made_with"]["backend"], manifest["made_with"]["processor"]  # as once written
    path.write_text(json.dumps(manifest))
    told = str(rerun(path, tmp_path / "again", progress=False))
    assert "as far as is known: its processor and backend was not noted then" in told


@pytest.mark.parametrize("missing", ["data", "made_with", "curve"])
def test_what_lacks_something_is_refused_before_it_is_trained(tmp_path, missing, capsys):
    path = made(TASKS["order"](), tmp_path / "first")
    manifest = json.loads(path.read_text())
    del manifest[missing]
    path.write_text(json.dumps(manifest))
    assert main(["rerun", str(path), "--results-dir", str(tmp_path / "again")]) == 2
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_a_manifest_outlives_its_profile(tmp_path, monkeypatch, capsys):
    path = made(TASKS["order"](), tmp_path / "first")
    monkeypatch.setitem(temporal_order.PROFILES, "smoke", {"protocol": "smoke", "hidden": 99})
    command = ["rerun", str(path), "--results-dir", str(tmp_path / "again")]
    assert main(command) == 0
    assert "same figures" in capsys.readouterr().out


def test_it_trains_and_does_not_read(tmp_path):
    """A manifest that an earlier rerun left is set aside, not taken for the new one."""
    path = made(TASKS["order"](), tmp_path / "first")
    again = tmp_path / "again"
    rerun(path, again, progress=False)
    stale = json.loads((again / path.name).read_text()) | {"status": "diverged"}
    (again / path.name).write_text(json.dumps(stale))
    assert rerun(path, again, progress=False).again["status"] == "finished"
    assert results.load(again / "replaced" / path.name)["status"] == "diverged"


def test_what_a_gpu_made_needs_one(tmp_path, monkeypatch, capsys):
    """It is said before the result of an earlier rerun is moved."""
    path = made(TASKS["order"](), tmp_path / "first")
    manifest = json.loads(path.read_text())
    manifest["made_with"]["device"] = "NVIDIA H200"
    path.write_text(json.dumps(manifest))
    again = tmp_path / "again"
    rerun(path, again, device="cpu", progress=False)
    before = (again / path.name).read_text()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["rerun", str(path), "--results-dir", str(again)]) == 2
    assert "made on NVIDIA H200, and there is no GPU here; give" in capsys.readouterr().err
    assert (again / path.name).read_text() == before


def test_other_data_and_a_missing_epoch_are_told(tmp_path):
    first = results.load(made(TASKS["order"](), tmp_path))
    second = first | {"data": {"corpus": "other"}, "curve": first["curve"][:1]}
    told = differences(first, second)
    assert told[0].startswith("data: ")
    assert told[1] == "epochs: 2 then, 1 now"


def test_of_a_network_that_diverged_another_epoch_may_have_been_tested():
    """Which are, depends on the networks that it was trained beside."""
    often = [{"epoch": n, "loss": 1.0, "train": 0.2, "test": 0.2} for n in (1, 2, 3)]
    seldom = [{k: v for k, v in e.items() if k != "test"} if n else e for n, e in enumerate(often)]
    first, second = (
        {"status": "diverged", "data": {}, "curve": c, "final": {"last": last, "best": None}}
        for c, last in ((often, often[2]), (seldom, often[0]))
    )
    assert differences(first, second) == differences(second, first) == ()
    other = {**often[2], "test": 0.3}
    assert differences(first, first | {"final": {"last": other, "best": None}}) == (
        "last epoch: test 0.2 then, 0.3 now",
    )


def test_a_figure_that_is_no_longer_there_is_told(tmp_path):
    first = results.load(made(TASKS["order"](), tmp_path))
    without = [{k: v for k, v in e.items() if k != "train"} for e in first["curve"]]
    (told,) = differences(first, first | {"curve": without})
    assert re.fullmatch(r"first in epoch 1: train [0-9.]+ then, None now", told)


def test_a_rerun_that_cannot_start_leaves_the_one_before(tmp_path, monkeypatch):
    def missing(self):
        raise FileNotFoundError("no corpus")

    path = made(TASKS["words"](), tmp_path / "first")
    again = tmp_path / "again"
    rerun(path, again, progress=False)
    before = (again / path.name).read_bytes()
    monkeypatch.setattr(WordLanguageModel, "data", property(missing))
    with pytest.raises(FileNotFoundError, match="no corpus"):
        rerun(path, again, progress=False)
    assert (again / path.name).read_bytes() == before


def test_a_manifest_is_not_overwritten(tmp_path):
    path = made(TASKS["order"](), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="give another folder"):
        rerun(path, tmp_path, progress=False)
    assert path.read_bytes() == before


def test_what_cannot_be_made_again(tmp_path, capsys):
    assert main(["rerun", str(tmp_path / "none.json")]) == 2
    assert "no manifest at" in capsys.readouterr().err
    work = NamedEntities("smoke", vectors="news.gz")
    (condition,) = grid(work.name, work.settings, ["none"], [0])
    with pytest.raises(ValueError, match="made with 'news.gz'"):
        task(condition)
    assert task(condition, vectors="a/news.gz").settings == work.settings


@pytest.mark.parametrize(
    "path", sorted((files.ROOT / "book" / "results").rglob("*-*.json")), ids=lambda p: p.stem
)
def test_every_committed_manifest_has_a_task(path: Path):
    condition = results.Condition(**results.load(path)["condition"])
    assert task(condition).settings == condition.settings


def test_a_rerun_has_as_many_threads_as_then(tmp_path):
    work = TemporalOrder("smoke", 9)
    (m,) = train(
        work, grid(work.name, work.settings, ["none"], [0]), tmp_path / "first", progress=False
    )
    path = tmp_path / "first" / f"{m['name']}.json"
    path.write_text(json.dumps(m | {"made_with": m["made_with"] | {"threads": 2}}))
    done = rerun(path, tmp_path / "again", progress=False)
    assert (done.again["made_with"]["threads"], torch.get_num_threads()) == (2, 1)


def test_seeds_stay_what_they_were():
    """Else no committed result could be made again."""
    assert seed("train", 0, 3) == -2008914508489623995
