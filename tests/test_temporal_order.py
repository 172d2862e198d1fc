"""Temporal Order: the generator's properties, and what the task makes of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recdrop import RecurrentDropout
from recdrop.data.temporal_order import CLASSES, SYMBOLS, sequences
from recdrop.study.conditions import grid
from recdrop.study.training import train
from recdrop.tasks.temporal_order import PROFILES, Classifier, TemporalOrder

A, B, C, D = range(4)
lengths = st.integers(1, 20).map(lambda third: 3 * third)
seeds = st.integers(0, 2**63 - 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# the generator


@given(lengths, st.integers(0, 40), seeds)
def test_one_symbol_of_ab_stands_in_each_of_the_first_two_thirds(length, count, seed):
    x, y = sequences(count, length, generator(seed))
    assert x.shape == (length, count)
    assert y.shape == (count,)
    meaningful, third = x <= B, length // 3
    assert (meaningful[:third].sum(0) == 1).all()
    assert (meaningful[third : 2 * third].sum(0) == 1).all()
    assert not meaningful[2 * third :].any()
    assert ((x >= A) & (x <= D)).all()


@given(lengths, st.integers(1, 40), seeds)
def test_the_class_is_the_order_of_the_two(length, count, seed):
    x, y = sequences(count, length, generator(seed))
    for column, label in zip(x.T.tolist(), y.tolist(), strict=True):
        assert "".join(SYMBOLS[s] for s in column if s <= B) == CLASSES[label]


@given(lengths, seeds)
def test_the_generator_decides_and_torchs_own_stands_still(length, seed):
    before = torch.get_rng_state()
    first, second = sequences(9, length, generator(seed)), sequences(9, length, generator(seed))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_torchs_own_decides():
    first = sequences(50, 15)[0]
    assert not torch.equal(first, sequences(50, 15)[0])
    torch.manual_seed(20160316)
    assert torch.equal(first, sequences(50, 15)[0])


@pytest.mark.parametrize("length", [-15, -1, 0, 1, 2, 4, 16, 31])
def test_a_length_without_thirds_is_refused(length):
    with pytest.raises(ValueError, match=rf"length={length} .*multiple of 3.*15, 30"):
        sequences(1, length)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="count=-1 is negative"):
        sequences(-1, 15)


def assert_even(counts: Tensor) -> None:
    """Within five standard deviations of an even share."""
    n, k = counts.sum(), len(counts)
    assert ((counts - n / k).abs() < 5 * (n / k * (1 - 1 / k)) ** 0.5).all(), counts


def test_classes_places_and_distractors_are_even():
    x, y = sequences(20_000, 15, generator())
    assert_even(y.bincount(minlength=4))
    places = (x <= B).sum(1)
    assert_even(places[:5])
    assert_even(places[5:10])
    assert_even((x[10:] == D).flatten().int().bincount(minlength=2))


def test_places_and_symbols_are_unrelated():
    x, y = sequences(20_000, 15, generator())
    first = (x[:5] <= B).int().argmax(0)
    second = (x[5:10] <= B).int().argmax(0)
    assert_even((5 * first + second).bincount(minlength=25))
    assert_even((4 * first + y).bincount(minlength=20))


# the task, seen by a table that answers as it is told


class Table:
    """Stands in for Replicas: records what it is shown, answers as ``answer(x) -> classes``."""

    device = torch.device("cpu")

    def __init__(self, seeds, answer=lambda x: torch.zeros(x.shape[2:], dtype=torch.int64)):
        self.seeds, self.answer, self.shown, self.losses = seeds, answer, [], []

    def __call__(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        answers = torch.stack([self.answer(v.unsqueeze(0)) for v in x])
        return 30.0 * torch.nn.functional.one_hot(answers, 4)

    def learn(self, function, *args):
        losses, *results = function(*args)
        self.losses.append(losses)
        return results


def right(x: Tensor) -> Tensor:
    """(1, T, B) -> (B,), the true classes."""
    found = [[s for s in column if s <= B] for column in x[0].T.tolist()]
    return torch.tensor([2 * first + second for first, second in found])


def wrong(x: Tensor) -> Tensor:
    return (right(x) + 1) % 4


def shown(epoch: int, seed: int = 0, purpose: str = "train", **settings) -> Tensor:
    task, table = TemporalOrder("smoke"), Table([seed])
    task.settings.update(settings)
    if purpose == "train":
        task.train_epoch(table, epoch)
    else:
        task.evaluate(table)
    return torch.cat(table.shown, 2)


@pytest.mark.parametrize("seed", [0, 7, 10, 100, 1000, 123456789])
def test_every_epoch_draws_sequences_of_its_own(seed):
    """The paper's budget is 5,000 epochs, of 6,400 fresh sequences each."""
    epochs = [*range(30), 99, 100, 110, 200, 300, 1000, 2000, 3000, 4999]
    drawn = {shown(epoch, seed).numpy().tobytes() for epoch in epochs}
    assert len(drawn) == len(epochs)


def test_every_seed_draws_sequences_of_its_own():
    seeds = [*range(12), 100, 101, 1000, 2000, 2**32, 2**33]
    for purpose in ("train", "test"):
        assert len({shown(12, s, purpose).numpy().tobytes() for s in seeds}) == len(seeds)


def test_an_epoch_drawn_again_is_the_same():
    assert torch.equal(shown(3), shown(3))


def test_evaluations_see_the_same_sequences_and_none_of_training():
    assert torch.equal(shown(0, purpose="test"), shown(5, purpose="test"))
    tested, trained = (
        {tuple(column) for column in shown(0, purpose=purpose, length=30)[0].T.tolist()}
        for purpose in ("test", "train")
    )
    assert not tested & trained


def test_networks_of_a_seed_see_the_same_and_others_do_not():
    table = Table([4, 5, 4])
    TemporalOrder("smoke").train_epoch(table, 0)
    assert len(table.shown) == 5
    for x in table.shown:
        assert x.shape == (3, 15, 16)
        assert torch.equal(x[0], x[2])
        assert not torch.equal(x[0], x[1])


@pytest.mark.parametrize(("answer", "accuracy"), [(right, 1.0), (wrong, 0.0)])
def test_accuracy_and_loss_are_those_of_the_answers(answer, accuracy):
    task, table = TemporalOrder("smoke"), Table([0, 1], answer)
    measured = task.train_epoch(table, 0)
    assert measured["train"].tolist() == [accuracy] * 2
    assert measured["loss"].tolist() == pytest.approx([30 * (1 - accuracy)] * 2, abs=1e-4)
    assert task.evaluate(table)["test"].tolist() == [accuracy] * 2


def test_a_chance_answer_is_a_quarter_right():
    task = TemporalOrder("smoke")
    task.settings["test"] = 10_000
    assert task.evaluate(Table([0]))["test"].item() == pytest.approx(0.25, abs=0.02)


def test_test_accuracy_counts_sequences_not_parts():
    """1,500 sequences are answered in two parts, of which only the first is right."""
    task = TemporalOrder("smoke")
    task.settings["test"] = 1500
    table = Table([0], lambda x: right(x) if x.shape[2] == 1000 else wrong(x))
    assert task.evaluate(table)["test"].item() == pytest.approx(2 / 3)


def test_progress_is_told_after_each_update():
    told = []
    TemporalOrder("smoke").train_epoch(Table([0], right), 0, lambda _, **m: told.append(m))
    assert len(told) == TemporalOrder("smoke").updates_per_epoch
    assert all(m["accuracy"] == 1 for m in told)


# networks


def test_networks_of_a_seed_start_equal_under_every_scheme():
    task, schemes = TemporalOrder("smoke"), RecurrentDropout
    drops = [schemes(), schemes.gal(0.5), schemes.moon(0.5, "step"), schemes.semeniuta(0.25)]
    first, *others = [task.network(d, False, 3).state_dict() for d in drops]
    for other in others:
        assert all(torch.equal(first[k], other[k]) for k in first)
    elsewhere = task.network(drops[0], False, 4).state_dict()
    assert not torch.equal(first["recurrent.weight_hh_l0"], elsewhere["recurrent.weight_hh_l0"])


def test_initial_weights_leave_the_random_state_alone():
    before = torch.get_rng_state()
    first = TemporalOrder("smoke").network(RecurrentDropout(), False, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    second = TemporalOrder("smoke").network(RecurrentDropout(), False, 3)
    assert torch.equal(first.readout.weight, second.readout.weight)


def test_initial_weights_are_uniform_and_gates_have_one_bias():
    task = TemporalOrder("paper")
    network = task.network(RecurrentDropout(), False, 0)
    for name, value in network.named_parameters():
        if "bias_hh" in name:
            assert not value.any()
            assert not value.requires_grad
        else:
            assert value.abs().max() <= 0.05
    weight = network.recurrent.weight_hh_l0
    assert weight.max() > 0.0499
    assert weight.min() < -0.0499
    assert weight.mean().abs() < 5e-4


def test_the_class_is_read_from_the_last_state():
    model = Classifier(8)
    x = torch.randint(0, 4, (15, 3))
    h = model.recurrent(torch.nn.functional.one_hot(x, 4).float())[0]
    expected = h[14] @ model.readout.weight.T + model.readout.bias
    torch.testing.assert_close(model(x), expected)


def test_forward_dropout_is_not_part_of_table_1():
    with pytest.raises(ValueError, match="forward=True.*use forward=False"):
        TemporalOrder("smoke").network(RecurrentDropout(), True, 0)


def test_the_papers_protocol():
    expected = dict(
        hidden=256, optimiser="sgd", lr=0.1, clip=5.0, init=0.05, batch=32, batches=200,
        epochs=5000, test=10_000, solved=0.999,
    )  # fmt: skip
    assert PROFILES["paper"].items() >= expected.items()


def test_only_small_networks_are_kept():
    assert TemporalOrder("quick").keeps_weights
    assert not TemporalOrder("paper").keeps_weights


# when training ends


def curve(train: list[float], test: list[float]) -> list[dict]:
    return [{"train": a, "test": b} for a, b in zip(train, test, strict=True)]


OVER, AT, UNDER = 0.9991, 0.999, 0.25


@pytest.mark.parametrize(
    ("train", "test", "own", "moon"),
    [
        ([OVER] * 3, [OVER] * 3, True, True),
        ([OVER] * 2, [OVER] * 2, False, False),  # too few
        ([], [], False, False),
        ([OVER] * 3, [UNDER] * 3, False, True),  # Moon's test accuracy may never follow
        ([OVER] * 3, [OVER, UNDER, OVER], False, True),
        ([OVER, UNDER, OVER, OVER], [OVER] * 4, False, False),  # not in a row
        ([UNDER, OVER, OVER, OVER], [UNDER, OVER, OVER, OVER], True, True),
        ([OVER, OVER, AT], [OVER] * 3, False, False),  # above, not at
    ],
)
def test_three_evaluations_in_a_row_end_training(train, test, own, moon):
    task, drop = TemporalOrder("paper"), RecurrentDropout
    for other in (drop(), drop.semeniuta(0.5), drop.gal(0.5)):
        assert task.is_finished(curve(train, test), other) is own
    assert task.is_finished(curve(train, test), drop.moon(0.5)) is moon


def test_while_all_guess_a_long_training_is_seldom_tested():
    guess, begun = torch.tensor([0.26, 0.24]), torch.tensor([0.26, 0.31])
    nan = torch.tensor([float("nan"), 0.24])  # of a network that diverged
    due = TemporalOrder("paper").is_due
    for accuracy in (guess, nan):
        assert [n for n in range(1, 31) if due(n, {"train": accuracy})] == [10, 20, 30]
    assert all(due(n, {"train": begun}) for n in range(1, 31))
    quick = TemporalOrder("quick")
    assert all(quick.is_due(n, {"train": guess}) for n in range(1, 31))
    odd = TemporalOrder(PROFILES["paper"] | {"epochs": 4999})  # what ends, is tested
    assert not odd.is_due(4998, {"train": guess})
    assert odd.is_due(4999, {"train": guess})


def test_the_learning_rate_stays():
    assert TemporalOrder("paper").next_lr(curve([OVER], [OVER]), 0.1) == 0.1


@pytest.mark.parametrize("length", [3, 15, 30])
def test_the_smoke_profile_runs(tmp_path, length):
    task = TemporalOrder("smoke", length)
    conditions = grid(task.name, task.settings, ["none", "semeniuta", "gal", "moon"], [0.5])
    manifests = train(task, conditions, tmp_path, progress=False)
    assert len(manifests) == 7
    for m in manifests:
        assert m["protocol"] == "smoke"
        assert [e["epoch"] for e in m["curve"]] == [1, 2]
        assert all(0 <= e[k] <= 1 for e in m["curve"] for k in ("train", "test"))


def test_networks_of_a_seed_have_the_same_first_loss(tmp_path):
    """Same weights, same batches: at epoch 1 they differ by their masks alone, which do little."""
    task = TemporalOrder("smoke")
    conditions = grid(task.name, task.settings, ["none", "gal"], [0.01], seeds=[0, 1])
    first, *_, other = train(task, conditions, tmp_path, progress=False)
    gal = next(m for m in train(task, conditions, tmp_path) if m["condition"]["scheme"] == "gal")
    assert gal["curve"][0]["loss"] == pytest.approx(first["curve"][0]["loss"], abs=0.01)
    assert other["curve"][0]["loss"] != first["curve"][0]["loss"]
