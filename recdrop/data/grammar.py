"""A small generated language, for tests and for machines without the licensed corpora.

Its verbs agree in number with a subject that may stand several clauses back, and what a name stands
for is decided by a noun as far back, so that a model of it needs memory; nothing learnt on it says
anything about English.
"""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from recdrop.data.corpus import EOS, Corpus, Sentence, TaggedCorpus, encode, tagged

NOUNS = ("cat", "dog", "bird", "child", "farmer", "singer", "lawyer", "river")
VERBS = ("see", "hear", "follow", "like", "know", "meet")
ENDINGS = ("sleep", "run", "sing", "wait", "laugh", "fall")
DETERMINERS = (("the", "a", "this"), ("the", "some", "these"))
ADJECTIVES = ("old", "small", "quiet", "red", "tired")

TYPES = ("LOC", "MISC", "ORG", "PER")
"""Of entities, as in CoNLL-2003."""
FIRST_NAMES = ("Anna", "Bruno", "Clara", "Edith", "Hugo", "Maria", "Oscar", "Peter")
FAMILY_NAMES = ("Baker", "Fischer", "Hill", "Moreau", "Rossi", "Taylor", "Ward")
PLACES = ("Bergen", "Genoa", "Lisbon", "Malta", "Oslo", "Peru")
FIRMS = ("Arcton", "Belvex", "Corin", "Dunmore", "Falk")
KINDS_OF_FIRM = ("Bank", "Ltd", "United")
PEOPLES = ("Danish", "French", "Greek", "Irish", "Polish")
EVENTS = ("Cup", "Games", "Open")
AMBIGUOUS = ("Austin", "Florence", "Jordan", "Lincoln", "Sydney", "Washington")
"""Names of a person, a place or a firm: the noun that began the sentence tells which."""
CUES = {"PER": ("letter", "song"), "LOC": ("train", "ship"), "ORG": ("contract", "loan")}


def sentence(rng: random.Random, depth: int = 2) -> list[str]:
    """One sentence, with up to ``depth`` relative clauses between subject and verb.

    >>> " ".join(sentence(random.Random(3)))
    'these singers laugh'
    """
    plural = rng.random() < 0.5
    words = _noun_phrase(rng, plural)
    clauses = 0
    while clauses < depth and rng.random() < 0.4:
        words += _clause(rng)
        clauses += 1
    return [*words, _verb(rng.choice(ENDINGS), plural)]


def named_sentence(rng: random.Random, depth: int = 2) -> Sentence:
    """One sentence about named entities, tagged in BIO.

    In half of them an ambiguous name ends the sentence, up to ``depth`` clauses behind the noun
    that tells what it is.

    >>> named = named_sentence(random.Random(9))
    >>> " ".join(named.words), named.tags[-2]
    ('The ship that some cats know is for Sydney .', 'B-LOC')
    """
    chunks = _ambiguous(rng, depth) if rng.random() < 0.5 else _plain(rng)
    words: list[str] = []
    tags: list[str] = []
    for chunk in (*chunks, "."):
        entity, kind = ([chunk], None) if isinstance(chunk, str) else chunk
        words += entity
        tags += ["O"] if kind is None else [f"B-{kind}", *[f"I-{kind}"] * (len(entity) - 1)]
    return Sentence((words[0][0].upper() + words[0][1:], *words[1:]), tuple(tags))


def corpus(tokens: int = 20_000, seed: int = 0) -> Corpus:
    """About ``tokens`` words of training text and a tenth as many to validate and to test.

    The vocabulary is the whole grammar's, also where a short text lacks some of its words.
    """
    splits = _texts(tokens, seed, lambda words: [*words, EOS])
    return encode("generated grammar", splits, known=(*_vocabulary(), EOS))


def characters(tokens: int = 100_000, seed: int = 0) -> Corpus:
    """The same language spelt out: about ``tokens`` characters, a newline behind each sentence."""
    splits = _texts(tokens, seed, lambda words: " ".join(words) + "\n")
    return encode("generated grammar, characters", splits, known=" \n" + "".join(_vocabulary()))


def entities(sentences: int = 1000, seed: int = 0) -> TaggedCorpus:
    """``sentences`` tagged sentences to train on, a tenth as many to validate and to test.

    The tags are CoNLL-2003's: B- and I- of PER, ORG, LOC and MISC.
    """
    rng = random.Random(seed)
    splits = {
        split: [named_sentence(rng) for _ in range(size)]
        for split, size in _sizes("sentences", sentences).items()
    }
    whole = tagged("generated entities", splits)
    tags = ("O", *(f"{position}-{kind}" for position in "BI" for kind in TYPES))
    return replace(whole, tags=tags)


def write(folder: str | os.PathLike, seed: int = 0) -> list[Path]:
    """Write generated texts as files in the formats of the Penn Treebank and of CoNLL-2003.

    They show the formats, and exercise the readers of files, such as
    :func:`recdrop.data.ptb.read_words` and :func:`recdrop.data.conll2003.read`. They do not pass
    for the corpora, whose hashes differ.

    Returns:
        The paths: ptb/ptb.{train,valid,test}.txt, conll2003/eng.{train,testa,testb}.

    Raises:
        FileExistsError: one of the files is there already; nothing is overwritten.
    """
    words, sentences = corpus(seed=seed), entities(seed=seed)
    texts = {}
    for split, name in zip(("train", "valid", "test"), ("train", "testa", "testb"), strict=True):
        text = " ".join(words.vocabulary[i] for i in getattr(words, split).tolist())
        lines = [line.strip() for line in text.split(EOS)[:-1]]
        texts[f"ptb/ptb.{split}.txt"] = "".join(f" {line} \n" for line in lines)
        blocks = [_block(s) for s in getattr(sentences, split)]
        texts[f"conll2003/eng.{name}"] = "\n".join(["-DOCSTART- -X- O O\n", *blocks])
    paths = {Path(folder) / name: text for name, text in texts.items()}
    if there := [path for path in paths if path.exists()]:
        raise FileExistsError(f"{there[0]} is there already; give another folder")
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    return list(paths)


def _noun_phrase(rng: random.Random, plural: bool) -> list[str]:
    adjective = [rng.choice(ADJECTIVES)] if rng.random() < 0.3 else []
    noun = _plural(rng.choice(NOUNS)) if plural else rng.choice(NOUNS)
    return [rng.choice(DETERMINERS[plural]), *adjective, noun]


def _clause(rng: random.Random) -> list[str]:
    plural = rng.random() < 0.5
    return ["that", *_noun_phrase(rng, plural), _verb(rng.choice(VERBS), plural)]


def _plural(noun: str) -> str:
    return "children" if noun == "child" else f"{noun}s"


def _verb(stem: str, plural: bool) -> str:
    return stem if plural else f"{stem}s"


def _vocabulary() -> tuple[str, ...]:
    """Every word of the grammar without names."""
    verbs = (_verb(stem, plural) for stem in VERBS + ENDINGS for plural in (False, True))
    nouns = (*NOUNS, *map(_plural, NOUNS))
    return (*DETERMINERS[0], *DETERMINERS[1], *ADJECTIVES, *nouns, *verbs, "that")


def _sizes(what: str, train: int) -> dict[str, int]:
    if train < 1:
        raise ValueError(f"{what}={train}: at least one is needed to train on")
    return {"train": train, "valid": max(1, train // 10), "test": max(1, train // 10)}


def _texts(tokens: int, seed: int, spell: Callable) -> dict[str, list[str]]:
    """Symbols of whole sentences, at least as many as asked for."""
    rng = random.Random(seed)
    splits = {}
    for split, size in _sizes("tokens", tokens).items():
        splits[split] = symbols = []
        while len(symbols) < size:
            symbols += spell(sentence(rng))
    return splits


# A chunk of a sentence with names: a word, or the words of an entity and its type.


def _ambiguous(rng: random.Random, depth: int) -> list:
    kind = rng.choice(list(CUES))
    clauses = [word for _ in range(rng.randint(0, depth)) for word in _clause(rng)]
    return ["the", rng.choice(CUES[kind]), *clauses, "is", "for", ([rng.choice(AMBIGUOUS)], kind)]


def _plain(rng: random.Random) -> list:
    """A sentence whose names tell by themselves, by their form or by their neighbours."""
    person = [rng.choice(FIRST_NAMES), rng.choice(FAMILY_NAMES)][: rng.randint(1, 2)], "PER"
    place = [*rng.choice(([], ["New"], ["North"])), rng.choice(PLACES)], "LOC"
    firm = [rng.choice(FIRMS), *rng.choice(([], *([kind] for kind in KINDS_OF_FIRM)))], "ORG"
    people = [rng.choice(PEOPLES)], "MISC"
    event = [rng.choice((*PLACES, *PEOPLES)), rng.choice(EVENTS)], "MISC"
    return rng.choice((
        [person, "of", firm, "waits", "in", place],
        [firm, "follows", "the", people, rng.choice(NOUNS), "to", place],
        [*_noun_phrase(rng, True), "see", person, "at", "the", event],
        ["in", place, ",", person, "and", "the", people, "singers", "sing"],
        ["the", event, "is", "in", place],
        [*_noun_phrase(rng, False), *_clause(rng), "sleeps"],
    ))  # fmt: skip


def _block(sentence: Sentence) -> str:
    """Lines of a sentence in CoNLL-2003's columns, its tags in IOB1."""
    before, lines = "O", []
    for word, tag in zip(sentence.words, sentence.tags, strict=True):
        kind = tag[2:]
        first = tag.startswith("B-") and before[2:] != kind
        lines.append(f"{word} X X {f'I-{kind}' if first else tag}\n")
        before = tag
    return "".join(lines)
