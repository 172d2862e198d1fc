"""Corpora: found, fetched, verified, numbered; and what is said where one of these fails.

The licensed files are looked for under RECDROP_DATA alone; a web server here plays the network.
"""

import functools
import hashlib
import http.server
import os
import random
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdrop.data import download, grammar, ptb
from recdrop.data.corpus import EOS, Corpus, encode
from recdrop.data.download import CorpusDamaged, CorpusMissing, locate, verify

TEXTS = {
    "ptb.train.txt": " the cat <unk> \n the dog sat \n",
    "ptb.valid.txt": " the dog \n",
    "ptb.test.txt": " sat the cat",
}
FOLDER_GIVEN = os.environ.get("RECDROP_DATA")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def put(folder: Path, texts=TEXTS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path) -> Path:
    """No corpus, no network and an empty cache; the small texts above are the corpus."""
    monkeypatch.delenv("RECDROP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(ptb, "FILES", {name: sha256(text) for name, text in TEXTS.items()})
    monkeypatch.setattr(ptb, "BASE", "http://127.0.0.1:9/")  # nobody listens there
    return tmp_path / "cache" / "recdrop" / "ptb"


# where it is looked for


@pytest.mark.parametrize("below", ["", "ptb"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_holds_the_files_or_a_folder_of_theirs(tmp_path, below, kind):
    put(tmp_path / "mine" / below)
    assert ptb.words(kind(tmp_path / "mine")).name == "Penn Treebank"


@pytest.mark.parametrize("below", ["", "ptb"])
def test_the_environment_names_a_folder(tmp_path, below, monkeypatch):
    put(tmp_path / "env" / below)
    monkeypatch.setenv("RECDROP_DATA", str(tmp_path / "env"))
    assert len(ptb.words().train) == 8


def test_an_argument_goes_before_the_environment_before_the_cache(tmp_path, monkeypatch, alone):
    folders = {"argument": tmp_path / "a", "environment": tmp_path / "e", "cache": alone}
    for folder in folders.values():
        put(folder)

    def found(data_dir=None) -> set[Path]:
        return {p.parent for p in locate(ptb.source(), data_dir).values()}

    assert found() == {folders["cache"]}
    monkeypatch.setenv("RECDROP_DATA", str(folders["environment"]))
    assert found() == {folders["environment"]}
    assert found(folders["argument"]) == {folders["argument"]}


def test_an_empty_variable_is_none(monkeypatch, alone):
    put(alone)
    monkeypatch.setenv("RECDROP_DATA", "")
    assert len(ptb.words().train) == 8


def test_a_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "corpora")
    assert len(ptb.words("~/corpora").train) == 8


@pytest.mark.parametrize("variable", [True, False])
def test_a_given_folder_without_the_files_is_named_and_nothing_is_fetched(
    tmp_path, variable, monkeypatch, alone
):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("asked the network"))
    put(alone)  # a copy in the cache is not what was asked for
    folder = str(tmp_path / "nowhere")
    if variable:
        monkeypatch.setenv("RECDROP_DATA", folder)
    with pytest.raises(CorpusMissing) as caught:
        ptb.words(None if variable else folder)
    said = str(caught.value)
    assert f"{'RECDROP_DATA' if variable else 'data_dir'}={folder}" in said
    assert "put the files there" in said
    assert all(name in said for name in TEXTS)


@pytest.mark.parametrize("below", ["", "ptb"])
def test_only_what_is_missing_is_named(tmp_path, below):
    put(tmp_path / "mine" / below, {k: TEXTS[k] for k in ("ptb.train.txt", "ptb.test.txt")})
    with pytest.raises(CorpusMissing) as caught:
        ptb.words(tmp_path / "mine")
    said = str(caught.value)
    assert "ptb.valid.txt" in said
    assert "ptb.train.txt" not in said
    assert "ptb.test.txt" not in said


def test_without_download_nothing_is_fetched(monkeypatch, alone):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(CorpusMissing, match="no ptb.train.txt"):
        ptb.words(download=False)
    assert not alone.exists()


# damage


@pytest.mark.parametrize("damage", ["", "other", TEXTS["ptb.valid.txt"][:-1], " the dog \r\n"])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path, damage):
    put(tmp_path)
    path = tmp_path / "ptb.valid.txt"
    path.write_bytes(damage.encode())
    with pytest.raises(CorpusDamaged) as caught:
        ptb.words(tmp_path)
    said = str(caught.value)
    for part in (str(path), ptb.FILES["ptb.valid.txt"], sha256(damage), "move it away"):
        assert part in said
    assert path.read_bytes() == damage.encode()


def test_a_damaged_file_in_the_cache_is_not_fetched_over(alone, monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("asked the network"))
    put(alone)
    (alone / "ptb.train.txt").write_text("damaged")
    with pytest.raises(CorpusDamaged, match="ptb.train.txt"):
        ptb.words()


@given(st.binary(max_size=200), st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_is_found(tmp_path_factory, content, place, change):
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    verify(path, expected)
    changed = bytearray(content or b"x")
    changed[place % len(changed)] ^= change
    path.write_bytes(changed)
    with pytest.raises(CorpusDamaged):
        verify(path, expected)


# download


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder whose files are on the network."""
    folder = put(tmp_path / "served")
    handler = functools.partial(Server, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(ptb, "BASE", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()


def test_a_download_is_verified_and_kept(served, alone, capsys):
    corpus = ptb.words()
    assert len(corpus.train) == 8
    assert listing(alone) == sorted(TEXTS)
    said = capsys.readouterr().out
    assert "Linguistic Data Consortium" in said
    assert str(alone) in said
    for path in served.iterdir():
        path.unlink()
    assert torch.equal(ptb.words().train, corpus.train)


def test_only_missing_files_are_downloaded(served, alone, capsys):
    put(alone, {"ptb.train.txt": TEXTS["ptb.train.txt"]})
    (served / "ptb.train.txt").unlink()
    ptb.words()
    assert listing(alone) == sorted(TEXTS)
    assert "ptb.train.txt" not in capsys.readouterr().out


def test_a_corrupted_download_is_refused_and_not_kept(served, alone):
    (served / "ptb.valid.txt").write_text("<html>Please log in</html>")
    with pytest.raises(CorpusMissing) as caught:
        ptb.words()
    said = str(caught.value)
    assert ptb.BASE + "ptb.valid.txt" in said
    assert "hash" in said.lower()
    assert f"save it as {alone / 'ptb.valid.txt'}" in said
    assert not (alone / "ptb.valid.txt").exists()
    assert set(listing(alone)) <= {"ptb.train.txt", "ptb.test.txt"}
    (served / "ptb.valid.txt").write_text(TEXTS["ptb.valid.txt"])
    assert len(ptb.words().valid) == 3


def test_an_absent_page_is_an_error_with_a_remedy(served, alone):
    (served / "ptb.test.txt").unlink()
    with pytest.raises(CorpusMissing, match=r"ptb\.test\.txt could not be downloaded .*404"):
        ptb.words()
    assert not (alone / "ptb.test.txt").exists()


def test_no_network_is_an_error_with_a_remedy(alone):
    with pytest.raises(CorpusMissing, match="could not be downloaded from http.*save it as"):
        ptb.words()
    assert not alone.exists() or not listing(alone)


def test_without_pooch_the_remedy_is_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(CorpusMissing, match="pip install 'recdrop\\[study\\]'"):
        ptb.words()


# numbers


def test_a_line_is_a_sentence(tmp_path):
    corpus = ptb.words(put(tmp_path))
    words = [corpus.vocabulary[i] for i in corpus.train]
    assert words == ["the", "cat", "<unk>", EOS, "the", "dog", "sat", EOS]
    assert [corpus.vocabulary[i] for i in corpus.test] == ["sat", "the", "cat", EOS]
    assert corpus.vocabulary[corpus.eos] == EOS
    assert corpus.sha256 == ptb.FILES


symbols = st.lists(st.sampled_from("abcdefg"), min_size=1)


@given(symbols)
def test_symbols_are_numbered_by_falling_frequency_and_read_back(train):
    corpus = encode("letters", {"train": train, "valid": train[:1], "test": []})
    assert [corpus.vocabulary[i] for i in corpus.train] == train
    counts = [train.count(symbol) for symbol in corpus.vocabulary]
    assert counts == sorted(counts, reverse=True)
    assert set(corpus.vocabulary) == set(train)
    assert corpus.train.dtype == torch.int64


@given(symbols, st.randoms(use_true_random=False))
def test_the_vocabulary_does_not_depend_on_order(train, rng):
    shuffled = rng.sample(train, len(train))
    splits = {"valid": [], "test": []}
    assert (
        encode("", {"train": train} | splits).vocabulary
        == encode("", {"train": shuffled} | splits).vocabulary
    )


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_symbol_unseen_in_training_is_refused(split):
    splits = {"train": "abc", "valid": "a", "test": "b"} | {split: "az"}
    with pytest.raises(ValueError, match=f"letters: 'z' of {split} does not occur in train"):
        encode("letters", splits)


def test_an_empty_split_holds_whole_numbers():
    assert encode("", {"train": "a", "valid": [], "test": []}).test.dtype == torch.int64


@given(st.integers(0, 30), st.one_of(st.none(), st.integers(0, 30)))
def test_a_part_is_a_beginning(train, held_out):
    text = torch.arange(10)
    part = Corpus("ten", ("a",) * 10, text, text, text, {}).part(train, held_out)
    assert torch.equal(part.train, text[:train])
    for split in (part.valid, part.test):
        assert torch.equal(split, text if held_out is None else text[:held_out])


# the generated language


def test_the_grammar_depends_on_its_seed_alone():
    first = grammar.corpus(3000, 3)
    random.seed(99)
    second, other = grammar.corpus(3000, 3), grammar.corpus(3000, 4)
    assert first.vocabulary == second.vocabulary
    assert torch.equal(first.train, second.train)
    assert not torch.equal(first.train[:200], other.train[:200])


def test_the_grammar_is_of_the_size_asked_and_says_what_it_is():
    corpus = grammar.corpus(5000)
    assert 5000 <= len(corpus.train) < 5030
    assert 500 <= len(corpus.valid) < 530
    assert "generated" in corpus.name
    assert corpus.sha256 == {}
    assert corpus.train[-1] == corpus.eos


@given(st.integers(0, 10**6))
def test_the_verb_agrees_with_a_subject_clauses_back(seed):
    """Within its relative clauses, too."""
    *words, verb = grammar.sentence(random.Random(seed))
    plural = any(w in words[:3] for w in [*(f"{n}s" for n in grammar.NOUNS), "children"])
    assert verb in grammar.ENDINGS if plural else verb[:-1] in grammar.ENDINGS
    for clause in " ".join(words).split(" that ")[1:]:
        *noun, inner = clause.split()
        plural = noun[-1] == "children" or noun[-1].endswith("s")
        assert (inner in grammar.VERBS) is plural


# the real thing


@pytest.mark.skipif(not FOLDER_GIVEN, reason="RECDROP_DATA is not set: no licensed corpus here")
def test_the_penn_treebank_has_its_published_counts(monkeypatch):
    monkeypatch.undo()
    corpus = ptb.words()
    assert [len(s) for s in (corpus.train, corpus.valid, corpus.test)] == [929_589, 73_760, 82_430]
    assert len(corpus.vocabulary) == 10_000
    assert {EOS, "<unk>", "N", "the"} <= set(corpus.vocabulary)
    lines = [int((s == corpus.eos).sum()) for s in (corpus.train, corpus.valid, corpus.test)]
    assert lines == [42_068, 3_370, 3_761]
