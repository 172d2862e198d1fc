"""Tables trained in slices of time, and their grids, precisions and command."""

import itertools
import json
import os
import time

import pytest
import torch

from recdrop.cli import main
from recdrop.study import grids, precision, slices, tables, wall_time
from recdrop.study.conditions import grid
from recdrop.study.parameters import ParameterError
from recdrop.study.results import read_all
from recdrop.study.training import train
from recdrop.tasks.temporal_order import TemporalOrder

SMALL = {"schemes": "semeniuta,gal", "samplings": "step", "lengths": "15"}


def small(**axes: str) -> list[slices.Work]:
    return grids.works(1, "smoke", SMALL | axes)


# wall times


@pytest.mark.parametrize(
    ("text", "found"), [("9m", 540), (" 90 s", 90), ("2h", 7200), ("1.5", 1.5)]
)
def test_a_wall_time(text: str, found: float):
    assert wall_time.seconds(text, "budget") == found


@pytest.mark.parametrize("text", ["", "m", "-3m", "0", "9 minutes", "nan", "1e3"])
def test_what_is_no_wall_time(text: str):
    with pytest.raises(ValueError, match=r"budget=.*give for example 9m"):
        wall_time.seconds(text, "budget")


# slices


def test_without_a_budget_all_is_trained(tmp_path):
    outcome = slices.run(small(), tmp_path, progress=False)
    assert outcome[:2] == (2, 2)
    assert len(read_all(tmp_path)) == 2


def test_the_networks_are_those_of_one_table(tmp_path):
    """In chunks or together, each result is the same."""
    works = small(seeds="0,1,2")
    slices.run(works, tmp_path / "chunks", budget=3600, at_once=2, progress=False)
    train(*works[0], tmp_path / "whole", progress=False)
    kept = ("name", "final", "curve")
    for a, b in zip(read_all(tmp_path / "chunks"), read_all(tmp_path / "whole"), strict=True):
        assert [a[k] for k in kept] == [b[k] for k in kept]
        assert a["networks_in_table"] == 2


def paced(monkeypatch, each: float, base: float = 0.0) -> list[float]:
    """A machine that takes base + each * networks for an update, and time that passes so."""
    now = [0.0]

    def pace(task, conditions, device) -> float:
        return base + each * len(conditions)

    def fake(task, conditions, folder, *args, **options):
        updates = task.settings["epochs"] * task.updates_per_epoch
        now[0] += updates * pace(task, conditions, "cpu")
        return train(task, conditions, folder, *args, **options)

    monkeypatch.setattr(slices, "pace", pace)
    monkeypatch.setattr(slices, "train", fake)
    monkeypatch.setattr(slices.time, "monotonic", lambda: now[0])
    return now


def test_a_chunk_is_as_large_as_will_finish(monkeypatch, tmp_path):
    """10 updates: of 6 networks at 1 s each three take 30 s, and 37.5 s with the margin."""
    paced(monkeypatch, each=1.0)
    said = []
    works = small(seeds="0,1,2")
    outcome = slices.run(works, tmp_path, budget=45, progress=False, say=said.append)
    assert outcome[:2] == (6, 4)  # three, then one, and two are begun
    assert said == [
        "Temporal Order: 3 of 6 networks in the 45 s left",
        "Temporal Order: 1 of 3 networks in the 15 s left",
        "Temporal Order: 2 of 2 networks, up to a checkpoint, in the 5 s left",
    ]
    assert "2 are left, run it again" in str(outcome)
    outcome = slices.run(works, tmp_path, budget=45, progress=False, say=said.append)
    assert outcome[:2] == (6, 6)
    assert said[3:] == ["Temporal Order: 2 networks go on from their checkpoint"]
    assert "left" not in str(outcome)


def test_with_little_time_left_nothing_is_begun(monkeypatch, tmp_path):
    paced(monkeypatch, each=1.0)
    said = []
    slices.run(small(seeds="0,1,2"), tmp_path, budget=33, progress=False, say=said.append)
    assert said == ["Temporal Order: 2 of 6 networks in the 33 s left",
                    "Temporal Order: 1 of 4 networks in the 13 s left"]  # fmt: skip
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_base_cost_is_shared(monkeypatch, tmp_path):
    """Where an update costs 1 s and 0.1 s a network, all six fit where alone they would not."""
    paced(monkeypatch, each=0.1, base=1.0)
    assert slices.run(small(seeds="0,1,2"), tmp_path, budget=25, progress=False)[:2] == (6, 6)


def test_slices_too_short_for_a_network_add_up(monkeypatch, tmp_path):
    """A clock that goes on by a second each time it is read; each slice trains a few updates."""
    works, ticks = small(), itertools.count()
    monkeypatch.setattr(slices, "pace", lambda *_: 1.0)
    monkeypatch.setattr(slices.time, "monotonic", lambda: float(next(ticks)))
    finished = []
    while not finished or finished[-1] < 2:
        finished.append(slices.run(works, tmp_path / "slices", budget=4, progress=False).finished)
        assert len(finished) < 30
    assert len(finished) > 2
    monkeypatch.undo()
    train(*works[0], tmp_path / "whole", progress=False)
    for a, b in zip(read_all(tmp_path / "slices"), read_all(tmp_path / "whole"), strict=True):
        assert a["curve"] == b["curve"]
        assert a["seconds_on"] == {"cpu": a["seconds"]}


def test_the_pace_leaves_no_trace(tmp_path):
    task, conditions = small()[0]
    state = torch.get_rng_state()
    assert slices.pace(task, conditions, "cpu", updates=2) > 0
    assert torch.equal(torch.get_rng_state(), state)


def test_the_pace_of_a_task_with_one_update(monkeypatch):
    task, conditions = small()[0]
    task.settings |= {"batches": 1}
    assert slices.pace(task, conditions, "cpu") == 0


# grids


def test_tables_have_the_papers_networks():
    assert [len(w.conditions) for w in grids.works(1, "smoke")] == [6, 6]
    for table in (2, 3, 4):
        assert len(grids.works(table, "smoke", {"seeds": [0, 1, 2]})[0].conditions) == 78


@pytest.mark.parametrize("scaling", ["paper", "inverted"])
def test_the_networks_of_a_table_may_be_scaled_in_training(scaling: str):
    (work,) = grids.works(1, "smoke", {"lengths": "15"}, scaling=scaling)
    assert {c.scaling for c in work.conditions} == {scaling}
    assert {c.recurrent_dropout.scaling for c in work.conditions} == {scaling}


def test_the_command_line_knows_both_scalings(tmp_path):
    given = ["--schemes", "moon", "--samplings", "step", "--lengths", "15", "--scaling", "inverted"]
    command = ["train", "--table", "1", "--profile", "smoke", "--results-dir", str(tmp_path)]
    assert main([*command, *given]) == 0
    (made,) = read_all(tmp_path, "temporal_order")
    assert made["condition"]["scaling"] == "inverted"
    assert not any(row["n"] for row in tables.table(1, tmp_path)), "the paper's are under Eq. 3"


@pytest.mark.parametrize(
    ("table", "axes", "message"),
    [
        (2, {"lengths": "15"}, "table 2 has no"),
        (1, {"schemes": "mine"}, "schemes='mine' is unknown"),
        (1, {"seeds": "one"}, r"seeds='one' cannot be read.*seeds=0,1,2"),
        (2, {"forward": "perhaps"}, r"forward='perhaps' cannot be read.*no,yes"),
        (1, {"rates": "1.5"}, "rates=1.5 is outside"),
        (1, {"lengths": "16"}, "lengths=16"),
    ],
)
def test_a_grid_that_is_none(table: int, axes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        grids.works(table, "smoke", axes)


def test_a_table_without_the_profile():
    assert [grids.works(n, "reduced")[0].task.settings["protocol"] for n in (3, 4)] == (
        ["reduced", "reduced"]
    )
    with pytest.raises(ValueError, match="Temporal Order has no profile 'reduced'; choose from"):
        grids.works(1, "reduced")
    with pytest.raises(ValueError, match="Word language model has no profile 'reduced'"):
        grids.works(2, "reduced")


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match="device='cuda'.*no GPU"):
        grids.works(1, "smoke", device="cuda")


# precision


def test_another_precision_is_another_protocol(tmp_path):
    exact, low = (grids.works(2, "smoke", arithmetic=a)[0] for a in ("fp32", "bf16"))
    assert exact.conditions[0].name != low.conditions[0].name
    assert (exact.conditions[0].settings["protocol"], low.conditions[0].settings["protocol"]) == (
        "smoke", "smoke-bf16",
    )  # fmt: skip


@pytest.mark.parametrize("table", [1, 2, 4])
def test_bf16_trains_to_nearly_the_same(tmp_path, table: int):
    """And not with the weights of the first update: the loss falls as much."""
    axes = {"schemes": "semeniuta", "rates": "0.25" if table > 1 else "0.5", "samplings": "step"}
    axes |= {"forward": "no"} if table > 1 else {"lengths": "15"}
    curves = {}
    for name in ("fp32", "bf16"):
        (m,) = train(
            *grids.works(table, "smoke", axes, arithmetic=name)[0], tmp_path, progress=False
        )
        curves[name] = [e["loss"] for e in m["curve"]]
    assert curves["fp32"] != curves["bf16"]
    for a, b in zip(*curves.values(), strict=True):
        assert abs(a - b) < 2e-2 * a


def test_an_unknown_precision():
    with pytest.raises(ValueError, match="precision='fp8' is unknown"):
        precision.settings("fp8", "paper")


def test_tf32_on_a_cpu_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="precision='tf32' exists on a GPU alone"),
        precision.arithmetic({"precision": "tf32"}, "cpu"),
    ):
        pass


def test_the_setting_of_products_is_given_back():
    before = torch.get_float32_matmul_precision()
    with precision.arithmetic({}, "cpu"):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == before


# the command


def command(tmp_path, *more: str) -> int:
    flags = [word for k, v in SMALL.items() for word in (f"--{k}", v)]
    folder = ["--results-dir", str(tmp_path)]
    return main(["train", "--table", "1", "--profile", "smoke", *flags, *folder, *more])


def test_the_command_trains_and_reads(tmp_path, capsys):
    assert command(tmp_path) == 0
    assert "2 of 2 networks finished" in capsys.readouterr().out
    begun = time.time()
    assert command(tmp_path, "--budget", "1s") == 0  # nothing is left to do
    assert all(path.stat().st_mtime < begun for path in tmp_path.glob("*.json"))


@pytest.mark.parametrize("chosen", [None, "7"])
def test_threads_of_the_command_give_up_their_core_soon(tmp_path, monkeypatch, chosen):
    monkeypatch.setenv("GOMP_SPINCOUNT", chosen or "")
    if not chosen:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    command(tmp_path, "--budget", "1s")
    assert os.environ["GOMP_SPINCOUNT"] == (chosen or "1000")


def test_the_command_says_that_work_is_left(tmp_path, monkeypatch, capsys):
    paced(monkeypatch, each=1.0)
    assert command(tmp_path, "--budget", "15") == 3
    assert "1 of 2 networks finished" in capsys.readouterr().out
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["made_with"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--budget", "soon"), "budget='soon'"),
        (("--precision", "fp8"), "precision='fp8'"),
        (("--profile", "big"), "profile='big'"),
        (("--seeds", "x"), "seeds='x'"),
        (("--at-once", "0"), "at_once=0"),
        (("--vectors", "news.gz"), "vectors='news.gz' are for table 4"),
    ],
)
def test_the_command_refuses(tmp_path, capsys, flags: tuple[str, str], message: str):
    assert command(tmp_path, *flags) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json"))


def test_without_a_budget_chunks_are_as_large_as_asked(tmp_path):
    task = TemporalOrder("smoke", 9)
    asked = grid(task.name, task.settings, ["none", "gal"], [0.5], ["step"])
    slices.run([slices.Work(task, asked)], tmp_path, at_once=1, progress=False)
    assert {m["networks_in_table"] for m in read_all(tmp_path)} == {1}
