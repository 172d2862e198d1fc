"""The word language model: windows, states, loss scale, perplexity, learning rate."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recdrop import RecurrentDropout
from recdrop.data.corpus import EOS, Corpus
from recdrop.study.conditions import grid
from recdrop.study.replicas import Replicas
from recdrop.study.training import train
from recdrop.tasks.language_model import FORWARD, LanguageModel
from recdrop.tasks.word_lm import PROFILES, WordLanguageModel

DROPS = {
    "none": RecurrentDropout(scaling="paper"),
    "semeniuta": RecurrentDropout.semeniuta(0.5, "step", "paper"),
    "gal": RecurrentDropout.gal(0.5, "sequence", "paper"),
    "moon": RecurrentDropout.moon(0.25, "sequence", "paper"),
}


def tokens(n: int, words: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(0, words, (n,), generator=torch.Generator().manual_seed(seed))


def small(train: int = 60, valid: int = 23, test: int = 31, words: int = 9, **settings):
    """The task on so many random tokens, with other settings where given."""
    task = WordLanguageModel("smoke")
    task.settings.update({"batch": 4, "steps": 5, "hidden": 8} | settings)
    vocabulary = (*(f"word{i}" for i in range(words - 1)), EOS)
    splits = [tokens(n, words, i) for i, n in enumerate((train, valid, test))]
    task._corpus = Corpus("random", vocabulary, *splits, {})
    return task


def replicas(task, drops=("none",), forward: bool = False, lr: float | None = None) -> Replicas:
    s = task.settings
    networks = [task.network(DROPS[d], forward, 0) for d in drops]
    return Replicas(
        networks, list(drops), [0] * len(drops), s["optimiser"], lr or s["lr"], s["clip"]
    )


# windows


sizes = st.tuples(st.integers(1, 200), st.integers(1, 9), st.integers(1, 12))


@given(sizes)
def test_every_token_is_a_target_exactly_once_in_order(size):
    n, batch, steps = size
    task = small(batch=batch, steps=steps)
    text = tokens(n)
    windows = list(task._windows(text, whole=True))
    targets = torch.cat([y for _, y in windows]).T.flatten()  # stream after stream
    assert torch.equal(targets[targets >= 0], text)
    assert ((targets >= 0).int().diff() <= 0).all(), "what is missing stands at the end"


@given(sizes)
def test_a_windows_input_is_the_token_before_its_target(size):
    n, batch, steps = size
    task = small(batch=batch, steps=steps)
    text = tokens(n)
    windows = list(task._windows(text, whole=True))
    before = torch.cat([x for x, _ in windows]).T.flatten()[:n]
    assert torch.equal(before, torch.cat([torch.tensor([task.corpus.eos]), text[:-1]]))


@given(sizes)
def test_windows_have_the_given_steps_but_the_last(size):
    n, batch, steps = size
    *others, last = [y.shape for _, y in small(batch=batch, steps=steps)._windows(tokens(n), True)]
    assert all(shape == (steps, batch) for shape in others)
    assert 1 <= last[0] <= steps


@given(sizes.filter(lambda s: s[0] >= s[1]))
def test_training_leaves_out_less_than_one_row_and_counts_its_updates(size):
    n, batch, steps = size
    task = small(train=n, batch=batch, steps=steps)
    windows = list(task._windows(task.corpus.train, whole=False))
    targets = torch.cat([y for _, y in windows]).T.flatten()
    assert torch.equal(targets, task.corpus.train[: n - n % batch])
    assert len(windows) == task.updates_per_epoch


# perplexity


def by_hand(model: LanguageModel, drop: RecurrentDropout, text: Tensor, eos: int, batch: int):
    """exp of the mean cross-entropy, in float64, a stream and a token at a time.

    Eq. 3's evaluation factors stand where each scheme's mask does.
    """
    p = {k: v.double() for k, v in model.state_dict().items()}
    update, hidden, cell = (1 - rate for rate in drop.rates)
    size = -(-len(text) // batch)  # tokens of a stream
    total = 0.0
    for start in range(0, len(text), size):
        h = c = torch.zeros(model.recurrent.hidden_size, dtype=torch.float64)
        for n in range(start, min(start + size, len(text))):
            x = p["embedding.weight"][int(text[n - 1]) if n else eos]
            a = p["recurrent.weight_ih_l0"] @ x + p["recurrent.weight_hh_l0"] @ (hidden * h)
            i, f, g, o = (a + p["recurrent.bias_ih_l0"] + p["recurrent.bias_hh_l0"]).chunk(4)
            c = cell * (torch.sigmoid(f) * c + torch.sigmoid(i) * update * torch.tanh(g))
            h = torch.sigmoid(o) * torch.tanh(c)
            logits = p["softmax.weight"] @ h + p["softmax.bias"]
            total += float(logits.exp().sum().log() - logits[text[n]])
    return math.exp(total / len(text))


@pytest.mark.parametrize("n", [7, 40, 43])
def test_perplexity_equals_a_plain_loop_in_float64(n):
    task = small()
    table = replicas(task, DROPS)
    with torch.no_grad():
        for value in table.parameters.values():
            value *= 20  # far from uniform predictions
    text = tokens(n, seed=9)
    found = task.cross_entropy(table.train(False), text).exp()
    for i, (name, drop) in enumerate(DROPS.items()):
        model = task.network(drop, False, 0)
        model.load_state_dict(table.weights(i))
        expected = by_hand(model, drop, text, task.corpus.eos, task.settings["batch"])
        assert found[i].item() == pytest.approx(expected, rel=1e-4), name


def test_perplexity_does_not_depend_on_the_window():
    found = [
        task.cross_entropy(replicas(task, DROPS).train(False), tokens(43, seed=9)).exp()
        for task in (small(steps=1), small(steps=5), small(steps=100))
    ]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_a_uniform_model_has_the_vocabularys_perplexity():
    task = small(words=9)
    table = replicas(task)
    with torch.no_grad():
        for value in table.parameters.values():
            value.zero_()
    measured = task.evaluate(table.train(False))
    for split in ("valid", "test"):
        assert measured[split].item() == pytest.approx(9), split


def test_evaluation_carries_nothing_from_split_to_split_and_changes_nothing():
    task = small()
    table = replicas(task, DROPS, forward=True).train(False)
    before = {k: v.clone() for k, v in table.parameters.items()}
    first, second = task.evaluate(table), task.evaluate(table)
    assert all(torch.equal(first[k], second[k]) for k in first)
    found = task.cross_entropy(table, task.corpus.test).exp()
    torch.testing.assert_close(first["test"], found)
    assert all(torch.equal(v, before[k]) for k, v in table.parameters.items())
    assert not any(v.requires_grad for v in first.values())


def test_forward_dropout_is_off_in_evaluation():
    task = small()
    without, with_ = (task.evaluate(replicas(task, forward=f).train(False)) for f in (False, True))
    assert torch.equal(without["valid"], with_["valid"])


# training


class Table:
    """Stands in for Replicas: one network whose losses are drawn, and whose states are counted."""

    device = torch.device("cpu")

    def __init__(self, networks: int = 2):
        self.networks, self.states, self.losses, self.updates = networks, [], [], []

    def __len__(self) -> int:
        return self.networks

    def __call__(self, x, state, y, in_dims):
        h, c = state
        self.states.append((h, c))
        self.losses.append(torch.rand(self.networks, *y.shape, requires_grad=True))
        new = torch.full_like(h, len(self.states)).requires_grad_()
        return self.losses[-1], (new, -new)

    def learn(self, function, *args):
        losses, *results = function(*args)
        self.updates.append(losses)
        return results


def test_training_carries_the_state_from_window_to_window_without_its_past():
    table = Table()
    small().train_epoch(table, 0)
    assert len(table.states) == 3
    for n, (h, c) in enumerate(table.states):
        assert h.shape == (2, 1, 4, 8)
        assert (h == n).all()
        assert (c == -n).all()
        assert not h.requires_grad
        assert not c.requires_grad


def test_each_epoch_starts_from_zeros():
    task, table = small(), Table()
    task.train_epoch(table, 0)
    task.train_epoch(table, 1)
    h, c = table.states[3]
    assert not h.any()
    assert not c.any()


def test_the_loss_is_summed_over_steps_and_averaged_over_rows():
    table = Table()
    small(train=28).train_epoch(table, 0)
    assert len(table.updates) == 2
    for losses, update, steps in zip(table.losses, table.updates, (5, 2), strict=True):
        assert losses.shape == (2, steps, 4)
        expected = [sum(float(v) for v in network.flatten()) / 4 for network in losses.detach()]
        assert update.tolist() == pytest.approx(expected)


def test_training_perplexity_weighs_tokens_not_windows():
    table = Table()
    measured = small(train=28).train_epoch(table, 0)
    every = torch.cat([v.detach() for v in table.losses], 1)
    torch.testing.assert_close(measured["loss"], every.mean((1, 2)))
    torch.testing.assert_close(measured["train"], every.mean((1, 2)).exp())


def test_one_epoch_equals_one_written_by_hand():
    """Plain torch: SGD on the summed loss, clip by norm, states carried and cut."""
    task = small(train=80, clip=0.5)
    table = replicas(task)
    task.train_epoch(table.train(), 0)
    model = task.network(DROPS["none"], False, 0)
    s, trained = task.settings, [p for p in model.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(trained, s["lr"])
    rows = task.corpus.train.view(4, 20)
    before = torch.cat([torch.tensor([task.corpus.eos]), task.corpus.train[:-1]]).view(4, 20)
    state = model.first_state(4)
    for start in range(0, 20, 5):
        x, y = (v[:, start : start + 5].T for v in (before, rows))
        out, state = model.recurrent(model.embedding(x), state)
        state = tuple(v.detach() for v in state)
        logits = model.softmax(out).flatten(0, 1)
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits, y.flatten(), reduction="sum") / 4
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, s["clip"])
        sgd.step()
    for name, value in table.weights(0).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-5)


# learning rate and end


def validated(*values: float, lr: float = 1.0) -> list[dict]:
    return [{"valid": v, "lr": lr} for v in values]


@pytest.mark.parametrize(
    ("values", "decays"),
    [
        ((100.0,), False),
        ((100.0, 99.0), False),
        ((100.0, 100.0), True),
        ((100.0, 101.0), True),
        ((100.0, 101.0, 100.5), True),  # better than the last, not than the best
        ((100.0, 101.0, 99.0), False),
        ((math.inf, 100.0), False),
    ],
)
def test_the_rate_is_divided_where_validation_is_no_new_best(values, decays):
    expected = 1 / 1.5 if decays else 1.0
    assert WordLanguageModel("paper").next_lr(validated(*values), 1.0) == pytest.approx(expected)


def test_a_network_ends_when_its_next_rate_would_be_too_small():
    task = WordLanguageModel("paper")
    improving, worse = (100.0, 99.0), (100.0, 101.0)
    assert not task.is_finished(validated(*improving, lr=1 / 64), DROPS["none"])
    assert not task.is_finished(validated(*worse, lr=1.5 / 64), DROPS["none"])
    assert task.is_finished(validated(*worse, lr=1.4 / 64), DROPS["none"])


def test_the_rates_of_a_run_follow_the_rule(tmp_path):
    task = small(epochs=9, lr=3.0)
    conditions = grid(task.name, task.settings, ["none", "gal"], [0.5], ["step"])
    for m in train(task, conditions, tmp_path, progress=False):
        lr = 3.0
        for n, epoch in enumerate(m["curve"]):
            assert epoch["lr"] == pytest.approx(lr, abs=1e-5)
            lr = task.next_lr(m["curve"][: n + 1], lr)
        assert m["final"]["last"] == m["curve"][-1]
        assert m["final"]["best"]["valid"] == min(e["valid"] for e in m["curve"])


def test_the_papers_protocol():
    expected = dict(
        hidden=256, train_tokens=None, held_out_tokens=None, optimiser="sgd", lr=1.0, clip=10.0,
        init=0.05, decay=1.5, least_lr=1 / 64, steps=35, batch=32, epochs=80, corpus="ptb",
    )  # fmt: skip
    assert PROFILES["paper"].items() >= expected.items()
    assert FORWARD == {"input": 0.2, "output": 0.5}


# the network


def test_networks_of_a_seed_start_equal_and_uniform():
    task = small()
    first, *others = [
        task.network(d, f, 5).state_dict() for d in DROPS.values() for f in (False, True)
    ]
    for other in others:
        assert all(torch.equal(first[k], other[k]) for k in first)
    assert all(v.abs().max() <= 0.05 for v in first.values())
    assert not first["recurrent.bias_hh_l0"].any()
    assert first["softmax.bias"].any()


def test_forward_dropout_stands_before_and_behind_the_lstm():
    model = LanguageModel(9, 512, 512, forward=True)
    shares = {}
    for name, rate in (("drop_input", 0.2), ("drop_output", 0.5)):
        out = getattr(model, name)(torch.ones(40, 512))
        shares[name] = (out == 0).float().mean().item()
        assert out.max().item() == pytest.approx(1 / (1 - rate), rel=1e-4)
    assert shares == pytest.approx({"drop_input": 0.2, "drop_output": 0.5}, abs=0.02)


# where the words come from


def test_a_manifest_says_what_was_read(tmp_path):
    task = WordLanguageModel("smoke")
    (m,) = train(task, grid(task.name, task.settings, ["none"], [0]), tmp_path, progress=False)
    assert m["data"]["corpus"] == "generated grammar"
    assert m["data"]["tokens"] == {"train": 4000, "valid": 400, "test": 400}
    assert m["data"]["types"] == len(task.corpus.vocabulary)
    assert set(m["final"]["best"]) == {"epoch", "lr", "loss", "train", "valid", "test"}


@pytest.mark.parametrize(
    ("place", "without"), [("drop_input", "embedding.weight"), ("drop_output", "softmax.weight")]
)
def test_forward_dropout_drops_what_the_layer_reads_and_what_it_says(place, without):
    """All of it dropped, the network is the one without the weights before or behind."""
    model, (x, y) = LanguageModel(9, 8, 8, forward=True).eval(), torch.randint(9, (2, 5, 3))
    hook = getattr(model, place).register_forward_hook(lambda *given: 0 * given[2])
    dropped, _ = model(x, model.first_state(3), y)
    hook.remove()
    with torch.no_grad():
        model.get_parameter(without).zero_()
    torch.testing.assert_close(model(x, model.first_state(3), y)[0], dropped)


def test_each_split_of_a_text_is_measured_by_its_own():
    task = small()
    table = replicas(task).train(False)
    measured = task.evaluate(table)
    for split in ("valid", "test"):
        found = task.cross_entropy(table, getattr(task.corpus, split)).exp()
        torch.testing.assert_close(measured[split], found)
    assert measured["valid"] != measured["test"]
