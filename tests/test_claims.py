"""Claims of the paper as comparisons: pairs, best settings, intervals, verdicts, the ledger."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import test_results

from recdrop.cli import main
from recdrop.study import claims, comparisons, paper, results
from recdrop.study.claims import CLAIMS
from recdrop.study.comparisons import (
    CONTRADICTED,
    MARGINS,
    RELATIONS,
    SUPPORTED,
    UNDECIDED,
    Comparison,
    Finding,
    Level,
    _verdict,
    bootstrap,
    compare,
    papers,
)
from recdrop.study.conditions import Condition

OWN, GAL, NONE = ({"scheme": s} for s in ("semeniuta", "gal", "none"))
BETTER, NO_BETTER, AT_LEAST, ALIKE = RELATIONS


def network(scheme, rate, test, seed=0, per="step", forward=False, valid=None) -> dict:
    return {
        "scheme": scheme, "rate": rate, "per": per, "forward": forward, "seed": seed,
        "valid": test if valid is None else valid, "test": test,
    }  # fmt: skip


def test_gains_are_those_of_the_settings_best_in_validation_not_at_the_test():
    networks = [
        network("semeniuta", 0.25, test=90, valid=100),
        network("semeniuta", 0.5, test=95, valid=99),
        network("gal", 0.25, test=97, valid=101),
        network("gal", 0.5, test=80, valid=102),
    ]
    found = compare(Comparison(OWN, GAL), networks, 2)
    assert found.effect == 97 - 95
    assert (found.held, found.pairs) == (1, 2), "90 < 97, but 95 > 80"


def test_f1_is_better_when_higher():
    networks = [network("semeniuta", 0.5, 80), network("gal", 0.5, 70)]
    assert compare(Comparison(OWN, GAL), networks, 4).effect == 10
    assert compare(Comparison(OWN, GAL), networks, 2).effect == -10


def test_the_interval_is_over_seeds_that_both_sides_have():
    gains = (1.0, 2.0, 3.0)
    networks = [network("gal", 0.5, 100, seed) for seed in range(3)]
    networks += [network("semeniuta", 0.5, 100 - g, seed) for seed, g in enumerate(gains)]
    networks += [network("semeniuta", 0.5, 0, seed=7)]
    found = compare(Comparison(OWN, GAL), networks, 2)
    assert (found.effect, len(found.gains)) == (2.0, 3)
    assert found.interval == (1.0, 3.0)


def test_the_network_without_dropout_stands_against_each_rate():
    networks = [network("none", 0.0, 100, per="none")]
    networks += [network("gal", rate, 90) for rate in (0.25, 0.5)]
    found = compare(Comparison(GAL, NONE), networks, 2)
    assert (found.effect, found.held, found.pairs) == (10, 2, 2)


@pytest.mark.parametrize("networks", [[], [network("gal", 0.5, 1)], [
    network("gal", 0.5, 1, seed=0), network("semeniuta", 0.5, 1, seed=1)]])  # fmt: skip
def test_what_was_not_run_is_undecided(networks):
    found = compare(Comparison(OWN, GAL), networks, 2)
    assert (found.effect, found.interval) == (None, None)
    assert all(found.verdict(relation, 1.0) == UNDECIDED for relation in RELATIONS)


def spread(mean: float, half: float) -> tuple[float, ...]:
    """Three gains whose Student interval is ``mean`` plus or minus ``half``."""
    unit = half / 2.4842
    return mean - unit, mean, mean + unit


@pytest.mark.parametrize(
    ("gain", "half", "relation", "verdict"),
    [
        (2, 1, BETTER, SUPPORTED), (-2, 1, BETTER, CONTRADICTED), (2, 3, BETTER, UNDECIDED),
        (0, 0, BETTER, UNDECIDED),
        (0.2, 0.5, ALIKE, SUPPORTED), (0.2, 0.9, ALIKE, UNDECIDED),
        (5, 1, ALIKE, CONTRADICTED), (-5, 1, ALIKE, CONTRADICTED),
        (0, 0, AT_LEAST, SUPPORTED), (-0.2, 0.5, AT_LEAST, SUPPORTED), (9, 1, AT_LEAST, SUPPORTED),
        (-9, 1, AT_LEAST, CONTRADICTED), (-1, 0.5, AT_LEAST, UNDECIDED),
        (0, 0, NO_BETTER, SUPPORTED), (-9, 1, NO_BETTER, SUPPORTED),
        (9, 1, NO_BETTER, CONTRADICTED), (1, 0.5, NO_BETTER, UNDECIDED),
        (1, 0.5, "above", SUPPORTED), (-1, 0.5, "below", CONTRADICTED),
    ],
)  # fmt: skip
def test_verdicts(gain, half, relation, verdict):
    assert Finding(spread(gain, half), 1, 1).verdict(relation, margin=1.0) == verdict


def test_three_seeds_of_one_sign_are_not_enough():
    """The bootstrap cannot leave the range of its data; Student's interval can."""
    gains = (1.0, 2.0, 3.0)
    assert bootstrap(gains)[0] > 0
    assert Finding(gains, 1, 1).verdict(BETTER, 0) == UNDECIDED


def test_two_seeds_or_half_a_grid_decide_nothing():
    gains = (9.0, 9.1, 9.2)
    assert Finding(gains, 1, 1).verdict(BETTER, 0) == SUPPORTED
    assert Finding(gains[:2], 1, 1).verdict(BETTER, 0) == UNDECIDED
    assert Finding(gains, 1, 1, missing=1).verdict(BETTER, 0) == UNDECIDED


def test_the_bootstrap_is_the_percentile_one_and_seeded():
    """Against all 3125 resamples of five values."""
    gains = [0.0, 1.0, 2.0, 4.0, 9.0]
    every = np.array(list(itertools.product(gains, repeat=5))).mean(1)
    assert bootstrap(gains) == pytest.approx(np.quantile(every, [0.025, 0.975]), abs=0.21)
    assert bootstrap(gains) == bootstrap(gains)
    assert bootstrap([1.0]) is None


def test_a_stray_run_hides_no_finding():
    networks = [network("gal", 0.5, 100, seed) for seed in range(3)]
    networks += [network("semeniuta", 0.5, 99, seed) for seed in range(3)]
    networks += [network("semeniuta", 0.25, 1, seed=7)]
    found = compare(Comparison(OWN, GAL), networks, 2)
    assert (found.effect, len(found.gains)) == (1, 3)


def test_more_seeds_of_one_setting_hide_no_finding():
    """As while a study of three seeds is extended to five."""
    networks = [network("gal", 0.5, 100, seed) for seed in range(3)]
    networks += [network("semeniuta", 0.5, 98, seed) for seed in range(3)]
    networks += [network("semeniuta", 0.25, 99, seed) for seed in range(5)]
    found = compare(Comparison(OWN, GAL), networks, 2)
    assert (found.effect, len(found.gains)) == (2, 3)


def test_the_best_of_all_is_better_than_its_own_scheme_at_other_settings():
    claim = next(c for c in CLAIMS if c.number == 9)
    networks = [
        network(n["scheme"], n["rate"], n["test"], seed, n["per"], n["forward"])
        for n in papers(3)
        for seed in range(3)
    ]
    assert all(compare(c, networks, 3).verdict(c.relation, 0.01) == SUPPORTED
               for c in claim.comparisons)  # fmt: skip
    for n in networks:
        if (n["scheme"], n["rate"], n["per"], n["forward"]) == ("semeniuta", 0.5, "step", False):
            n["valid"] = n["test"] = 1.0
    verdicts = [compare(c, networks, 3).verdict(c.relation, 0.01) for c in claim.comparisons]
    assert verdicts.count(CONTRADICTED) == 1


def test_only_the_own_scheme_improves_where_others_change_nothing():
    claim = next(c for c in CLAIMS if c.number == 8)
    spread = {0: -0.002, 1: 0.0, 2: 0.002}
    networks = []
    for n in papers(3):
        test = {"semeniuta": 1.3}.get(n["scheme"], 1.4) if n["forward"] else 1.5
        networks += [
            network(n["scheme"], n["rate"], test + by, seed, n["per"], n["forward"])
            for seed, by in spread.items()
        ]
    verdicts = [compare(c, networks, 3).verdict(c.relation, 0.01) for c in claim.comparisons]
    assert verdicts == [SUPPORTED] * 3


def test_a_side_lacks_what_the_papers_grid_has():
    """Four settings of each scheme without and four with forward dropout."""
    networks = [
        network(scheme, rate, 90 + seed, seed, per, forward)
        for scheme in ("semeniuta", "gal", "semeniuta+gal")
        for rate in (0.25, 0.5)
        for per in ("step", "sequence")
        for forward in (False, True)
        for seed in range(3)
    ]
    for comparison in (Comparison(OWN, GAL), Comparison({"scheme": "semeniuta+gal"}, OWN)):
        assert compare(comparison, networks, 2).missing == 0
        assert compare(comparison, [n for n in networks if n["per"] == "step"], 2).missing == 8
        assert compare(comparison, [n for n in networks if n["seed"]], 2).missing == 16


def test_a_level_is_that_of_the_worst_length():
    networks = [
        network("gal", 0.5, test, seed) | {"span": "longer", "length": length}
        for length, test in ((45, 100), (60, 98))
        for seed in range(3)
    ]
    found = compare(Level(GAL | {"span": "longer"}, "test", "above", 99.0), networks, 1)
    assert (found.effect, found.held, found.pairs) == (-1, 1, 2)
    assert compare(Level(GAL, "test", "below", 99.0), networks, 1).effect == -1


def test_the_papers_figures_have_each_setting_once():
    for table in (2, 3, 4):
        found = papers(table)
        assert len(found) == 26
        assert len([n for n in found if n["scheme"] == "none"]) == 2
        (best,) = [n for n in found if n["scheme"] == "none" and n["forward"]]
        (row,) = {(r["paper_valid"], r["paper_test"]) for r in paper.table(table)
                  if not r["rate"] and r["forward"]}  # fmt: skip
        assert (best["valid"], best["test"]) == row


def test_every_claim_compares_something_that_the_paper_ran():
    for claim in CLAIMS:
        for comparison in claim.comparisons:
            found = compare(comparison, papers(claim.table), claim.table)
            beyond = claim.number > 14  # which it did not run
            assert bool(found.pairs) != beyond, (claim.number, str(comparison))


def test_the_papers_own_figures_bear_out_table_2_at_the_best_settings():
    """By hand from the printed table: own 96.8 and 94.2 ... are read by the same rule."""
    theirs = papers(2)
    own = min(
        (n for n in theirs if n["scheme"] == "semeniuta" and not n["forward"]),
        key=lambda n: n["valid"],
    )
    gal = min(
        (n for n in theirs if n["scheme"] == "gal" and not n["forward"]), key=lambda n: n["valid"]
    )
    comparison = CLAIMS[1].comparisons[0]
    assert compare(comparison, theirs, 2).effect == pytest.approx(gal["test"] - own["test"])


# the ledger


def write(
    folder, scheme, figure, seed, protocol="paper", rate=0.5, per="step", forward=False, **settings
):
    settings |= {"protocol": protocol}
    condition = Condition("word_lm", scheme, rate, per, forward, seed, settings=settings)
    final = dict.fromkeys(("last", "best"), {"valid": figure, "test": figure})
    results.write(folder, condition, status="finished", curve=[], final=final)


def test_protocols_are_never_mixed(tmp_path):
    """Three seeds at one protocol and three at another are not six, nor one side each."""
    for seed in range(3):
        write(tmp_path, "semeniuta", 100 + seed, seed)
        write(tmp_path, "moon", 150 + seed, seed, protocol="quick")
    for protocol in ("paper", "quick"):
        entry = claims.ledger(tmp_path, protocol)[1]
        assert entry["verdict"] == UNDECIDED
        assert all(c["effect"] is None for c in entry["comparisons"])
        assert {c["protocol"] for c in entry["comparisons"]} == {protocol}


def test_a_claim_with_enough_runs_has_its_verdict(tmp_path):
    """Claim 3, whose grid is small: Moon per step against per sequence, at two rates."""
    sides = (("step", 100), ("sequence", 120))
    for seed, forward, (per, figure), rate in itertools.product(
        range(3), (False, True), sides, (0.25, 0.5)
    ):
        write(
            tmp_path, "moon", figure + 10 * rate + seed, seed, rate=rate, per=per, forward=forward
        )
    entry = claims.ledger(tmp_path)[2]
    assert entry["verdict"] == SUPPORTED
    found = [(c["effect"], c["seeds"], c["missing"]) for c in entry["comparisons"]]
    assert found == [(20, 3, 0), (20, 3, 0)]
    assert "**supported**" in claims.summary(tmp_path).splitlines()[4]
    text = claims.markdown(2, tmp_path, "paper")
    assert "| +20.0 (+20.0 to +20.0) | 3 | supported |" in text


def test_one_protocol_has_one_recipe(tmp_path):
    write(tmp_path, "gal", 100, 0)
    write(tmp_path, "semeniuta", 90, 0, hidden=99)
    with pytest.raises(ValueError, match="other settings than those before"):
        claims.ledger(tmp_path)


def test_one_seed_has_an_effect_and_no_verdict(tmp_path):
    write(tmp_path, "semeniuta", 98, 0)
    write(tmp_path, "gal", 112, 0)
    compared = claims.ledger(tmp_path)[1]["comparisons"][0]
    assert (compared["effect"], compared["low"], compared["seeds"]) == (14, None, 1)
    assert compared["verdict"] == UNDECIDED


def test_networks_beyond_the_tables_count_once(tmp_path):
    beyond = tmp_path / results.BEYOND
    beyond.mkdir()
    write(tmp_path, "gal", 100, 0)
    write(beyond, "gal", 110, 0)  # the same, made elsewhere
    write(beyond, "semeniuta+gal", 95, 0)
    compared = claims.ledger(tmp_path)[15]["comparisons"][1]
    assert (compared["effect"], compared["seeds"]) == (5, 1)


def test_all_sixteen_claims_have_an_entry():
    for protocol in ("paper", "quick"):
        entries = claims.ledger(protocol=protocol)
        assert [e["number"] for e in entries] == list(range(1, 17))
        assert [e["tables"] for e in entries if len(e["tables"]) > 1] == [[2, 3, 4]] * 2


def test_the_command(tmp_path, capsys):
    write(tmp_path, "semeniuta", 98, 0, protocol="reduced")
    folder = ["--results-dir", str(tmp_path)]
    assert main(["claims", "--json", "--protocol", "reduced", *folder]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {e["protocol"] for e in entries} == {"reduced"}
    assert main(["claims", *folder]) == 0
    text = capsys.readouterr().out
    assert all(f"| {number} |" in text for number in range(1, 17))
    assert "| paper | reduced |" in text
    assert main(["claims", "--protocol", "redused", *folder]) == 2
    assert "protocol='redused' has no results here" in capsys.readouterr().err
    assert main(["claims", "--results-dir", str(tmp_path / "none")]) == 2
    assert "no results folder" in capsys.readouterr().err


def test_other_cells_and_conventions_stay_out(tmp_path):
    for settings, scaling in (({"cell": "gru"}, "paper"), ({}, "inverted")):
        condition = Condition(
            "word_lm", "gal", 0.5, "step", scaling=scaling,
            settings={"protocol": "paper"} | settings,
        )  # fmt: skip
        final = dict.fromkeys(("last", "best"), {"valid": 1.0, "test": 1.0})
        results.write(tmp_path, condition, status="finished", curve=[], final=final)
    assert comparisons.manifests(tmp_path) == []


def test_the_papers_own_figures_bear_out_its_claims_but_for_five_comparisons():
    """At the settings that are best in validation, by which the paper did not always go."""
    against = Counter()
    for claim in CLAIMS:
        for c in claim.comparisons:
            effect = compare(c, papers(claim.table), claim.table).effect
            if effect is not None:
                verdict = _verdict(effect, effect, c.relation, MARGINS[claim.table])
                against[claim.number, claim.table] += verdict != SUPPORTED
    assert +against == {(3, 2): 1, (11, 4): 2, (13, 4): 1, (14, 4): 1}


def test_of_accuracies_and_f1_the_best_setting_is_the_highest():
    networks = [network("semeniuta", 0.25, 88), network("semeniuta", 0.5, 90)]
    networks += [network("gal", 0.25, 80), network("gal", 0.5, 85)]
    found = compare(Comparison(OWN, GAL), networks, 4)
    assert (found.effect, found.held, found.pairs) == (5, 2, 2)


def test_longer_sequences_have_the_grid_of_the_papers():
    networks = [
        network("gal", 0.5, 100, seed) | {"span": "longer", "length": 45} for seed in (0, 1)
    ]
    level = Level(GAL | {"per": "step", "span": "longer"}, "test", "above", 99.0)
    assert compare(level, networks, 1).missing == 1


def test_lengths_share_a_recipe_and_what_diverged_is_no_network(tmp_path):
    for length in (15, 30):
        settings = {"protocol": "paper", "length": length, "test": 100}
        test_results.write(
            tmp_path, test_results.condition(settings=settings), {"train": 1.0, "test": 0.5}
        )
        test_results.write(
            tmp_path, test_results.condition(settings=settings, seed=1), None, status="diverged"
        )
    found = comparisons.ours(1, comparisons.manifests(tmp_path), "paper")
    assert [(n["length"], n["seed"]) for n in found] == [(15, 0), (30, 0)]


def test_protocols_of_the_ledger():
    names = ("quick", "smoke", "paper-own-vectors", "paper-bf16", "paper")
    assert claims.protocols([{"protocol": n} for n in names]) == ["paper", "paper-bf16", "quick"]


def test_of_table_4_the_papers_protocol_means_own_vectors_where_there_is_no_other(tmp_path):
    for scheme, f1 in (("semeniuta", 0.9), ("moon", 0.8)):
        c = Condition("ner", scheme, 0.5, "step", settings={"protocol": "paper-own-vectors"})
        final = dict.fromkeys(("last", "best"), {"valid": f1, "test": f1})
        results.write(tmp_path, c, status="finished", curve=[], final=final)
    compared = claims.ledger(tmp_path)[10]["comparisons"][1]
    assert (compared["protocol"], compared["effect"]) == ("paper-own-vectors", pytest.approx(10))


def test_an_interval_over_test_items_is_told_as_such():
    drawn = dict.fromkeys(("comparison", "paper_effect", "verdict"))
    drawn |= {"table": 2, "effect": 1.0, "low": 0.5, "high": 1.5, "missing": 0, "seeds": 1}
    drawn["drawn"] = "test items"
    assert claims._cells(drawn)[2] == "+1.0 (+0.5 to +1.5, test items)"
    assert claims._cells(drawn | {"drawn": "seeds"})[2] == "+1.0 (+0.5 to +1.5)"


def test_what_is_undecided_says_how_many_comparisons_are_decided():
    compared = [{"verdict": v, "effect": 1.0} for v in ("supported", "undecided", "undecided")]
    entry = {"verdict": "undecided", "comparisons": compared}
    assert claims._told(entry) == "undecided (1 of 3 comparisons decided)"
