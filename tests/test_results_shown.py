"""The results explorer as Python makes it; the page itself is tested in tests/browser."""

import pytest
import traitlets

from recdrop.study import results
from recdrop.study.conditions import Condition
from recdrop.tasks.word_lm import WordLanguageModel
from recdrop.widgets import ResultsExplorer


def finished(folder, scheme: str, protocol: str) -> None:
    settings = WordLanguageModel("quick").settings | {"protocol": protocol}
    condition = Condition("word_lm", scheme, 0.5, "step", settings=settings)
    last = {"epoch": 1, "lr": 1.0, "loss": 5.0, "train": 150.0, "valid": 140.0, "test": 130.0}
    final = {"last": last, "best": last}
    results.write(folder, condition, status="finished", curve=[last], final=final)


def test_other_protocols_stand_in_tables_of_their_own(tmp_path):
    for protocol in ("quick", "paper-bf16"):
        finished(tmp_path, "gal", protocol)
    protocols = ResultsExplorer(tmp_path).tables["2"]["protocols"]
    assert [p["name"] for p in protocols] == ["paper", "paper-bf16", "quick"]
    assert all(p["told"] for p in protocols)
    assert [p["comparable"] for p in protocols] == [True, False, False]


def test_schemes_combined_are_shown_behind_the_single_ones(tmp_path):
    for scheme in ("semeniuta+gal", "moon"):
        finished(tmp_path, scheme, "quick")
    explorer = ResultsExplorer(tmp_path, table=2, scheme="semeniuta+gal")
    quick = next(p for p in explorer.tables["2"]["protocols"] if p["name"] == "quick")
    run = [row["scheme"] for row in quick["rows"] if row["n"]]
    assert run == ["moon", "semeniuta+gal"]


def test_a_scheme_that_is_none_is_refused(tmp_path):
    with pytest.raises(traitlets.TraitError, match="scheme"):
        ResultsExplorer(tmp_path, scheme="mine")
