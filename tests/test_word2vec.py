"""Word vectors: trained here and kept, read in each of gensim's formats, downloaded, looked up."""

import gzip
import http.server
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpora import sha256, take_the_place_of_the_real_ones

from recdrop.data import download, grammar, word2vec
from recdrop.data.download import CorpusDamaged, CorpusMissing
from recdrop.data.word2vec import Vectors

models = pytest.importorskip("gensim.models", reason="gensim is not installed")
WORDS = ["Oslo", "oslo", "cat", "Anna"]
NUMBERS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(download, "PAUSES", ())
    return take_the_place_of_the_real_ones(monkeypatch, tmp_path) / "word2vec"


@pytest.fixture(scope="module")
def text() -> list[tuple[str, ...]]:
    return [s.words for s in grammar.entities(100).train]


def keyed():
    vectors = models.KeyedVectors(3)
    vectors.add_vectors(WORDS, NUMBERS)
    return vectors


# looked up


def test_a_word_is_looked_up_as_it_is_then_in_lower_case_then_is_zero():
    vectors = Vectors("", False, WORDS, NUMBERS)
    found = vectors.lookup(["Oslo", "OSLO", "Cat", "anna", "", "Anna"])
    expected = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 0, 0], [0, 0, 0], [9, 10, 11]]
    assert torch.equal(found, torch.tensor(expected, dtype=torch.float32))
    assert vectors.lookup([]).shape == (0, 3)
    assert vectors.size == 3


def test_coverage_is_the_share_of_words_with_a_vector():
    vectors = Vectors("", False, WORDS, NUMBERS)
    assert vectors.coverage(["Oslo", "OSLO", "anna", "dog"]) == 0.5
    assert vectors.coverage([]) == 0


def test_what_is_looked_up_is_a_copy():
    vectors = Vectors("", False, WORDS, NUMBERS.copy())
    vectors.lookup(["Oslo"]).fill_(7)
    assert torch.equal(vectors.lookup(["Oslo"]), torch.tensor([[0.0, 1.0, 2.0]]))


def test_the_hash_is_of_words_and_numbers():
    hashes = {
        Vectors("", False, words, numbers).sha256
        for words in (WORDS, WORDS[::-1])
        for numbers in (NUMBERS, NUMBERS + 1)
    }
    assert len(hashes) == 4
    assert Vectors("other", True, tuple(WORDS), NUMBERS[:].copy()).sha256 in hashes


# read


@pytest.mark.parametrize("name", ["v.kv", "v.bin", "v.bin.gz", "v.txt", "v.vec", "v.vec.gz"])
def test_each_format_is_read(tmp_path, name):
    path = str(tmp_path / name)
    if name.endswith(".kv"):
        keyed().save(path)
    else:
        keyed().save_word2vec_format(path, binary=".bin" in name)
    vectors = word2vec.load(path)
    assert list(vectors.words) == WORDS
    assert np.array_equal(vectors.matrix, NUMBERS)
    assert vectors.name == f"{name}, 4 words"
    assert not vectors.own
    assert vectors.sha256 == Vectors("", False, WORDS, NUMBERS).sha256


@pytest.mark.parametrize("name", ["v.kv", "v.bin", "v.bin.gz", "v.txt", "v.vec"])
def test_a_file_of_something_else_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"something else\n")
    with pytest.raises(ValueError, match=f"{name} holds no word vectors"):
        word2vec.load(tmp_path / name)


def test_a_pickle_of_something_else_is_named(tmp_path):
    models.Word2Vec([["a", "b"]], min_count=1, vector_size=2).save(str(tmp_path / "model.kv"))
    with pytest.raises(ValueError, match="model.kv holds no word vectors"):
        word2vec.load(tmp_path / "model.kv")


@pytest.mark.parametrize("name", ["v.npy", "v", "v.gz", "v.kv.zip"])
def test_an_unknown_format_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"ends with none of \.kv, \.bin"):
        word2vec.load(tmp_path / name)


def test_numbers_that_are_none_are_refused(tmp_path):
    """Else every network would diverge without a word on why."""
    (tmp_path / "bad.txt").write_text("2 2\nthe 1 nan\ndog 1 2\n")
    with pytest.raises(ValueError, match=r"bad\.txt holds numbers that are not finite"):
        word2vec.load(tmp_path / "bad.txt")


def test_the_fetched_file_can_be_given(tmp_path):
    """By its own name, which does not tell its format."""
    (name,) = word2vec.FILES
    with gzip.open(tmp_path / name, "wb") as file:
        file.write(b"1 2\nthe " + np.array([0.5, -1], "<f4").tobytes() + b"\n")
    found = word2vec.load(tmp_path / name)
    assert found.lookup(["the"]).tolist() == [[0.5, -1.0]]


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.bin"):
        word2vec.load(tmp_path / "nowhere.bin")


def test_without_gensim_the_remedy_is_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim", None)
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    (tmp_path / "v.bin").touch()
    for act in (
        lambda: word2vec.load(tmp_path / "v.bin"),
        lambda: word2vec.train([["a"]]),
        word2vec.google_news,
    ):
        with pytest.raises(ImportError, match=r"gensim: pip install 'recdrop\[study\]'"):
            act()


# trained here


def test_vectors_trained_here_say_so_and_are_kept(text, cache, monkeypatch):
    first = word2vec.train(text, size=8)
    count = sum(map(len, text))
    assert first.name == f"skip-gram, trained here on {count:,} words"
    assert first.own
    assert first.size == 8
    assert first.coverage([w for words in text for w in words]) == 1
    assert "oslo" in first.words
    assert "Oslo" not in first.words
    assert torch.equal(first.lookup(["OSLO"]), first.lookup(["oslo"]))
    (kept,) = cache.iterdir()
    assert kept.suffix == ".npz"
    monkeypatch.setattr(word2vec, "_gensim", lambda: pytest.fail("trained again"))
    second = word2vec.train(text, size=8)
    assert (second.name, second.own, second.sha256) == (first.name, True, first.sha256)
    assert torch.equal(second.lookup(second.words), first.lookup(first.words))


def test_other_text_size_or_seed_are_kept_apart(text, tmp_path):
    sizes = {"size": 4, "cache_dir": tmp_path / "mine"}
    trained = [
        word2vec.train(text, **sizes),
        word2vec.train(text[1:], **sizes),
        word2vec.train(text, **sizes | {"size": 5}),
        word2vec.train(text, **sizes, seed=1),
    ]
    assert len({v.sha256 for v in trained}) == 4
    assert len(list((tmp_path / "mine").iterdir())) == 4


def test_vectors_do_not_depend_on_the_hash_seed_of_python(text, cache, tmp_path):
    here = word2vec.train(text, size=8)
    code = (
        "from recdrop.data import grammar, word2vec\n"
        "text = [s.words for s in grammar.entities(100).train]\n"
        f"print(word2vec.train(text, 8, cache_dir={str(tmp_path / 'there')!r}).sha256)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    there = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert there.strip() == here.sha256
    kept = [path for folder in (cache, tmp_path / "there") for path in folder.iterdir()]
    assert kept[0].name == kept[1].name
    assert kept[0].read_bytes() == kept[1].read_bytes()


def test_words_that_stand_in_the_same_places_are_alike():
    text = [s.words for s in grammar.entities(600).train]
    vectors = word2vec.train(text, size=30)
    people = torch.nn.functional.normalize(vectors.lookup(["danish", "polish", "oslo"]))
    assert people[0] @ people[1] > people[0] @ people[2]


@pytest.mark.parametrize("sentences", [[], [[]]])
def test_no_text_is_refused(sentences):
    with pytest.raises(ValueError, match="0 words and size=300: both must be positive"):
        word2vec.train(sentences)


def test_a_string_is_not_taken_for_a_list_of_words():
    with pytest.raises(ValueError, match="'the cat' is a string"):
        word2vec.train([["a"], "the cat"])


@pytest.mark.parametrize("word", ["a\nb", "a\udc80"])
def test_words_that_could_not_be_read_back_are_refused(word, tmp_path, monkeypatch):
    """Before anything is trained."""
    monkeypatch.setattr(word2vec, "_skip_gram", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match="is no word that can be kept"):
        word2vec.train([[word, "c"]], cache_dir=tmp_path)


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="1 words and size=0"):
        word2vec.train([["a"]], size=0)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_damaged_kept_vectors_are_named_and_left(text, cache, damage):
    word2vec.train(text, size=4)
    (kept,) = cache.iterdir()
    damaged = damage(kept.read_bytes())
    kept.write_bytes(damaged)
    with pytest.raises(CorpusDamaged, match=f"{kept.name} is damaged .*take it away"):
        word2vec.train(text, size=4)
    assert kept.read_bytes() == damaged


def test_where_vectors_cannot_be_kept_they_are_trained_all_the_same(text, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be kept"):
        vectors = word2vec.train(text, size=4, cache_dir=tmp_path / "file")
    assert vectors.size == 4


def test_an_interrupted_writing_leaves_nothing(text, cache, monkeypatch):
    def interrupted(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        word2vec.train(text, size=4)
    assert list(cache.iterdir()) == []


def test_trainings_at_the_same_time_do_not_disturb_each_other(text, cache):
    with ThreadPoolExecutor(4) as pool:
        trained = list(pool.map(lambda _: word2vec.train(text, size=4), range(4)))
    assert len({v.sha256 for v in trained}) == 1
    assert len(list(cache.iterdir())) == 1


# downloaded


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def served(tmp_path, monkeypatch) -> Path:
    """A file in the format of the GoogleNews vectors, on the network."""
    path = tmp_path / "served" / f"{word2vec.GOOGLE_NEWS}.gz"
    path.parent.mkdir()
    keyed().save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    path.write_bytes(gzip.compress((tmp_path / "v.bin").read_bytes()))
    monkeypatch.setattr(word2vec, "FILES", {path.name: sha256(path.read_bytes())})
    handler = partial(Quiet, directory=str(path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(word2vec, "BASE", f"http://127.0.0.1:{server.server_port}/")
        yield path
        server.shutdown()


def test_google_news_is_fetched_with_its_size_and_licence_said(served, cache, capsys):
    vectors = word2vec.google_news()
    said = capsys.readouterr().out
    assert "1.7 GB" in said
    assert "licence" in said
    assert vectors.name == "GoogleNews, 4 words"
    assert not vectors.own
    assert list(vectors.words) == WORDS
    assert [p.name for p in cache.iterdir()] == [served.name]
    served.unlink()
    assert word2vec.google_news().sha256 == vectors.sha256
    assert word2vec.google_news(cache).sha256 == vectors.sha256
    assert word2vec.count({served.name: cache / served.name}) == {"vectors": (4,), "size": (3,)}


def test_google_news_damaged_on_the_way_is_refused(served, cache):
    served.write_bytes(served.read_bytes()[:-1])
    with pytest.raises(CorpusMissing, match="could not be downloaded"):
        word2vec.google_news()
    assert list(cache.iterdir()) == []


def test_google_news_is_not_fetched_unasked(cache):
    with pytest.raises(CorpusMissing, match=f"no {word2vec.GOOGLE_NEWS}.gz"):
        word2vec.google_news(download=False)


def test_own_vectors_stay_of_one_recipe():
    """A protocol's name, paper-own-vectors, stands for it: no setting of a condition tells it."""
    recipe = dict(sg=1, window=3, negative=5, sample=1e-3, min_count=1, epochs=20, lower=True)
    assert word2vec.SKIP_GRAM == recipe
