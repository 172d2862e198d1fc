"""A small generated language, for tests and for machines without the licensed corpora.

Its verbs agree in number with a subject that may stand several clauses back, so that a model of it
needs memory; nothing learnt on it says anything about English.
"""

import random

from recdrop.data.corpus import EOS, Corpus, encode

NOUNS = ("cat", "dog", "bird", "child", "farmer", "singer", "lawyer", "river")
VERBS = ("see", "hear", "follow", "like", "know", "meet")
ENDINGS = ("sleep", "run", "sing", "wait", "laugh", "fall")
DETERMINERS = (("the", "a", "this"), ("the", "some", "these"))
ADJECTIVES = ("old", "small", "quiet", "red", "tired")


def sentence(rng: random.Random, depth: int = 2) -> list[str]:
    """One sentence, with up to ``depth`` relative clauses between subject and verb.

    >>> " ".join(sentence(random.Random(3)))
    'these singers laugh'
    """
    plural = rng.random() < 0.5
    words = _noun_phrase(rng, plural)
    clauses = 0
    while clauses < depth and rng.random() < 0.4:
        inner = rng.random() < 0.5
        words += ["that", *_noun_phrase(rng, inner), _verb(rng.choice(VERBS), inner)]
        clauses += 1
    return [*words, _verb(rng.choice(ENDINGS), plural)]


def corpus(tokens: int = 20_000, seed: int = 0) -> Corpus:
    """About ``tokens`` words of training text and a tenth as many to validate and to test."""
    rng = random.Random(seed)
    sizes = {"train": tokens, "valid": tokens // 10, "test": tokens // 10}
    splits = {}
    for split, size in sizes.items():
        splits[split] = words = []
        while len(words) < size:
            words += [*sentence(rng), EOS]
    return encode("generated grammar", splits)


def _noun_phrase(rng: random.Random, plural: bool) -> list[str]:
    adjective = [rng.choice(ADJECTIVES)] if rng.random() < 0.3 else []
    noun = rng.choice(NOUNS)
    if plural:
        noun = "children" if noun == "child" else f"{noun}s"
    return [rng.choice(DETERMINERS[plural]), *adjective, noun]


def _verb(stem: str, plural: bool) -> str:
    return stem if plural else f"{stem}s"
