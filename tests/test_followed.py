"""What the equations of plateaus say is followed once, and kept."""

import json
from pathlib import Path

import pytest

from recdrop.study import files, followed, parameters, plateau, precision
from recdrop.study.conditions import Condition
from recdrop.tasks.temporal_order import TemporalOrder


def condition(scheme: str, length: int, seed: int = 0, **more) -> Condition:
    settings = TemporalOrder("paper", length).settings | more
    return Condition("temporal_order", scheme, 0.5, "step", False, seed, "paper", settings)


def test_what_is_known_is_not_followed_again(tmp_path: Path):
    assert followed.read(tmp_path) == {}
    gal, own = condition("gal", 3), condition("semeniuta", 3)
    (tmp_path / followed.FILE).write_text(json.dumps({plateau.setting(own): 1.5}))
    kept = followed.add(
        [gal, own, condition("gal", 3, **precision.settings("bf16", "paper"))], tmp_path
    )
    assert kept == {plateau.setting(gal): followed.epochs(gal), plateau.setting(own): 1.5}
    assert followed.read(tmp_path) == kept


def test_the_book_has_all_that_can_be_followed():
    wanted = plateau.to_follow(plateau.published(files.from_root(parameters.BOOK)))
    assert {plateau.setting(c) for c in wanted} == set(
        followed.read(files.from_root(parameters.BOOK))
    )
    assert "moon 0.5 per step, paper, 30 symbols, seed 0" not in map(plateau.setting, wanted)


def test_what_the_book_keeps_is_what_these_equations_say():
    gal = condition("gal", 9)
    kept = followed.read(files.from_root(parameters.BOOK))[plateau.setting(gal)]
    assert kept == pytest.approx(followed.epochs(gal), rel=1e-3)
