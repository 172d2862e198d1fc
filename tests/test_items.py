"""Test items: their sums are the manifests' figures, and they give one seed an interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdrop.study import comparisons, items, paper, results
from recdrop.study.comparisons import UNDECIDED, Comparison, Level, compare
from recdrop.study.conditions import grid
from recdrop.study.training import train
from recdrop.tasks.char_lm import CharacterLanguageModel
from recdrop.tasks.ner import NamedEntities
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel

TASKS = {2: WordLanguageModel, 3: CharacterLanguageModel, 4: NamedEntities}
SCHEMES = ["none", "gal", "semeniuta"]
FACTOR = {2: 1, 3: 1, 4: 100}
ASKED = Comparison({"scheme": "semeniuta"}, {"scheme": "gal"})


@pytest.fixture(scope="module", params=TASKS, ids=lambda number: f"table{number}")
def trained(request, tmp_path_factory):
    """A table's number, the folder of its three small networks of one seed, their manifests."""
    task, folder = TASKS[request.param]("smoke"), tmp_path_factory.mktemp("trained")
    task.settings["epochs"] = 5  # or taggers would find nothing
    asked = grid(task.name, task.settings, SCHEMES, [0.5], ["step"])
    return request.param, folder, train(task, asked, folder, progress=False)


def test_their_sums_are_the_test_figure(trained):
    number, folder, manifests = trained
    for m in manifests:
        kept = items.load(items.find(folder, m["name"]))
        expected = FACTOR[number] * m["final"]["best"]["test"]
        assert items.figure(m["condition"]["task"], kept) == pytest.approx(
            expected, rel=1e-5, abs=1e-4
        )
        assert len(kept) > 10


def test_one_seed_has_an_interval_over_them_and_no_verdict(trained):
    number, folder, _ = trained
    networks = comparisons.ours(number, comparisons.manifests(folder), "smoke")
    found = compare(ASKED, networks, number)
    low, high = found.interval
    assert (found.drawn, len(found.gains)) == ("test items", 1)
    assert low <= found.effect <= high
    assert low < high
    assert found.verdict("better than", 0.0) == UNDECIDED


def test_temporal_order_takes_them_from_its_accuracy(tmp_path):
    task = TemporalOrder("smoke")
    asked = grid(task.name, task.settings, ["gal"], [0.5], ["step"])
    (manifest,) = train(task, asked, tmp_path, progress=False)
    assert items.find(tmp_path, manifest["name"]) is None
    accuracy = 100 * manifest["final"]["last"]["test"]
    spread = 196 * (accuracy / 100 * (1 - accuracy / 100) / task.settings["test"]) ** 0.5
    networks = comparisons.ours(1, comparisons.manifests(tmp_path), "smoke")
    found = compare(Level({"scheme": "gal"}, "test", "below", 30.0), networks, 1)
    assert found.drawn == "test items"
    expected = 30 - accuracy - spread, 30 - accuracy + spread
    assert found.interval == pytest.approx(expected, abs=spread / 4), "as a binomial has it"
    trained = compare(Level({"scheme": "gal"}, "train", "below", 30.0), networks, 1)
    assert trained.interval is None, "that is a mean over an epoch"


def test_without_them_there_is_no_interval(trained):
    number, _, manifests = trained
    found = compare(ASKED, comparisons.ours(number, manifests, "smoke"), number)
    assert (found.interval, found.drawn) == (None, None)
    assert found.effect is not None


def test_several_seeds_are_drawn_from_in_their_place(tmp_path):
    task = WordLanguageModel("smoke")
    asked = grid(task.name, task.settings, ["none", "gal"], [0.5], ["step"], seeds=[0, 1])
    train(task, asked, tmp_path, progress=False)
    networks = comparisons.ours(2, comparisons.manifests(tmp_path), "smoke")
    found = compare(Comparison({"scheme": "gal"}, {"scheme": "none"}), networks, 2)
    assert found.drawn == "seeds"
    assert found.interval == comparisons.bootstrap(found.gains)


def test_draws_are_paired():
    """A network that loses one bit more at each token lies one bit behind in every draw."""
    nats = np.random.default_rng(1).random(50)
    first, second = (np.stack([nats + more, np.ones(50)], 1) for more in (0, np.log(2)))
    behind = items.resampled("char_lm", second) - items.resampled("char_lm", first)
    assert behind == pytest.approx(1, abs=1e-5)
    assert np.ptp(items.resampled("char_lm", first)) > 0.1


@given(count=st.integers(2, 40), number=st.sampled_from(list(paper.TASKS)))
def test_each_draw_is_a_figure_of_as_many_items(count, number):
    task, sums = paper.TASKS[number], 3 if number == 4 else 2
    kept = np.random.default_rng(count).integers(1, 9, (count, sums)).astype(float)
    found = items.resampled(task, kept)
    random = np.random.default_rng(0)
    for value in found[:5]:
        drawn = kept[random.integers(count, size=count)]
        assert value == pytest.approx(items.figure(task, drawn), rel=1e-5)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Accuracy of 200 answers that are right with probability 0.8, drawn anew 300 times."""
    random, covered = np.random.default_rng(2), 0
    for _ in range(300):
        right = (random.random(200) < 0.8).astype(float)
        values = items.resampled("temporal_order", np.stack([right, np.ones(200)], 1))
        low, high = np.quantile(values, [0.025, 0.975])
        covered += low <= 80 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_those_of_another_network_are_not_taken(trained):
    """As where manifests alone were copied to a folder in which older items lay."""
    number, folder, _ = trained
    networks = comparisons.ours(number, comparisons.manifests(folder), "smoke")
    for n in networks:
        n["test"] += 0.5
    found = compare(ASKED, networks, number)
    assert (found.interval, found.drawn) == (None, None)


def test_no_interval_where_all_is_right():
    level = Level({"scheme": "gal"}, "test", "above", 99.0)
    right = {"items": lambda: items.of_accuracy(1.0, 2000), "test": 100.0, "seed": 0}
    setting = {"scheme": "gal", "rate": 0.5, "per": "step", "forward": False, "length": 15}
    assert compare(level, [right | setting], 1).interval is None


def test_what_is_set_aside_is_of_one_run(tmp_path):
    """Nothing of a run that was interrupted, nor a file of one run beside another's manifest."""
    task = WordLanguageModel("smoke")
    asked = grid(task.name, task.settings, ["none"], [0.0], ["step"])
    manifest = tmp_path / f"{asked[0].name}.json"
    manifest.write_text("first")
    results.set_aside(tmp_path, asked)
    items.save(tmp_path, asked[0], np.ones((3, 2)))  # and then it was killed
    results.set_aside(tmp_path, asked)
    manifest.write_text("second")
    results.set_aside(tmp_path, asked)
    found = {str(p.relative_to(tmp_path)): p for p in tmp_path.rglob("*.*")}
    assert found.keys() == {f"replaced/{manifest.name}", f"replaced-2/{manifest.name}"}
    assert [p.read_text() for _, p in sorted(found.items())] == ["second", "first"]


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "word_lm-none-seed0-0123456789.items.npz"
    values = np.random.default_rng(3).random((50, 2)).astype(np.float32)
    np.savez_compressed(path, items=values)
    whole = path.read_bytes()
    damaged = [whole[:100], b"PK nothing", b""]
    damaged += [whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :] for at in range(60, 400, 7)]
    noticed = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert (items.load(path) == values).all(), "a bit may be one that nobody reads"
        except ValueError as error:
            noticed += f"{path.name} does not hold test items" in str(error)
    assert noticed > 40
    np.savez_compressed(path, items=np.ones(7))
    with pytest.raises(ValueError, match="shape"):
        items.load(path)
