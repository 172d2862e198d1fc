"""A book is not built without the results it shows: a missing or damaged file is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the book needs sphinx")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book/_extensions"))
from results import problems  # noqa: E402

SHOWN = "temporal_order-moon-0.5-sequence-seed0-9a0e5dbd78.json"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A copy of what the check reads, and of what the build needs to get there."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("notebooks", "book"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("_build"))
    return root


@pytest.fixture
def checkout(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "checkout")


def test_the_committed_results_are_whole():
    assert list(problems(ROOT)) == []


def test_a_missing_manifest_that_a_chapter_shows_is_named(checkout):
    path = checkout / "book/results" / SHOWN
    path.unlink()
    (problem,) = problems(checkout)
    assert str(path) in problem
    assert "is missing, and 02_memory_loss.ipynb shows" in problem


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "not a result"), ('{"schema": 99}', "schema 99"), ("[]", "not a result")],
)
def test_a_damaged_manifest_is_named(checkout, text, told):
    path = checkout / "book/results" / SHOWN
    path.write_text(text)
    (problem,) = problems(checkout)
    assert str(path) in problem
    assert told in problem


def test_a_manifest_under_a_false_name_is_named(checkout):
    path = checkout / "book/results" / SHOWN
    path.with_stem(path.stem.replace("seed0", "seed7")).write_text(path.read_text())
    (problem,) = problems(checkout)
    assert "seed7" in problem
    assert "its name is not that of its condition" in problem


def test_a_damaged_manifest_beyond_the_paper_is_named(checkout):
    path = min((checkout / "book/results/beyond").glob("*-*.json"))
    path.write_text("{")
    (problem,) = problems(checkout)
    assert str(path) in problem


def test_another_machines_bench_is_read(checkout):
    path = checkout / "book/results/bench/cpu_amx.json"
    path.write_text('{"schema": 1, "runs": [{}]}')
    (problem,) = problems(checkout)
    assert str(path) in problem


@pytest.mark.parametrize("text", [None, "{", '{"schema": 1, "runs": [{}]}'])
def test_the_benchs_file_is_missed_and_read(checkout, text):
    path = checkout / "book/results/bench/cpu.json"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    (problem,) = problems(checkout)
    assert str(path) in problem


def test_any_other_report_has_to_be_json(checkout):
    path = checkout / "book/results/soak.json"
    path.write_text(json.dumps({"hours": 24}))
    assert list(problems(checkout)) == []
    path.write_text("hours: 24")
    (problem,) = problems(checkout)
    assert f"{path} is no JSON file" in problem


def test_the_build_stops_with_the_name(checkout):
    (checkout / "book/results" / SHOWN).unlink()
    command = [sys.executable, "-m", "sphinx", "-q", "-c", "book", ".", "html"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode != 0
    assert SHOWN in done.stderr
    assert not (checkout / "html/book/index.html").exists()
