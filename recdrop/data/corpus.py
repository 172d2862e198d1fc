"""A text as numbers, and sentences with tags: what every reader and generator of corpora gives."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EOS = "<eos>"
"""End of a sentence among words; among characters it is a newline."""


@dataclass(frozen=True)
class Corpus:
    """Three splits of a text as indices into one vocabulary.

    Attributes:
        name: where it comes from; a generated corpus says so here.
        vocabulary: symbols by index.
        train, valid, test: (N,) int64.
        sha256: of each file read, by its name; empty for a generated corpus.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor
    sha256: dict[str, str]

    @property
    def eos(self) -> int:
        """Index of the symbol that ends a sentence: <eos> of words, a newline of characters."""
        return self.vocabulary.index(EOS if EOS in self.vocabulary else "\n")

    def part(self, train: int | None, held_out: int | None = None) -> "Corpus":
        """The first ``train`` tokens, and ``held_out`` of valid and test; all where None."""
        return Corpus(
            self.name, self.vocabulary,
            self.train[:train], self.valid[:held_out], self.test[:held_out], self.sha256,
        )  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    """Words and their tags, one for each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class TaggedCorpus:
    """Three splits of sentences whose entities are tagged in the BIO scheme.

    Attributes:
        name: where it comes from; a generated corpus says so here.
        train, valid, test: sentences in the order of the text.
        tags: every tag of the corpus, "O" first, the others sorted.
        sha256: of each file read, by its name; empty for a generated corpus.
    """

    name: str
    train: tuple[Sentence, ...]
    valid: tuple[Sentence, ...]
    test: tuple[Sentence, ...]
    tags: tuple[str, ...]
    sha256: dict[str, str]

    def part(self, train: int | None, held_out: int | None = None) -> "TaggedCorpus":
        """The first ``train`` sentences, and ``held_out`` of valid and test; all where None.

        The tags stay those of the whole corpus.
        """
        return TaggedCorpus(
            self.name, self.train[:train], self.valid[:held_out], self.test[:held_out],
            self.tags, self.sha256,
        )  # fmt: skip


def encode(
    name: str,
    splits: dict[str, Iterable[str]],
    sha256: dict[str, str] | None = None,
    known: Iterable[str] = (),
) -> Corpus:
    """Number the symbols of ``splits`` = train, valid, test by falling frequency in train.

    Args:
        name: of the corpus.
        splits: the symbols; a string stands for its characters.
        sha256: of the files read.
        known: symbols that belong to the vocabulary even where train lacks them.

    Raises:
        ValueError: a symbol of valid or test is neither in train nor known.
    """
    splits = {
        split: text if isinstance(text, str) else list(text) for split, text in splits.items()
    }
    counts = Counter(dict.fromkeys(known, 0))
    counts.update(splits["train"])
    vocabulary = sorted(counts, key=lambda s: (-counts[s], s))
    index = {symbol: i for i, symbol in enumerate(vocabulary)}
    tensors = {}
    for split, symbols in splits.items():
        try:
            numbers = np.fromiter(map(index.__getitem__, symbols), np.int64, len(symbols))
        except KeyError as error:
            raise ValueError(f"{name}: {error} of {split} does not occur in train") from None
        tensors[split] = torch.from_numpy(numbers)
    return Corpus(name, tuple(vocabulary), **tensors, sha256=sha256 or {})


def tagged(
    name: str, splits: dict[str, Iterable[Sentence]], sha256: dict[str, str] | None = None
) -> TaggedCorpus:
    """A corpus of the sentences of ``splits`` = train, valid, test, already in BIO."""
    splits = {split: tuple(sentences) for split, sentences in splits.items()}
    found = {tag for sentences in splits.values() for s in sentences for tag in s.tags}
    return TaggedCorpus(name, **splits, tags=("O", *sorted(found - {"O"})), sha256=sha256 or {})
