"""What the equations of plateaus say is followed once, and kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recdrop.study import files, followed, parameters, plateau, precision
from recdrop.study.conditions import Condition
from recdrop.tasks.temporal_order import TemporalOrder


def condition(scheme: str, length: int, per: str = "step", **more) -> Condition:
    settings = TemporalOrder("paper", length).settings | more
    return Condition("temporal_order", scheme, 0.5, per, False, 0, "paper", settings)


def test_what_is_known_is_not_followed_again(tmp_path: Path):
    assert followed.read(tmp_path) == {}
    gal, own = condition("gal", 3), condition("semeniuta", 3)
    (tmp_path / followed.FILE).write_text(json.dumps({plateau.setting(own): 1.5}))
    kept = followed.add(
        [gal, own, condition("gal", 3, **precision.settings("bf16", "paper"))], tmp_path
    )
    found = {plateau.setting(gal): pytest.approx(followed.epochs(gal), rel=1e-6)}
    assert kept == found | {plateau.setting(own): 1.5}
    assert followed.read(tmp_path) == kept


def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path):
    (tmp_path / followed.FILE).write_text('{"gal')
    with pytest.raises(
        ValueError, match=r"followed\.json is damaged .* remove it and make it anew"
    ):
        followed.add([condition("gal", 3)], tmp_path)
    assert (tmp_path / followed.FILE).read_text() == '{"gal'


def test_a_folder_that_is_none_is_refused_and_not_made(tmp_path: Path):
    command = [sys.executable, "-m", "recdrop.study.followed", str(tmp_path / "none")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "none' is no folder; give that of the manifests: book/results" in run.stderr
    assert not list(tmp_path.iterdir())


def test_the_book_has_all_that_can_be_followed():
    wanted = plateau.to_follow(plateau.published(files.from_root(parameters.BOOK)))
    assert {plateau.setting(c) for c in wanted} == set(
        followed.read(files.from_root(parameters.BOOK))
    )
    assert "moon 0.5 per step, paper, 30 symbols, seed 0" not in map(plateau.setting, wanted)


@pytest.mark.parametrize(("length", "per"), [(9, "step"), (15, "sequence")])
def test_what_the_book_keeps_is_what_these_equations_say(length: int, per: str):
    gal = condition("gal", length, per)
    kept = followed.read(files.from_root(parameters.BOOK))[plateau.setting(gal)]
    assert kept == pytest.approx(followed.epochs(gal), rel=1e-3)
