"""How many networks are trained at once, and that it does not matter to their results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recdrop.study import chunks
from recdrop.study.conditions import grid
from recdrop.study.training import train
from recdrop.tasks.word_lm import WordLanguageModel


@given(st.integers(0, 60), st.integers(1, 30))
def test_parts_are_whole_in_order_even_and_not_too_large(count, size):
    items = list(range(count))
    parts = chunks.split(items, size)
    assert [i for part in parts for i in part] == items
    assert len(parts) == -(-count // size)
    sizes = [len(part) for part in parts]
    assert not sizes or (max(sizes) <= size and max(sizes) - min(sizes) <= 1)


class Task:
    settings = {"optimiser": "sgd", "hidden": 10}
    positions = 100


def test_half_of_the_free_memory_is_filled(monkeypatch):
    network = nn.Linear(99, 10)  # 1,000 parameters
    need = chunks.bytes_of(Task, network)
    assert need == 4 * (4 * 1000 + 16 * 10 * 100)
    monkeypatch.setattr(chunks, "free_bytes", lambda: 2 * 7 * need + 1)
    assert chunks.fitting(Task, network) == 7
    monkeypatch.setattr(chunks, "free_bytes", lambda: 0)
    assert chunks.fitting(Task, network) == 1, "one network is always tried"
    monkeypatch.setattr(chunks, "free_bytes", lambda: None)
    assert chunks.fitting(Task, network) > 1000


def test_this_machine_says_how_much_is_free():
    free = chunks.free_bytes()
    assert free is None or 0 < free < 2**50


@pytest.mark.parametrize("version", [1, 2])
def test_a_jobs_limit_counts_where_it_is_tighter(tmp_path, monkeypatch, version: int):
    """As SLURM and Kubernetes set it, on the job's group or on one around it."""
    base = tmp_path if version == 2 else tmp_path / "memory"
    most, used = (("memory.max", "memory.current"),
                  ("memory.limit_in_bytes", "memory.usage_in_bytes"))[version == 1]  # fmt: skip
    for at, limit in ((base / "job" / "step", "max"), (base / "job", "3000000")):
        at.mkdir(parents=True, exist_ok=True)
        (at / most).write_text(f"{limit}\n")
        (at / used).write_text("1000000\n")
        (at / "memory.stat").write_text("inactive_file 200000\ntotal_inactive_file 200000\n")
    own = tmp_path / "own"
    own.write_text("0::/job/step\n" if version == 2 else "4:memory:/job/step\n1:cpu:/\n")
    monkeypatch.setattr(chunks, "GROUPS", tmp_path)
    monkeypatch.setattr(chunks, "OWN_GROUPS", own)
    monkeypatch.setattr(chunks, "_system", lambda: 10**12)
    assert chunks.free_bytes() == 2_200_000
    (base / "job" / most).write_text("max\n")
    assert chunks.free_bytes() == 10**12


def test_the_estimate_is_no_less_than_the_weights_optimiser_and_gradients():
    task = WordLanguageModel("smoke")
    network = task.network(None, False, 0)
    assert chunks.bytes_of(task, network) > 3 * 4 * sum(p.numel() for p in network.parameters())


def test_a_table_in_chunks_is_the_same_to_rounding(tmp_path):
    def run(folder, at_once):
        task = WordLanguageModel("smoke")
        conditions = grid(task.name, task.settings, ["gal", "moon", "semeniuta"], [0, 0.5])
        return train(task, conditions, folder, progress=False, at_once=at_once)

    whole, parts = run(tmp_path / "whole", None), run(tmp_path / "parts", 3)
    assert {m["networks_in_table"] for m in whole} == {7}
    assert [m["networks_in_table"] for m in parts] == [3, 3, 3, 2, 2, 2, 2]
    for a, b in zip(whole, parts, strict=True):
        assert a["name"] == b["name"]
        for x, y in zip(a["curve"], b["curve"], strict=True):
            assert x == pytest.approx(y, rel=1e-4)
    assert not list((tmp_path / "parts" / "checkpoints").iterdir())


def test_a_chunk_of_none_is_refused(tmp_path):
    task = WordLanguageModel("smoke")
    with pytest.raises(ValueError, match="at_once=0 trains nothing; give 1 or more"):
        train(task, grid(task.name, task.settings, ["gal"], [0.5]), tmp_path, at_once=0)
