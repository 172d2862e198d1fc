"""The character language model: bits, learning rate, and other cells than the paper's."""

import math
from dataclasses import replace

import pytest
import torch
from chapters import parameters

from recdrop import GRU, LSTM, RNN, RecurrentDropout
from recdrop.study import results, run, tables
from recdrop.study.conditions import grid
from recdrop.study.replicas import Replicas
from recdrop.study.training import train
from recdrop.tasks.cells import CELLS, named
from recdrop.tasks.char_lm import PROFILES, CharacterLanguageModel
from recdrop.tasks.language_model import LanguageModel
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel


def replicas(task, drops=(RecurrentDropout(),)) -> Replicas:
    s = task.settings
    networks = [task.network(d, False, 0) for d in drops]
    names = [str(i) for i in range(len(drops))]
    return Replicas(networks, names, [0] * len(drops), s["optimiser"], s["lr"], s["clip"])


def test_the_papers_protocol():
    expected = dict(
        embedding=256, hidden=1024, train_tokens=None, held_out_tokens=None, optimiser="adam",
        lr=1e-3, clip=10.0, init=0.01, decay=0.97, decay_from=10, steps=100, batch=32, epochs=50,
    )  # fmt: skip
    assert PROFILES["paper"].items() >= expected.items()


def test_the_reduced_protocol_is_the_papers_but_for_sizes():
    smaller = dict(
        protocol="reduced", hidden=256, train_tokens=1_000_000, held_out_tokens=100_000, epochs=10,
    )  # fmt: skip
    assert PROFILES["reduced"] == PROFILES["paper"] | smaller


def test_bits_are_the_cross_entropy_to_base_two():
    """A network without weights finds each symbol equally likely: log2 of their number."""
    task = CharacterLanguageModel("smoke")
    table = replicas(task)
    with torch.no_grad():
        for value in table.parameters.values():
            value.zero_()
    expected = math.log2(len(task.corpus.vocabulary))
    measured = task.evaluate(table.train(False))
    for split in ("valid", "test"):
        assert measured[split].item() == pytest.approx(expected, rel=1e-6), split


def test_a_sentence_ends_with_a_newline():
    corpus = CharacterLanguageModel("smoke").corpus
    assert corpus.vocabulary[corpus.eos] == "\n"
    assert all(len(symbol) == 1 for symbol in corpus.vocabulary)


def test_embedding_and_layer_have_sizes_of_their_own():
    model = CharacterLanguageModel("smoke").network(RecurrentDropout(), False, 0)
    assert model.embedding.weight.shape[1] == model.recurrent.input_size == 8
    assert model.recurrent.hidden_size == 16


@pytest.mark.parametrize(("epoch", "factor"), [(1, 1), (9, 1), (10, 0.97), (50, 0.97)])
def test_the_rate_falls_from_the_tenth_epoch_on(epoch, factor):
    task = CharacterLanguageModel("paper")
    assert task.next_lr([{"epoch": epoch}], 1e-3) == pytest.approx(1e-3 * factor)


def test_fifty_epochs_leave_the_papers_rate():
    """The first ten epochs at 0.001, then 0.97 times as much in each."""
    task, lr, rates = CharacterLanguageModel("paper"), 1e-3, []
    for epoch in range(1, 51):
        rates.append(lr)
        lr = task.next_lr([{"epoch": epoch}], lr)
    assert rates[9] == 1e-3
    assert rates[10] == pytest.approx(0.97e-3)
    assert rates[49] == pytest.approx(1e-3 * 0.97**40)


def test_a_table_of_characters_trains(tmp_path):
    task = CharacterLanguageModel("smoke")
    conditions = grid(task.name, task.settings, ["none", "semeniuta"], [0.25], ["step"])
    manifests = train(task, conditions, tmp_path, progress=False)
    for m in manifests:
        first, last = m["curve"][0], m["curve"][-1]
        assert last["train"] < first["train"]
        assert last["train"] == pytest.approx(last["loss"] / math.log(2), abs=1e-5)
        assert m["final"]["best"]["valid"] == min(e["valid"] for e in m["curve"])
    (row,) = [r for r in tables.table(3, tmp_path) if r["n"] and r["rate"]]
    assert row["protocol"] == "smoke"
    assert row["valid"] == manifests[1]["final"]["best"]["valid"]


def test_fewer_epochs_are_another_protocol(tmp_path):
    """Else a shortened run would stand in a cell of the full one."""
    (short,) = run.char_lm(parameters(tmp_path), epochs=1)
    (whole,) = run.char_lm(parameters(tmp_path), epochs=99)
    assert (short["protocol"], len(short["curve"])) == ("smoke-1-epochs", 1)
    assert (whole["protocol"], len(whole["curve"])) == ("smoke", 2)
    protocols = [r["protocol"] for r in tables.table(3, tmp_path) if r["n"]]
    assert protocols == ["smoke", "smoke-1-epochs"]


# other cells


def test_a_vanilla_rnn_keeps_the_rate_0_and_says_where_nothing_is_left(tmp_path):
    p = parameters(tmp_path, schemes=["moon", "semeniuta"], rates=[0.0, 0.5])
    assert [m["condition"]["scheme"] for m in run.char_lm(p, "rnn")] == ["none"]
    with pytest.raises(ValueError, match=r"schemes=\['moon'\] with rates=\[0.5\]"):
        run.char_lm(replace(p, schemes=["moon"], rates=[0.5]), "rnn")


@pytest.mark.parametrize(("cell", "layer"), [("lstm", LSTM), ("gru", GRU), ("rnn", RNN)])
def test_each_cell_is_its_layer(cell, layer):
    for task in (TemporalOrder("smoke", cell=cell), WordLanguageModel("smoke", cell=cell)):
        network = task.network(RecurrentDropout.gal(0.5), False, 0)
        assert type(network.recurrent) is layer
        assert task.settings.get("cell", "lstm") == cell


def test_an_unknown_cell_is_refused():
    with pytest.raises(ValueError, match="cell='lstn' is unknown; choose one of"):
        named("lstn")


@pytest.mark.parametrize("cell", CELLS)
def test_windows_of_a_state_carried_on_equal_one_long_window(cell):
    torch.manual_seed(0)
    model = LanguageModel(11, 4, 8, cell=cell)
    x, y = torch.randint(0, 11, (2, 12, 3))
    whole, _ = model(x, model.first_state(3), y)
    state, parts = model.first_state(3), []
    for a, b in zip(x.split(5), y.split(5), strict=True):
        losses, state = model(a, state, b)
        parts.append(losses)
    torch.testing.assert_close(torch.cat(parts), whole)


def test_other_cells_train_and_stay_out_of_the_papers_tables(tmp_path):
    for cell in ("gru", "rnn"):
        task = WordLanguageModel("smoke", cell=cell)
        conditions = grid(task.name, task.settings, ["gal"], [0.5], ["sequence"])
        (m,) = train(task, conditions, tmp_path, progress=False)
        assert m["status"] == "finished"
        assert m["condition"]["settings"]["cell"] == cell
    assert len(results.read_all(tmp_path)) == 2
    assert not [row for row in tables.table(2, tmp_path, beyond=True) if row["n"]]
