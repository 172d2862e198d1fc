"""RecurrentDropout: what it accepts, what it refuses, how two of them combine, how rates round."""

import copy
import dataclasses
import math
import pickle

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import SITES

from recdrop import RecurrentDropout

SCHEMES = {
    "update": RecurrentDropout.semeniuta,
    "hidden": RecurrentDropout.gal,
    "cell": RecurrentDropout.moon,
}
rates = st.just(0.0) | st.floats(1e-4, 0.999)
samplings = st.sampled_from(["step", "sequence"])
everything = st.builds(
    RecurrentDropout,
    update=rates,
    hidden=rates,
    cell=rates,
    per=samplings | st.fixed_dictionaries({site: samplings for site in SITES}),
    scaling=st.sampled_from(["inverted", "paper"]),
)


def only(site: str, rate: float = 0.5, **options: object) -> RecurrentDropout:
    return RecurrentDropout(**{site: rate}, **options)


# construction


def test_drops_nothing_by_default():
    drop = RecurrentDropout()
    assert drop.rates == (0, 0, 0)
    assert drop.thresholds == (0, 0, 0)
    assert drop.scaling == "inverted"


@pytest.mark.parametrize("site", SITES)
def test_rate_goes_to_its_site(site: str):
    expected = tuple(0.5 if name == site else 0.0 for name in SITES)
    assert only(site).rates == expected


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("per", ["step", "sequence"])
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
def test_named_scheme_is_a_rate_at_one_site(site: str, per: str, scaling: str):
    named = SCHEMES[site](0.25, per=per, scaling=scaling)
    plain = only(site, 0.25, per=per, scaling=scaling)
    assert (named.rates, named.scaling) == (plain.rates, plain.scaling)
    assert named.per_step[SITES.index(site)] == (per == "step")


def test_named_schemes_sample_as_their_authors_do():
    assert RecurrentDropout.semeniuta(0.25).per_step[0] is True
    assert RecurrentDropout.gal(0.25).per_step[1] is False
    assert RecurrentDropout.moon(0.25).per_step[2] is False


def test_per_applies_to_every_site():
    assert RecurrentDropout(0.1, 0.2, 0.3, per="step").per_step == (True, True, True)
    assert RecurrentDropout(0.1, 0.2, 0.3, per="sequence").per_step == (False, False, False)


def test_per_by_site():
    drop = RecurrentDropout(
        0.1, 0.2, 0.3, per={"update": "step", "hidden": "sequence", "cell": "step"}
    )
    assert drop.per_step == (True, False, True)


def test_later_changes_of_the_per_dict_do_not_reach_in():
    per = {"update": "step", "hidden": "sequence"}
    drop = RecurrentDropout(0.1, 0.2, per=per)
    per["update"] = "sequence"
    assert drop.per_step[:2] == (True, False)


@pytest.mark.parametrize("rate", [0, 0.0, 0.5, 0.999, 1 - 1 / 65536])
def test_accepts_the_whole_range(rate: float):
    assert RecurrentDropout(update=rate).rates[0] == rate


# refusal


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    "rate", [-0.1, -1e-9, 1, 1.0, 1.5, math.nan, math.inf, -math.inf, 1 - 1e-6, 1e-6]
)
def test_refuses_numbers_that_are_no_rate(site: str, rate: float):
    with pytest.raises(ValueError, match=site) as error:
        only(site, rate)
    assert str(rate) in str(error.value)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("rate", [True, False, "0.5", None, [0.5], 0.5j])
def test_refuses_what_is_no_number(site: str, rate: object):
    with pytest.raises(TypeError, match=site) as error:
        only(site, rate)
    assert repr(rate) in str(error.value)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_named_schemes_refuse_too(scheme):
    with pytest.raises(ValueError, match="1.5"):
        scheme(1.5)


@pytest.mark.parametrize(
    "per", ["steps", "batch", "", None, 3, {"update": "batch"}, {"candidate": "step"}]
)
def test_refuses_unknown_sampling(per: object):
    with pytest.raises((ValueError, TypeError)) as error:
        RecurrentDropout(0.5, per=per)
    message = str(error.value)
    culprit = next(iter(per)) if per == {"candidate": "step"} else per
    culprit = culprit["update"] if isinstance(culprit, dict) else culprit
    assert repr(culprit) in message, "the value"
    assert "step" in message or "update" in message, "the remedy"


@pytest.mark.parametrize("scaling", ["eq3", "", None, 1, True])
def test_refuses_unknown_scaling(scaling: object):
    with pytest.raises((ValueError, TypeError)) as error:
        RecurrentDropout(0.5, scaling=scaling)
    message = str(error.value)
    assert all(part in message for part in (repr(scaling), "inverted", "paper"))


def test_refuses_unknown_arguments():
    with pytest.raises(TypeError):
        RecurrentDropout(rate=0.5)


# a value: frozen, comparable, copyable


@pytest.mark.parametrize("name", ["update", "hidden", "cell", "per", "scaling"])
def test_is_frozen(name: str):
    drop = RecurrentDropout(0.1, 0.2, 0.3)
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        setattr(drop, name, 0.5)


@given(everything)
def test_survives_copy_pickle_and_repr(drop: RecurrentDropout):
    twins = [
        copy.deepcopy(drop),
        pickle.loads(pickle.dumps(drop)),
        eval(repr(drop), {"RecurrentDropout": RecurrentDropout}),
    ]
    for twin in twins:
        assert twin == drop
        assert hash(twin) == hash(drop)


@pytest.mark.parametrize(
    "other",
    [
        RecurrentDropout(0.5, 0.25, per="step"),
        RecurrentDropout(0.25, 0.5, per="sequence"),
        RecurrentDropout(0.25, 0.25, per="step"),
        RecurrentDropout(0.25, 0.5, per="step", scaling="paper"),
    ],
)
def test_differs_where_something_differs(other: RecurrentDropout):
    assert RecurrentDropout(0.25, 0.5, per="step") != other


def test_equality_is_only_with_its_own_kind():
    assert RecurrentDropout(0.5) != 0.5
    assert RecurrentDropout(0.5) != "RecurrentDropout"


# what the layers take from it


@given(everything)
def test_sites_have_their_names(drop: RecurrentDropout):
    assert (drop.update, drop.hidden, drop.cell) == drop.rates
    assert drop.active == any(drop.thresholds)


@pytest.mark.parametrize(
    ("scaling", "training", "factor"),
    [
        ("inverted", True, lambda q: 1 / q),  # Eq. 14
        ("inverted", False, lambda q: 1),
        ("paper", True, lambda q: 1),  # Eq. 3
        ("paper", False, lambda q: q),
    ],
)
def test_scales_follow_the_convention(scaling: str, training: bool, factor):
    drop = RecurrentDropout(0.3, 0.0, 0.9, scaling=scaling)
    keep = [1 - threshold / 65536 for threshold in drop.thresholds]
    assert drop.scales(training) == tuple(factor(q) for q in keep)


# combination


@pytest.mark.parametrize("scaling", ["inverted", "paper"])
def test_union_keeps_rates_and_samplings(scaling: str):
    both = RecurrentDropout.semeniuta(0.25, scaling=scaling) | RecurrentDropout.gal(
        0.5, scaling=scaling
    )
    assert both.rates == (0.25, 0.5, 0)
    assert both.per_step[:2] == (True, False)
    assert both.scaling == scaling


def test_union_of_all_three_in_any_order():
    own = RecurrentDropout.semeniuta(0.1, per="step")
    gal = RecurrentDropout.gal(0.2, per="sequence")
    moon = RecurrentDropout.moon(0.3, per="step")
    union = own | gal | moon
    assert union.rates == (0.1, 0.2, 0.3)
    assert union.per_step == (True, False, True)
    assert union == moon | (gal | own) == gal | own | moon


@given(everything, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_union_does_not_care_for_the_order(whole: RecurrentDropout, side: tuple[bool, ...]):
    per = dict(zip(SITES, whole.samplings, strict=True))
    a, b = (
        RecurrentDropout(
            *(rate if s == left else 0.0 for rate, s in zip(whole.rates, side, strict=True)),
            per=per,
            scaling=whole.scaling,
        )
        for left in (True, False)
    )
    assert a | b == b | a == whole


def test_the_sampling_of_a_site_without_dropout_means_nothing():
    own = RecurrentDropout.semeniuta(0.25, per="step")
    same = RecurrentDropout(0.25, per={"update": "step", "hidden": "sequence"})
    assert own == same
    assert hash(own) == hash(same)


@given(everything)
def test_union_with_nothing_changes_nothing(drop: RecurrentDropout):
    nothing = RecurrentDropout(scaling=drop.scaling)
    for union in (drop | nothing, nothing | drop):
        assert (union.rates, union.scaling) == (drop.rates, drop.scaling)
        for rate, left, right in zip(drop.rates, union.per_step, drop.per_step, strict=True):
            assert rate == 0 or left == right


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_union_refuses_the_same_site_twice(site: str, rate: float):
    with pytest.raises(ValueError, match=site):
        only(site, 0.5) | only(site, rate)


def test_union_refuses_two_scalings():
    with pytest.raises(ValueError, match="inverted.*paper|paper.*inverted"):
        RecurrentDropout.semeniuta(0.25) | RecurrentDropout.gal(0.25, scaling="paper")


@pytest.mark.parametrize("other", [0.5, None, "gal", {"hidden": 0.5}])
def test_union_refuses_other_kinds(other: object):
    with pytest.raises(TypeError):
        RecurrentDropout.semeniuta(0.25) | other


# quantisation


@given(rates, rates, rates)
def test_thresholds_are_the_nearest_of_65536(update: float, hidden: float, cell: float):
    drop = RecurrentDropout(update, hidden, cell)
    assert drop.rates == (update, hidden, cell)
    for rate, threshold in zip(drop.rates, drop.thresholds, strict=True):
        assert type(threshold) is int
        assert abs(threshold - 65536 * rate) <= 0.5


@given(st.integers(0, 65535))
def test_multiples_of_one_65536th_are_exact(threshold: int):
    assert RecurrentDropout(update=threshold / 65536).thresholds[0] == threshold


@given(rates, rates)
def test_a_higher_rate_never_has_a_lower_threshold(low: float, high: float):
    assume(low <= high)
    drop = RecurrentDropout(update=low, hidden=high)
    assert drop.thresholds[0] <= drop.thresholds[1]


def test_a_rate_that_rounds_to_one_is_refused_with_the_remedy():
    largest = 65535.4 / 65536
    assert RecurrentDropout(update=largest).thresholds[0] == 65535
    with pytest.raises(ValueError, match="65536|65535|0.9999"):
        RecurrentDropout(update=65535.6 / 65536)


def test_per_of_a_site_that_is_not_named_is_step():
    assert RecurrentDropout(0.1, 0.2, per={"hidden": "sequence"}).per_step[:2] == (True, False)
