"""The generated language: what it depends on, agreement over distance, names, and its files."""

import random
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdrop.data import conll2003, grammar, ptb
from recdrop.data.corpus import EOS

SEEDS = st.integers(0, 10**6)
SIZES = [1, 2, 19, 500]


@pytest.mark.parametrize("generate", [grammar.corpus, grammar.characters])
def test_a_text_depends_on_its_seed_alone(generate):
    first = generate(3000, 3)
    random.seed(99)
    second, other = generate(3000, 3), generate(3000, 4)
    assert first.vocabulary == second.vocabulary
    assert torch.equal(first.train, second.train)
    assert not torch.equal(first.train[:200], other.train[:200])
    assert not torch.equal(first.valid[:200], first.test[:200])


def test_entities_depend_on_their_seed_alone():
    first = grammar.entities(50, 3)
    random.seed(99)
    assert first == grammar.entities(50, 3)
    assert first.train != grammar.entities(50, 4).train


@pytest.mark.parametrize(("generate", "longest"), [(grammar.corpus, 30), (grammar.characters, 150)])
def test_a_text_is_of_the_size_asked_and_says_what_it_is(generate, longest):
    corpus = generate(5000)
    assert 5000 <= len(corpus.train) < 5000 + longest
    assert 500 <= len(corpus.valid) < 500 + longest
    assert "generated" in corpus.name
    assert corpus.sha256 == {}
    assert corpus.train[-1] == corpus.eos


@pytest.mark.parametrize("size", SIZES)
def test_a_text_may_be_small(size):
    """Held-out text then has words that the training text lacks, and the vocabulary has them."""
    for generate in (grammar.corpus, grammar.characters):
        corpus, large = generate(size), generate()
        assert sorted(corpus.vocabulary) == sorted(large.vocabulary)
        assert min(len(corpus.valid), len(corpus.test)) > 0
    entities = grammar.entities(size)
    assert [len(p) for p in (entities.train, entities.valid)] == [size, max(1, size // 10)]
    assert entities.tags == grammar.entities().tags


@pytest.mark.parametrize("size", [0, -1])
def test_a_text_of_nothing_is_refused(size):
    for generate in (grammar.corpus, grammar.characters):
        with pytest.raises(ValueError, match=f"tokens={size}: at least one"):
            generate(size)
    with pytest.raises(ValueError, match=f"sentences={size}: at least one"):
        grammar.entities(size)


def test_characters_spell_the_words():
    characters = grammar.characters(2000)
    text = "".join(characters.vocabulary[i] for i in characters.train)
    words = grammar.corpus(2000)
    expected = " ".join(words.vocabulary[i] for i in words.train).replace(f" {EOS}", "\n")
    beginning = text[:1500]
    assert expected.replace("\n ", "\n").startswith(beginning)


@given(SEEDS)
def test_the_verb_agrees_with_a_subject_clauses_back(seed):
    """Within its relative clauses, too."""
    *words, verb = grammar.sentence(random.Random(seed))
    plural = any(w in words[:3] for w in [*(f"{n}s" for n in grammar.NOUNS), "children"])
    assert verb in grammar.ENDINGS if plural else verb[:-1] in grammar.ENDINGS
    for clause in " ".join(words).split(" that ")[1:]:
        *noun, inner = clause.split()
        plural = noun[-1] == "children" or noun[-1].endswith("s")
        assert (inner in grammar.VERBS) is plural


@given(SEEDS)
def test_an_ambiguous_name_is_what_the_noun_clauses_back_says(seed):
    named = grammar.named_sentence(random.Random(seed))
    cue = next((kind for kind, nouns in grammar.CUES.items() if named.words[1] in nouns), None)
    ambiguous = [t for w, t in zip(*vars(named).values(), strict=True) if w in grammar.AMBIGUOUS]
    assert ambiguous == ([] if cue is None else [f"B-{cue}"])
    assert named.words[0][0].isupper()
    assert named.words[-1] == "."


def test_entities_are_many_and_varied():
    corpus = grammar.entities(1000)
    assert corpus.name == "generated entities"
    kinds = ("LOC", "MISC", "ORG", "PER")
    assert corpus.tags == ("O", *(f"{position}-{kind}" for position in "BI" for kind in kinds))
    assert {tag for s in corpus.train for tag in s.tags} == set(corpus.tags)
    senses, distances = defaultdict(set), set()
    for s in corpus.train:
        assert conll2003.iob1_to_bio(s.tags) == s.tags
        for i, (word, tag) in enumerate(zip(s.words, s.tags, strict=True)):
            if word in grammar.AMBIGUOUS:
                senses[word].add(tag[2:])
                distances.add(i)
    assert senses == {word: {"PER", "LOC", "ORG"} for word in grammar.AMBIGUOUS}
    assert max(distances) - min(distances) >= 8


def test_files_are_written_in_the_formats_of_the_real_ones(tmp_path):
    paths = {path.name: path for path in grammar.write(tmp_path, seed=5)}
    assert sorted(p.relative_to(tmp_path).as_posix() for p in paths.values()) == sorted(
        [*(f"ptb/{name}" for name in ptb.FILES), *(f"conll2003/{f}" for f in conll2003.ORIGINAL)]
    )
    words, entities = grammar.corpus(seed=5), grammar.entities(seed=5)
    for split in ("train", "valid", "test"):
        expected = [words.vocabulary[i] for i in getattr(words, split)]
        assert ptb.read_words(paths[f"ptb.{split}.txt"]) == expected
    for name, split in zip(conll2003.ORIGINAL, ("train", "valid", "test"), strict=True):
        assert conll2003.read(paths[name]) == getattr(entities, split)
    text = paths["eng.train"].read_text()
    assert text.startswith("-DOCSTART-")
    assert "I-PER" in text
    assert "B-PER" not in text  # IOB1: no person stands right behind another one


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "ptb.valid.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="ptb.valid.txt"):
        grammar.write(tmp_path)
    assert [p.name for p in tmp_path.rglob("*.*")] == ["ptb.valid.txt"]
    assert (tmp_path / "ptb" / "ptb.valid.txt").read_text() == "mine"
