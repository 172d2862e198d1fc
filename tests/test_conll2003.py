"""Sentences and entities of CoNLL-2003: both editions, both tag schemes, malformed files."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import BIO, IOB1, archive, put, take_the_place_of_the_real_ones

from recdrop.data import conll2003
from recdrop.data.conll2003 import iob1_to_bio, parse
from recdrop.data.corpus import Sentence
from recdrop.data.download import CorpusDamaged, CorpusMissing, locate

FOLDER_GIVEN = os.environ.get("RECDROP_DATA")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    return take_the_place_of_the_real_ones(monkeypatch, tmp_path)


def check(corpus, files):
    """That it is the one of small_corpora."""
    assert corpus.train == (
        Sentence(("Anna", "Ward", "sat"), ("B-PER", "I-PER", "O")),
        Sentence(("Oslo", "Lima"), ("B-LOC", "B-LOC")),
    )
    assert corpus.valid == (Sentence(("the", "Falk"), ("O", "B-ORG")),)
    assert corpus.test == (Sentence(("Oslo",), ("B-LOC",)),)
    assert corpus.tags == ("O", "B-LOC", "B-ORG", "B-PER", "I-PER")
    assert list(corpus.sha256) == list(files)
    assert all(len(digest) == 64 for digest in corpus.sha256.values())


@pytest.mark.parametrize("below", ["", "conll2003"])
@pytest.mark.parametrize("texts", [IOB1, BIO])
def test_a_folder_may_hold_either_edition(cache, tmp_path, below, texts):
    put(tmp_path / "mine" / below, texts)
    check(conll2003.sentences(tmp_path / "mine"), texts)


def test_the_archive_is_read_where_it_lies(cache, tmp_path):
    archive(cache / "conll2003" / "conll2003.zip")
    check(conll2003.sentences(), ["conll2003.zip"])
    assert [p.name for p in (cache / "conll2003").iterdir()] == ["conll2003.zip"]
    archive(tmp_path / "mine" / "conll2003.zip")
    check(conll2003.sentences(tmp_path / "mine"), ["conll2003.zip"])


def test_a_whole_edition_goes_before_a_part_of_another(cache, tmp_path):
    put(tmp_path / "mine", IOB1)
    (tmp_path / "mine" / "train.txt").write_text("")
    check(conll2003.sentences(tmp_path / "mine"), IOB1)


def test_a_damaged_archive_is_named(cache, tmp_path):
    path = archive(tmp_path / "mine" / "conll2003.zip", BIO | {"test.txt": "x"})
    with pytest.raises(CorpusDamaged, match=str(path)):
        conll2003.sentences(tmp_path / "mine")
    assert path.exists()


def test_unpacked_files_are_known_by_their_counts(cache, tmp_path):
    put(tmp_path / "mine", BIO | {"test.txt": "Oslo NNP B-NP B-LOC\n. . O O\n"})
    with pytest.raises(CorpusDamaged, match="mine: train.txt.*another text"):
        conll2003.sentences(tmp_path / "mine")


KINDS = st.sampled_from(["PER", "ORG", "LOC", "MISC"])
CHUNKS = st.lists(st.tuples(st.one_of(st.none(), KINDS), st.integers(1, 3)))


def spell(chunks, scheme: str) -> list[str]:
    """Tags of (type or None, length) in a scheme, written down from its definition."""
    tags, before = [], None
    for kind, length in chunks:
        if kind is None:
            tags += ["O"] * length
        else:
            first = "B" if scheme == "BIO" or kind == before else "I"
            tags += [f"{first}-{kind}"] + [f"I-{kind}"] * (length - 1)
        before = kind
    return tags


@given(CHUNKS)
def test_either_scheme_becomes_bio(chunks):
    bio = tuple(spell(chunks, "BIO"))
    assert iob1_to_bio(spell(chunks, "IOB1")) == bio
    assert iob1_to_bio(bio) == bio


@given(CHUNKS, st.sampled_from(["IOB1", "BIO"]))
def test_lines_are_read_back(chunks, scheme):
    tags = spell(chunks, scheme)
    lines = ["-DOCSTART- -X- O O", "", *(f"w{i} X X {tag}" for i, tag in enumerate(tags))]
    words = tuple(f"w{i}" for i in range(len(tags)))
    assert parse(lines) == ((Sentence(words, tuple(spell(chunks, "BIO"))),) if tags else ())


@pytest.mark.parametrize("tag", ["E-PER", "S-LOC", "PER", "B-", "I", "", "o", "B_PER"])
def test_a_tag_of_another_scheme_is_refused(tag):
    with pytest.raises(ValueError, match="neither O nor B- or I-"):
        iob1_to_bio(["O", tag])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Oslo NNP I-LOC", "'Oslo NNP I-LOC' has 3 columns, expected 4"),
        ("Oslo NNP I-NP O I-LOC", "has 5 columns"),
        ("Oslo", "has 1 columns"),
        ("Oslo NNP I-NP S-LOC", "tag 'S-LOC' is neither"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, said):
    path = put(tmp_path, {"eng.train": f"in IN I-PP O\n\n{line}\n"}) / "eng.train"
    with pytest.raises(ValueError, match=said) as caught:
        conll2003.read(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")


def test_line_endings_of_windows_divide_as_others():
    found = parse("a X X O\r\nb X X I-PER\r\n\r\nc X X O".split("\n"))
    assert [s.words for s in found] == [("a", "b"), ("c",)]
    assert found[0].tags == ("O", "B-PER")


@pytest.mark.skipif(not FOLDER_GIVEN, reason="RECDROP_DATA is not set: no licensed corpus here")
def test_the_corpus_has_its_published_counts():
    corpus = conll2003.sentences()
    splits = corpus.train, corpus.valid, corpus.test
    assert [len(split) for split in splits] == [14_041, 3_250, 3_453]
    assert [sum(len(s.words) for s in p) for p in splits] == [203_621, 51_362, 46_435]
    # entities, as the task's authors count them
    assert [sum(t[0] == "B" for s in p for t in s.tags) for p in splits] == [23_499, 5_942, 5_648]
    kinds = ("LOC", "MISC", "ORG", "PER")
    assert corpus.tags == ("O", *(f"{position}-{kind}" for position in "BI" for kind in kinds))
    assert all(len(s.words) == len(s.tags) > 0 for split in splits for s in split)


def test_a_common_name_alone_is_not_this_corpus(cache, tmp_path):
    """Another project's test.txt beside; in a folder of its own name it would be a part."""
    put(cache / "conll2003", IOB1)
    mine = tmp_path / "data"
    mine.mkdir()
    (mine / "test.txt").write_text("another text")
    assert locate(conll2003.source(), mine, download=False).keys() == IOB1.keys()
    (mine / "conll2003").mkdir()
    (mine / "test.txt").rename(mine / "conll2003" / "test.txt")
    with pytest.raises(CorpusMissing, match="no train.txt, valid.txt"):
        locate(conll2003.source(), mine, download=False)
