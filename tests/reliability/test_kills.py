"""A sample of what `make soak` does at length; and that its table is the book's."""

import json
import random
import sys

import disturb
import pytest
import soak

pytest.importorskip("distributed", reason="sweeps need Dask")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.mark.parametrize("kind", disturb.TRAININGS)
def test_trainings_that_are_killed_go_on_to_the_same_bits(kind):
    expected, seconds = disturb.undisturbed(kind)
    assert expected
    for seed in range(2):
        sample = disturb.kill_training(kind, expected, seconds, random.Random(seed))
        assert sample.wrong == [], sample


def test_a_sweep_that_is_killed_goes_on_to_the_same_bits():
    expected, seconds = disturb.undisturbed("sweep")
    assert len(expected) == 8, "two networks of two seeds, with their weights"
    sample = disturb.kill_sweep(expected, seconds, random.Random(1))
    assert sample.wrong == [], sample


def test_the_page_shows_the_table_of_the_report():
    report = json.loads(soak.REPORT.read_text())
    assert f"{soak.BEGIN}\n{soak.table(report)}\n\n{soak.END}" in soak.PAGE.read_text()


def test_nothing_was_lost():
    report = json.loads(soak.REPORT.read_text())
    assert sum(row["tried"] for row in report["kills"].values()) >= 100
    assert report["points"]["tried"] >= 500
    lost = [row["wrong"] for row in report["kills"].values() if row["lost"]]
    assert lost == []
    assert report["points"]["survived"] == report["points"]["tried"]
    assert report["points"]["wrong"] == []


def test_a_page_is_renewed_and_otherwise_left(tmp_path):
    kinds = {kind: {"tried": 1, "survived": 1, "lost": 0, "wrong": []} for kind in soak.KINDS}
    memory = dict.fromkeys(("driver", "worker"), {"early": 1, "late": 2, "most": 3})
    made = {"dask": "1", "papermill": "2", "torch": "3", "cores": 2}
    points = {"tried": 5, "survived": 5, "memory": memory}
    page = tmp_path / "page.md"
    page.write_text(f"before\n{soak.BEGIN}old\n{soak.END}\nafter\n")
    soak.show({"kills": kinds, "points": points, "made_with": made}, page)
    once = page.read_text()
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    soak.show({"kills": kinds, "points": points, "made_with": made}, page)
    assert page.read_text() == once
