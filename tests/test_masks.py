"""The mask stream: the published Philox vectors, our layout on top of it, and its statistics.

Statistical tests use fixed seeds, so they either always pass or always fail. Their bounds are about
five standard deviations: a sound stream passes, a skewed or repeating one does not.
"""

import math

import pytest
import reference
import torch
import torch.utils.checkpoint
from hypothesis import given
from hypothesis import strategies as st
from reference import SITE_CODES
from torch import Tensor

import recdrop
from recdrop import masks

F = 0xFFFFFFFF
PUBLISHED = [  # Random123's kat_vectors: counter, key, result
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((F, F, F, F), (F, F), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
int64 = st.integers(-(2**63), 2**63 - 1)
uint32 = st.integers(0, F)
HALF = 32768


def seeds(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def mask(
    seed: int = 7, threshold: int = HALF, site: str = "update", steps: int = 16, rows: int = 16,
    units: int = 64, layer: int = 0, direction: int = 0,
) -> Tensor:  # fmt: skip
    """One replica's mask (steps, rows, units)."""
    return masks.kept(seeds(seed), threshold, site, steps, rows, units, layer, direction)[0]


def deviation(hits: Tensor, probability: float) -> float:
    """How many standard deviations the number of hits lies from its expectation."""
    n = hits.numel()
    return abs(hits.sum().item() - n * probability) / math.sqrt(n * probability * (1 - probability))


def assert_unrelated(a: Tensor, b: Tensor) -> None:
    """Two masks of rate 1/2: each outcome of a pair has probability 1/4 (chi-square, 3 degrees)."""
    counts = torch.bincount((2 * a.int() + b.int()).flatten(), minlength=4).double()
    expected = a.numel() / 4
    assert ((counts - expected) ** 2 / expected).sum() < 25  # p < 2e-5


# Philox


@pytest.mark.parametrize(("counter", "key", "result"), PUBLISHED)
def test_philox_has_the_published_values(counter, key, result):
    words = masks.philox4x32(
        tuple(torch.tensor([v]) for v in counter), tuple(torch.tensor([v]) for v in key)
    )
    assert tuple(int(w) for w in words) == result


@pytest.mark.parametrize(("counter", "key", "result"), PUBLISHED)
def test_reference_philox_has_the_published_values(counter, key, result):
    assert reference.philox4x32(counter, key) == result


@given(st.tuples(uint32, uint32, uint32, uint32), st.tuples(uint32, uint32))
def test_philox_equals_python_integers(counter, key):
    words = masks.philox4x32(
        tuple(torch.tensor([v]) for v in counter), tuple(torch.tensor([v]) for v in key)
    )
    assert tuple(int(w) for w in words) == reference.philox4x32(counter, key)


def test_philox_broadcasts_and_stays_in_32_bits():
    column, row = torch.arange(3)[:, None], torch.arange(5)
    zero = torch.tensor(0)
    words = masks.philox4x32((column, row, zero, zero), (zero + F, zero))
    for word in words:
        assert word.expand(3, 5).shape == (3, 5)
        assert word.min() >= 0
        assert word.max() <= F
    picked = tuple(int(w.expand(3, 5)[2, 4]) for w in words)
    assert picked == reference.philox4x32((2, 4, 0, 0), (F, 0))


# layout


@given(
    seed=int64,
    threshold=st.integers(0, 65535),
    site=st.sampled_from(sorted(SITE_CODES)),
    steps=st.integers(1, 3),
    rows=st.integers(1, 3),
    units=st.integers(1, 19),
    layer=st.integers(0, 300),
    direction=st.integers(0, 1),
)
def test_layout_equals_the_reference(
    seed: int, threshold: int, site: str, steps: int, rows: int, units: int, layer: int,
    direction: int,
):  # fmt: skip
    ours = mask(seed, threshold, site, steps, rows, units, layer, direction)
    theirs = [
        reference.kept(seed, threshold, site, t, rows, units, layer, direction)
        for t in range(steps)
    ]
    assert torch.equal(ours.double(), torch.stack(theirs))


def test_a_draw_equal_to_the_threshold_stays():
    """Exactly `threshold` of the 65536 draws fall below it."""
    for unit in range(8):
        drawn = reference.draw(7, "update", 0, 0, unit, 0, 0)
        assert mask(7, drawn, steps=1, rows=1)[0, 0, unit]
        assert not mask(7, drawn + 1, steps=1, rows=1)[0, 0, unit]


def test_shape_and_type():
    kept = masks.kept(seeds(1, 2, 3), 100, "hidden", 4, 5, 6)
    assert kept.shape == (3, 4, 5, 6)
    assert kept.dtype == torch.bool


def test_thresholds_by_replica():
    thresholds = torch.tensor([0, HALF, 65535])
    together = masks.kept(seeds(1, 2, 3), thresholds, "cell", 4, 5, 6)
    for r, threshold in enumerate(thresholds.tolist()):
        assert torch.equal(together[r], mask(r + 1, threshold, "cell", 4, 5, 6))


def test_threshold_zero_keeps_everything():
    assert mask(threshold=0).all()


@given(int64, st.integers(0, 65535), st.integers(0, 65535))
def test_what_a_high_rate_keeps_a_low_rate_keeps(seed: int, a: int, b: int):
    low, high = sorted((a, b))
    assert (mask(seed, low, steps=2) | ~mask(seed, high, steps=2)).all()


def test_a_smaller_mask_is_a_corner_of_a_larger_one():
    large = mask(steps=5, rows=7, units=30)
    for steps, rows, units in [(1, 7, 30), (5, 2, 30), (5, 7, 9), (2, 3, 17)]:
        assert torch.equal(mask(steps=steps, rows=rows, units=units), large[:steps, :rows, :units])


def test_unknown_site_is_refused():
    with pytest.raises((ValueError, KeyError)):
        mask(site="gates")


# replicas


@pytest.mark.parametrize("neighbours", [(), (1,), (1, 2, 3), (-5, 2**62), (42, 42)])
def test_a_mask_does_not_depend_on_its_neighbours(neighbours: tuple[int, ...]):
    alone = mask(42)
    for place in range(len(neighbours) + 1):
        everyone = (*neighbours[:place], 42, *neighbours[place:])
        together = masks.kept(seeds(*everyone), HALF, "update", 16, 16, 64)
        assert torch.equal(together[place], alone)


def test_a_mask_does_not_depend_on_its_neighbours_rates():
    for other in (0, 1, 65535):
        kept = masks.kept(seeds(1, 42), torch.tensor([other, HALF]), "update", 16, 16, 64)
        assert torch.equal(kept[1], mask(42))


# statistics


@pytest.mark.parametrize("site", sorted(SITE_CODES))
@pytest.mark.parametrize("rate", [0.01, 0.25, 0.5, 0.9, 1000 / 65536])
def test_keep_rate(site: str, rate: float):
    threshold = round(65536 * rate)
    kept = mask(threshold=threshold, site=site, steps=32, rows=32, units=128)
    assert deviation(kept, 1 - threshold / 65536) < 5


def test_keep_rate_of_every_unit_row_and_step():
    kept = mask(threshold=16384, steps=64, rows=64, units=64)
    for axes in ((0, 1), (0, 2), (1, 2)):
        counts = kept.double().sum(axes)
        n = 64 * 64
        z = (counts - 0.75 * n) / math.sqrt(0.75 * 0.25 * n)
        assert z.abs().max() < 5
        assert 20 < (z**2).sum() < 130  # chi-square with 64 degrees: neither skewed nor too even


def test_all_sixteen_bits_are_uniform():
    """Counting what lies below each of 64 thresholds tells how the draws fill 64 bins."""
    edges = [65536 * k // 64 for k in range(64)]
    below = torch.tensor([(~mask(threshold=e)).sum().item() for e in edges] + [16 * 16 * 64])
    counts, expected = below.diff().double(), 16 * 16 * 64 / 64
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert 25 < chi2 < 125  # 63 degrees of freedom


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 8},
        {"seed": 7 + 2**32},
        {"seed": -7},
        {"site": "hidden"},
        {"site": "cell"},
        {"site": "input"},
        {"site": "output"},
        {"layer": 1},
        {"direction": 1},
        {"layer": 1, "direction": 1},
    ],
    ids=str,
)
def test_streams_are_unrelated(other: dict):
    assert_unrelated(mask(), mask(**other))


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["steps", "rows", "units"])
@pytest.mark.parametrize("lag", [1, 2, 7, 8])
def test_neighbours_along_an_axis_are_unrelated(axis: int, lag: int):
    kept = mask(steps=32, rows=32, units=32)
    n = kept.shape[axis]
    assert_unrelated(kept.narrow(axis, 0, n - lag), kept.narrow(axis, lag, n - lag))


def test_every_pair_of_layer_direction_and_site_has_its_own_stream():
    seen = {
        mask(site=site, layer=layer, direction=direction, steps=2, rows=2).numpy().tobytes()
        for site in SITE_CODES
        for layer in range(20)
        for direction in range(2)
    }
    assert len(seen) == 5 * 20 * 2


# seeding


def dropped_run() -> Tensor:
    """A forward in training mode whose output shows its masks."""
    torch.manual_seed(0)
    lstm = recdrop.LSTM(3, 40, recurrent_dropout=recdrop.RecurrentDropout.semeniuta(0.5))
    return lstm(torch.ones(4, 2, 3))[0]


def test_seeding_repeats():
    with masks.seeding(torch.tensor(5)):
        first = dropped_run()
    with masks.seeding(torch.tensor(5)):
        again = dropped_run()
    assert torch.equal(first, again)


@pytest.mark.parametrize("other", [6, -5, 5 + 2**32, 0])
def test_seeding_with_another_seed_differs(other: int):
    with masks.seeding(torch.tensor(5)):
        first = dropped_run()
    with masks.seeding(torch.tensor(other)):
        assert not torch.equal(first, dropped_run())


def test_two_calls_inside_seeding_have_their_own_masks():
    with masks.seeding(torch.tensor(5)):
        assert not torch.equal(dropped_run(), dropped_run())


def test_seeding_does_not_touch_torchs_generator():
    lstm = recdrop.LSTM(3, 4, recurrent_dropout=recdrop.RecurrentDropout.semeniuta(0.5))
    before = torch.get_rng_state()
    with masks.seeding(torch.tensor(5)):
        lstm(torch.ones(4, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)


def checkpointed(around: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """A loss and a gradient, with the checkpoint around the seeding, or inside."""
    torch.manual_seed(1)
    lstm = recdrop.LSTM(3, 6, recurrent_dropout=recdrop.RecurrentDropout.gal(0.5))
    x = torch.randn(5, 2, 3)

    def seeded() -> torch.Tensor:
        with masks.seeding(5):
            return lstm(x)[0]

    def again(function) -> torch.Tensor:
        return torch.utils.checkpoint.checkpoint(function, use_reentrant=False)

    with masks.seeding(5):
        loss = (again(seeded) if around else again(lambda: lstm(x)[0])).square().sum()
        loss.backward()
    return loss, lstm.weight_hh_l0.grad


def test_a_checkpoint_around_seeding_sees_the_same_masks_and_one_inside_is_refused(monkeypatch):
    loss, found = checkpointed(around=True)
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", lambda f, **_: f())
    plain, expected = checkpointed(around=True)
    assert torch.equal(loss, plain)
    assert torch.equal(found, expected)
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="put the checkpoint around the seeding"):
        checkpointed(around=False)


def test_torchs_generator_decides_again_after_seeding():
    torch_seeded = dropped_run()
    with pytest.raises(RuntimeError, match="inside"), masks.seeding(torch.tensor(5)):
        raise RuntimeError("inside")
    assert torch.equal(dropped_run(), torch_seeded)


def test_seeding_nests():
    with masks.seeding(torch.tensor(1)):
        alone = dropped_run(), dropped_run()
    with masks.seeding(torch.tensor(1)):
        first = dropped_run()
        with masks.seeding(torch.tensor(2)):
            dropped_run()
        second = dropped_run()
    assert torch.equal(first, alone[0])
    assert torch.equal(second, alone[1])


def test_the_draw_in_a_compiled_graph_is_the_eager_one(monkeypatch: pytest.MonkeyPatch):
    """What torch.compile puts there, called by hand: the same seed, and torch's generator moves on
    as far."""
    torch.manual_seed(4)
    eager = [masks.next_seed(), masks.next_seed()]
    after = torch.get_rng_state()
    torch.manual_seed(4)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = [masks.next_seed(), masks.next_seed()]
    monkeypatch.undo()
    assert eager == compiled
    assert torch.equal(torch.get_rng_state(), after)


def test_seeds_are_drawn_on_the_cpu_whatever_the_default_device():
    torch.manual_seed(4)
    expected = masks.next_seed()
    torch.manual_seed(4)
    with torch.device("meta"):
        found = masks.next_seed()
    assert (found, found.device.type) == (expected, "cpu")


@pytest.mark.parametrize("seed", [0, 7, -1, 2**62 + 5])
def test_seeds_inside_seeding_are_philox_of_the_number_of_the_call(seed: int):
    """All 64 bits of it: half of them would make two of 65,536 networks alike by chance."""
    key = (seed % 2**32, (seed >> 32) % 2**32)
    with masks.seeding(seed):
        drawn = [int(masks.next_seed()) for _ in range(3)]
    for call, value in enumerate(drawn):
        low, high, _, _ = reference.philox4x32((call, 0, 0, F), key)
        assert value % 2**64 == high << 32 | low
