"""Texts as numbers: symbols, sentences and vocabularies of the Penn Treebank and of any text."""

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import PTB, put, take_the_place_of_the_real_ones

from recdrop.data import conll2003, ptb
from recdrop.data.corpus import EOS, Corpus, Sentence, encode, tagged

FOLDER_GIVEN = os.environ.get("RECDROP_DATA")


@pytest.fixture
def small(monkeypatch, tmp_path):
    take_the_place_of_the_real_ones(monkeypatch, tmp_path)
    return put(tmp_path / "ptb", PTB)


def test_a_line_of_words_is_a_sentence(small):
    corpus = ptb.words(small)
    words = [corpus.vocabulary[i] for i in corpus.train]
    assert words == ["the", "cat", "<unk>", EOS, "the", "dog", "sat", EOS]
    assert [corpus.vocabulary[i] for i in corpus.test] == ["sat", "the", "cat", EOS]
    assert corpus.vocabulary[corpus.eos] == EOS
    assert corpus.sha256 == ptb.FILES


def test_a_line_of_characters_is_a_sentence(small):
    corpus = ptb.characters(small)
    text = ["".join(corpus.vocabulary[i] for i in s) for s in (corpus.train, corpus.test)]
    assert text == ["the cat <unk>\nthe dog sat\n", "sat the cat\n"]
    assert corpus.vocabulary[corpus.eos] == "\n"
    assert corpus.sha256 == ptb.FILES
    assert corpus.name != ptb.words(small).name


lines = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
texts = st.lists(st.lists(lines, min_size=1), min_size=1)


@given(texts, st.sampled_from(["\n", " \n", "\r\n"]))
def test_any_text_is_read_back(tmp_path_factory, sentences, ending):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    text = "".join(" ".join(words) + ending for words in sentences)
    path.write_bytes(text.encode())
    assert ptb.read_words(path) == [w for words in sentences for w in (*words, EOS)]
    assert ptb.read_characters(path) == "".join(" ".join(w) + "\n" for w in sentences)


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


@given(symbols)
def test_a_string_stands_for_its_characters(train):
    rest = {"valid": "", "test": ""}
    one, other = (encode("", {"train": t} | rest) for t in (train, "".join(train)))
    assert one.vocabulary == other.vocabulary
    assert torch.equal(one.train, other.train)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_symbol_unseen_in_training_is_refused_unless_known(split):
    splits = {"train": "abc", "valid": "a", "test": "b"} | {split: "az"}
    with pytest.raises(ValueError, match=f"letters: 'z' of {split} does not occur in train"):
        encode("letters", splits)
    assert encode("letters", splits, known="zc").vocabulary == ("a", "b", "c", "z")


def test_an_empty_split_holds_whole_numbers():
    assert encode("", {"train": "a", "valid": [], "test": []}).test.dtype == torch.int64


@given(st.integers(0, 30), st.one_of(st.none(), st.integers(0, 30)))
def test_a_part_is_a_beginning(train, held_out):
    text = torch.arange(10)
    part = Corpus("ten", ("a",) * 10, text, text, text, {}).part(train, held_out)
    assert torch.equal(part.train, text[:train])
    for split in (part.valid, part.test):
        assert torch.equal(split, text if held_out is None else text[:held_out])


@given(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 5)))
def test_a_part_of_sentences_is_a_beginning_with_all_tags(train, held_out):
    kinds = ("O", "B-PER", "B-LOC", "O")
    sentences = [Sentence((str(i),), (kind,)) for i, kind in enumerate(kinds)]
    whole = tagged("four", dict.fromkeys(("train", "valid", "test"), sentences), {"a": "b"})
    part = whole.part(train, held_out)
    assert part.tags == whole.tags == ("O", "B-LOC", "B-PER")
    assert part.train == whole.train[:train]
    assert part.valid == part.test == whole.valid[:held_out]
    assert (part.name, part.sha256) == ("four", {"a": "b"})


@pytest.mark.skipif(not FOLDER_GIVEN, reason="RECDROP_DATA is not set: no licensed corpus here")
def test_the_penn_treebank_has_its_published_counts():
    words, characters = ptb.words(), ptb.characters()
    assert [len(s) for s in (words.train, words.valid, words.test)] == [929_589, 73_760, 82_430]
    assert len(words.vocabulary) == 10_000
    assert {EOS, "<unk>", "N", "the"} <= set(words.vocabulary)
    numbers = [len(s) for s in (characters.train, characters.valid, characters.test)]
    assert numbers == [5_017_482, 393_042, 442_423]
    assert len(characters.vocabulary) == 50
    assert {"\n", " ", "<", ">", "N"} <= set(characters.vocabulary)
    for corpus in (words, characters):
        ends = [int((s == corpus.eos).sum()) for s in (corpus.train, corpus.valid, corpus.test)]
        assert ends == [42_068, 3_370, 3_761]


def test_a_byte_order_mark_is_no_text(tmp_path):
    text = "\N{BYTE ORDER MARK}-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\n"
    (tmp_path / "eng.train").write_text(text, encoding="utf-8")
    assert [s.words for s in conll2003.read(tmp_path / "eng.train")] == [("EU",)]
