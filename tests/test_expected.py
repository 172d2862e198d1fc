"""What one expects of plateaus is measured and followed once, and kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recdrop.study import expected, files, parameters, plateau, precision
from recdrop.study.conditions import Condition
from recdrop.tasks.temporal_order import TemporalOrder


def condition(
    scheme: str, length: int, per: str = "step", seed: int = 0, scaling: str = "paper", **more
) -> Condition:
    settings = TemporalOrder("paper", length).settings | more
    return Condition("temporal_order", scheme, 0.5, per, False, seed, scaling, settings)


def book() -> expected.Known:
    return expected.read(files.from_root(parameters.BOOK))


def published() -> list[dict]:
    return plateau.published(files.from_root(parameters.BOOK))


def test_what_is_known_is_found_neither_again_nor_changed(tmp_path: Path, monkeypatch):
    assert expected.read(tmp_path) == {}
    low = precision.settings("bf16", "paper")
    gal, own = condition("gal", 3), condition("semeniuta", 3)
    monkeypatch.setattr(
        plateau,
        "to_measure",
        lambda _: [gal, own, condition("gal", 3, seed=1), condition("moon", 3)],
    )
    monkeypatch.setattr(
        plateau,
        "to_follow",
        lambda *_: [gal, own, condition("gal", 3, **low), condition("moon", 3)],
    )
    known = {
        plateau.setting(own): {"trace": 0.5, "sensitivity": 1.0, "followed": 1.5},
        plateau.setting(condition("moon", 3)): {"followed": 2.5},
    }
    (tmp_path / expected.FILE).write_text(json.dumps(known))
    kept = expected.add([], tmp_path)

    def measured(c: Condition) -> dict:
        return {k: pytest.approx(v, rel=1e-9) for k, v in expected.measured(c).items()}

    known[plateau.setting(condition("moon", 3))] |= measured(condition("moon", 3))
    known[plateau.setting(condition("gal", 3, seed=1))] = measured(condition("gal", 3, seed=1))
    found = pytest.approx(expected.followed(gal)["followed"], rel=1e-6)
    known[plateau.setting(gal)] = measured(gal) | {"followed": found}
    assert kept == known
    assert expected.read(tmp_path) == kept


def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path):
    (tmp_path / expected.FILE).write_text('{"gal')
    with pytest.raises(
        ValueError, match=r"expected\.json is damaged .* remove it and make it anew"
    ):
        expected.add([], tmp_path)
    assert (tmp_path / expected.FILE).read_text() == '{"gal'


def test_a_folder_that_is_none_is_refused_and_not_made(tmp_path: Path):
    command = [sys.executable, "-m", "recdrop.study.expected", str(tmp_path / "none")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "none' is no folder; give that of the manifests: book/results" in run.stderr
    assert not list(tmp_path.iterdir())


def test_the_book_has_all_that_is_wanted_and_no_more():
    kept = book()
    follow = map(plateau.setting, plateau.to_follow(published(), kept))
    assert {name for name, known in kept.items() if "followed" in known} == set(follow)
    assert set(kept) == set(map(plateau.setting, plateau.to_measure(published())))
    assert all({"trace", "sensitivity"} <= set(known) for known in kept.values())
    assert "followed" not in kept["moon 0.5 per step, paper, 30 symbols, seed 0"]


@pytest.mark.parametrize(("length", "per"), [(9, "step"), (15, "sequence")])
def test_what_the_book_keeps_is_what_these_equations_say(length: int, per: str):
    gal = condition("gal", length, per)
    assert book()[plateau.setting(gal)]["followed"] == pytest.approx(
        expected.followed(gal)["followed"], rel=1e-3
    )


@pytest.mark.parametrize(
    "c",
    [
        condition("gal", 30, "sequence"),
        condition("semeniuta", 15, seed=2),
        condition("moon", 12, scaling="inverted"),
    ],
    ids=plateau.setting,
)
def test_what_the_book_keeps_is_measured_in_these_networks(c: Condition):
    kept = book()[plateau.setting(c)]
    assert expected.measured(c) == {
        name: pytest.approx(kept[name], rel=1e-6) for name in ("trace", "sensitivity")
    }
