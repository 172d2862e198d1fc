"""The page "Reproduce it" and the README's batch: their commands are ones, their hours add up."""

import json
import re
import shlex
from pathlib import Path

import pytest

from recdrop import cli
from recdrop.study import results, run_times

ROOT = Path(__file__).parents[1]
TEXTS = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "book/reproduce.md")]
RUN = re.compile(r"^(?:\.venv/bin/)?recdrop (run (?:.*\\\n)*.*)", re.M)
LINES = [line for text in TEXTS for line in RUN.findall(text)]


def test_there_are_lines_to_try():
    assert len(LINES) >= 5


@pytest.mark.parametrize("line", LINES)
def test_a_run_that_is_named_can_be_started(line, capsys):
    words = shlex.split(line.replace("\\\n", " "), comments=True)
    assert cli.main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out


def test_hours_are_those_of_all_manifests():
    rows = run_times.rows()
    manifests = results.read_everything("book/results")
    assert len(manifests) == len({p.stem for p in ROOT.glob("book/results/**/*-*.json")})
    assert sum(row["networks"] for row in rows) == len(manifests)
    hours = sum(m["seconds"] / m["networks_in_table"] for m in manifests) / 3600
    assert sum(row["hours"] for row in rows) == pytest.approx(hours)
    assert run_times.markdown().count("\n") == len(rows) + 1


def test_a_network_that_moved_counts_where_it_was_finished(tmp_path):
    path = next(ROOT.glob("book/results/word_lm-none-*.json"))
    moved = json.loads(path.read_text()) | {
        "seconds": 7200.0, "seconds_on": {"A GPU": 3600.0, "cpu": 3600.0}, "networks_in_table": 2,
    }  # fmt: skip
    (tmp_path / path.name).write_text(json.dumps(moved))
    rows = {row["on"]: (row["networks"], row["hours"]) for row in run_times.rows(tmp_path)}
    assert rows == {"A GPU": (0, 0.5), "CPU, 1 thread": (1, 0.5)}
